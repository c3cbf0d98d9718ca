"""Tables as files: CSV to compute with, Markdown and LaTeX to read. Each says under which conditions it was made."""

import html
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from cbtllm_utils import files, hashing
from cbtllm_utils.safe_spreadsheets import csv

LOW, HIGH = " low", " high"  # the ends of the names of two columns that hold an interval
P_VALUES = ["p", "p (Holm)"]  # columns
LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # At the start of a row it would be read as an argument of the line break before it.
}
KIND = "kind"  # a column whose cells are code names, such as suicide_plan_or_means
WORDS = {  # of the code names with an underscore: components of a reply, and the taxonomy's distortions
    "key_thought": "key thought",
    "all_or_nothing": "all-or-nothing thinking",
    "emotional_reasoning": "emotional reasoning",
    "mind_reading": "mind reading",
    "fortune_telling": "fortune telling",
    "mental_filter": "mental filter",
    "disqualifying_positive": "disqualifying the positive",
    "should_statements": "should statements",
    "personalization_or_blame": "personalization or blame (attribution error)",
    "jumping_to_conclusions": "jumping to conclusions",
}
CODES = re.compile(rf"\b({'|'.join(WORDS)})\b")


def save(
    table: pd.DataFrame, run: str | Path, name: str, title: str, conditions: str, decimals: int = 4, empty: str = ""
) -> Styler | HTML:
    """Write a table to `run`/tables/`name`.{csv,md,tex} and return it as shown in a notebook.

    The CSV has the full numbers, code names as they are, the conditions as its last column, and an apostrophe before a
    text that a spreadsheet would compute. Markdown, LaTeX and the notebook have rounded numbers and words for code
    names, with title and conditions around them, and show two columns such as `95% CI low` and `95% CI high` as one
    column `95% CI`.

    Args:
        table: An index with a name becomes the first columns; one without a name is not written.
        name: The file name without an ending.
        conditions: Under which conditions the numbers were made.
        decimals: How many decimals fractions are shown with.
        empty: The sentence that Markdown and the notebook show in place of a table without rows.
    """
    flat = table.reset_index() if any(table.index.names) else table
    folder = files.path(run) / "tables"
    files.write_text(folder / f"{name}.csv", csv(flat.assign(conditions=conditions)))
    shown, numbers = to_text(flat, decimals)
    caption = f"{title} ({conditions})"
    empty = empty or f"{title}: none."
    body = markdown(shown, numbers) if len(shown) else inert(files.one_line(empty))
    files.write_text(folder / f"{name}.md", f"**{title}**\n\n{body}\n\n*{conditions}*\n")
    files.write_text(folder / f"{name}.tex", latex(shown, caption, name, numbers))
    return show(flat, caption, decimals, name, empty)


def save_all(
    tables: Mapping[str, tuple[str, pd.DataFrame]], run: str | Path, conditions: str, decimals: int = 4
) -> Styler | HTML:
    """Write tables that are read as files, each as `save` does, and return a table of them: table, rows, file.

    Args:
        tables: File name without an ending -> (title, table).
    """
    for name, (title, table) in tables.items():
        save(table, run, name, title, conditions, decimals)
    rows = [(title, len(table), f"tables/{name}.csv") for name, (title, table) in tables.items()]
    return show(pd.DataFrame(rows, columns=["table", "rows", "file"]), f"Tables in files below {files.shown(run)}")


def show(table: pd.DataFrame, caption: str, decimals: int = 4, name: str = "", empty: str = "") -> Styler | HTML:
    """Return the table as `save` shows it, without writing it; its index is not shown.

    A table without rows is a sentence: `empty`, or its caption and "none".
    """
    if not len(table):
        return HTML(f"<p>{html.escape(empty or f'{caption}: none.', quote=False)}</p>")
    text, numbers = to_text(table, decimals)
    style = text.style.format(escape="html").format_index(html.escape, axis="columns").hide(axis="index")
    sides = {name: "right" if name in numbers else "left" for name in text.columns}
    aligned: dict = {name: [{"selector": "", "props": f"text-align: {side}"}] for name, side in sides.items()}
    # In place of pandas' random name: the same table gives the same HTML, two on a page have their own alignment.
    return (
        style.set_uuid(name or hashing.text(caption))
        .set_table_styles(aligned)
        .set_caption(html.escape(caption, quote=False))
    )


def to_text(table: pd.DataFrame, decimals: int = 4) -> tuple[pd.DataFrame, list[str]]:
    """Return the table as text, each interval in one column, and the names of the columns of numbers.

    A missing value is a dash. Fractions have `decimals` decimals. A column of whole numbers is one of counts and has
    none, unless all are 0 or 1, as shares may be; a whole number among fractions has none when it is at least 1000, or
    when the table shows at most one decimal. A p value that would be rounded to 0 is "< 0.0001".
    """

    def cell(value: object) -> str:
        if value is None or value is pd.NA or value != value:
            return "–"
        if not isinstance(value, float):
            return in_words(value) if isinstance(value, str) else str(value)
        count = value == round(value) and (abs(value) >= 1000 or decimals <= 1)
        return f"{value:.{0 if count else decimals}f}"

    text = table.map(cell)
    for name in counts(table):
        text[name] = [cell(value) if value != value else f"{value:.0f}" for value in table[name]]
    for name in text.columns.intersection(P_VALUES):
        text[name] = text[name].replace(f"{0:.{decimals}f}", f"< {10**-decimals:.{decimals}f}")
    if KIND in text.columns:
        text[KIND] = text[KIND].str.replace("_", " ").str.replace("self harm", "self-harm")
    types = pd.api.types
    kinds = table.dtypes.items()
    numbers = [name for name, kind in kinds if types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind)]
    for low in [name for name in text.columns if str(name).endswith(LOW)]:
        both = low.removesuffix(LOW)
        high = both + HIGH
        if high in text.columns and both not in text.columns:
            text[low] = [interval(*ends) for ends in zip(text[low], text[high], strict=True)]
            text = text.drop(columns=high).rename(columns={low: both})
            numbers = [both if name == low else name for name in numbers if name != high]
    headed = {name: in_words(name).replace("_", " ") for name in text.columns if isinstance(name, str)}
    return text.rename(columns=headed), [headed.get(name, name) for name in numbers]


def counts(table: pd.DataFrame) -> list[str]:
    """Return the columns of floats that hold whole numbers alone, one of them beyond 1: counts with missing values."""
    floats = table.select_dtypes("float")
    whole = (floats.isna() | (floats == floats.round())).all() & (floats.abs() > 1).any()
    return list(floats.columns[whole])


def in_words(text: str) -> str:
    """Return a text with the code names of components and of distortions in it as words: "key thought"."""
    return CODES.sub(lambda found: WORDS[found[0]], text)


def interval(low: str, high: str) -> str:
    """Return both ends of an interval as one text; "to" is between them where a dash could be a minus sign."""
    if low == high == "–":
        return "–"
    return f"{low} to {high}" if {low[0], high[0]} & set("-–") else f"{low}–{high}"


def markdown(table: pd.DataFrame, numbers: Collection[str] = ()) -> str:
    """Return the table in Markdown. Columns of `numbers` are aligned to the right; a cell stays on its line."""

    def line(cells: list) -> str:
        return "| " + " | ".join(inert(files.one_line(cell)) for cell in cells) + " |"

    rule = "|" + "".join("---:|" if name in numbers else "---|" for name in table.columns)
    return "\n".join([line(list(table.columns)), rule, *(line(list(row)) for row in table.itertuples(index=False))])


def inert(text: str) -> str:
    """Return a line of text that makes no cell, tag or link in Markdown; "< 0.3" stays as it is."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("|", "\\|").replace("](", "]\\("))


def latex(table: pd.DataFrame, caption: str, label: str, numbers: Collection[str] = ()) -> str:
    """Return the table as a LaTeX table environment (package booktabs), every special character escaped."""
    style = table.style.format(escape).format_index(escape, axis="columns").hide(axis="index")
    return style.to_latex(
        caption=escape(caption),
        label=f"tab:{label}",
        column_format="".join("r" if name in numbers else "l" for name in table.columns),
        hrules=True,
    )


def escape(text: object) -> str:
    """Return a text on one line with LaTeX's special characters escaped."""
    return files.one_line(text).translate(str.maketrans(LATEX))
