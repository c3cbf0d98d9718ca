"""What the paper printed, as data: `data/published/*.csv` with table, row, column, value and section."""

import pandas as pd

from cbtllm_utils import files

BACKBONES = {  # our names, safe in file names -> the paper's (Table 4)
    "llama-chinese-7b": "LLama-Chinese-7B",
    "alpaca-chinese-7b": "Alpaca-Chinese-7B",
    "qwen-7b": "Qwen-7B",
    "baichuan-7b": "Baichuan-7B",
}
COUNTED = ("items", "replies")  # units of which a number of the paper says how many there are


def numbers() -> pd.DataFrame:
    """Every number of the paper, one a row: table, row, column, value (as printed), unit, section, quote.

    `table` is "Table 1" … "Table 5", or "text" for a number that stands only in the prose.
    """
    sources = sorted(files.path("data/published").glob("*.csv"))
    return pd.concat([pd.read_csv(source, dtype=str, keep_default_na=False) for source in sources], ignore_index=True)


def table(name: str) -> pd.DataFrame:
    """A table of the paper as printed: rows by columns, as numbers, in the paper's order."""
    found = numbers().query("table == @name")
    if found.empty:
        raise files.InputError(f"data/published: no {name!r}; there are {', '.join(numbers()['table'].unique())}")
    wide = found.pivot(index="row", columns="column", values="value").astype(float)
    return wide.loc[found["row"].unique(), found["column"].unique()].rename_axis(index=None, columns=None)


def value(name: str, row: str, column: str) -> float:
    """One number of the paper."""
    return float(table(name).loc[row, column])


def beside(name: str, ours: pd.DataFrame) -> pd.DataFrame:
    """A long table row, column, paper, here, difference: one line a cell of the published table, in its order; then
    those of rows that the paper lacks, such as another backbone's.

    `ours` has the published table's columns; a cell that it lacks is empty here. Counts have no difference: of two data
    sets of other sizes it would tell the sizes.
    """
    printed = table(name)
    more = [row for row in ours.index if row not in printed.index]
    paper = printed.reindex([*printed.index, *more]).stack(future_stack=True).rename("paper")
    here = ours.stack().rename("here").astype(float).reindex(paper.index)
    long = pd.concat([paper, here], axis=1).rename_axis(["row", "column"]).reset_index()
    units = numbers().query("table == @name").set_index(["row", "column"])["unit"]
    counted = units.reindex(paper.index).isin(COUNTED).to_numpy()
    return long.assign(difference=(long["here"] - long["paper"]).mask(counted))
