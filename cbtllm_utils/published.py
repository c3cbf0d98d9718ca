"""The numbers that the paper prints: table, row, column, value, section in `data/published/{table*,text}.csv`."""

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cbtllm_utils import files

if TYPE_CHECKING:  # the runner needs names alone, and pandas takes half a second
    import pandas as pd

BACKBONES = {  # our names, safe in file names -> the paper's (Table 4)
    "llama-chinese-7b": "LLama-Chinese-7B",
    "alpaca-chinese-7b": "Alpaca-Chinese-7B",
    "qwen-7b": "Qwen-7B",
    "baichuan-7b": "Baichuan-7B",
}
SEED = re.compile(r"(?<=.)-seed(\d+)$", re.ASCII)  # ends the name of a backbone trained with another seed
COUNT_UNITS = ("items", "replies")  # units of numbers that count something
Key = tuple[str, str, str]  # table, row, column; the table "text" has the numbers of the prose, in the column "value"
Printed = dict[Key, float]


def backbone_title(name: str) -> str:
    """Return how tables and figures call a backbone: "Qwen-7B", as the paper does; "Qwen3-0.6B, seed 43"."""
    whole = SEED.sub("", name)
    in_general = whole[:1].upper() + re.sub(r"(?<=\d)b\b", "B", whole[1:])
    return SEED.sub(r", seed \1", name).replace(whole, BACKBONES.get(whole, in_general))


def numbers() -> "pd.DataFrame":
    """Return every number of the paper, one per row: table, row, column, value (as printed), unit, section, quote.

    `table` is "Table 1" … "Table 5", or "text" for a number that only the prose has.
    """
    import pandas as pd

    sources = [*sorted(files.path("data/published").glob("table*.csv")), files.path("data/published/text.csv")]
    return pd.concat([pd.read_csv(source, dtype=str, keep_default_na=False) for source in sources], ignore_index=True)


def by_key(numbers: "pd.DataFrame") -> Printed:
    """Return the values of `numbers()` by (table, row, column)."""
    return numbers.set_index(["table", "row", "column"])["value"].astype(float).to_dict()


def table(name: str, printed: Printed | None = None) -> "pd.DataFrame":
    """Return a table of the paper as printed: rows by columns, as numbers, in the paper's order.

    Args:
        name: "Table 1" … "Table 5", or "text".
        printed: The numbers to take instead of the paper's, from `by_key`.
    """
    import pandas as pd

    found = pd.Series(by_key(numbers()) if printed is None else printed)[name]
    return found.unstack().reindex(index=found.index.unique(0), columns=found.index.unique(1))


def value(name: str, row: str, column: str) -> float:
    """Return one number of the paper."""
    return float(table(name).loc[row, column])


def text_keys(*rows: str) -> tuple[Key, ...]:
    """Return the keys of numbers in the prose."""
    return tuple(("text", row, "value") for row in rows)


def table_keys(table: str, rows: Iterable[str], columns: Iterable[str]) -> tuple[Key, ...]:
    """Return the keys of a table's cells."""
    return tuple((table, row, column) for row, column in itertools.product(rows, columns))


def decimals(value: float) -> int:
    """Return how many decimals a printed number has."""
    return len(f"{value:.10f}".rstrip("0").partition(".")[2])


def beside(name: str, ours: "pd.DataFrame") -> "pd.DataFrame":
    """Return a published table beside ours, one line per cell: row, column, paper, here, difference.

    The order is the paper's; then come rows and columns that the paper lacks, such as another backbone's. Counts have
    no difference, which would only say that two data sets differ in size.

    Args:
        name: The published table's name.
        ours: Our numbers under the published table's columns; a cell that it lacks is empty in `here`.
    """
    import pandas as pd

    printed = table(name)
    rows, columns = (
        own.append(other.difference(own, sort=False)) for own, other in zip(printed.axes, ours.axes, strict=True)
    )
    paper = printed.reindex(index=rows, columns=columns).stack(future_stack=True).rename("paper")
    here = ours.stack().rename("here").astype(float).reindex(paper.index)
    long = pd.concat([paper, here], axis=1).rename_axis(["row", "column"]).reset_index()
    units = numbers().query("table == @name").set_index(["row", "column"])["unit"]
    counts = units.reindex(paper.index).isin(COUNT_UNITS).to_numpy()
    return long.assign(difference=(long["here"] - long["paper"]).mask(counts))
