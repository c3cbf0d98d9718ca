"""Tables as files: CSV to compute with, Markdown and LaTeX to read, each saying under which conditions it was made."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from pandas.io.formats.style import Styler

from cbtllm_utils import files
from cbtllm_utils.safe_spreadsheets import csv


def save(table: pd.DataFrame, run: str | Path, name: str, title: str, conditions: str, decimals: int = 4) -> Styler:
    """The table as shown, after it was written to `run`/tables/`name`.{csv,md,tex}.

    The CSV has the full numbers and the conditions as its last column, and texts that a spreadsheet would compute
    behind an apostrophe; Markdown and LaTeX have them rounded, with title and conditions around them. An index without
    a name is not written.
    """
    flat = table.reset_index() if any(table.index.names) else table
    folder = files.path(run) / "tables"
    files.write_text(folder / f"{name}.csv", csv(flat.assign(conditions=conditions)))
    shown, right = rounded(flat, decimals), numeric(flat)
    files.write_text(folder / f"{name}.md", f"**{title}**\n\n{markdown(shown, right)}\n\n*{conditions}*\n")
    files.write_text(folder / f"{name}.tex", latex(shown, f"{title} ({conditions})", name, right))
    display = shown.style.format(escape="html").format_index(html.escape, axis="columns")
    display = display.set_uuid(name).hide(axis="index")
    aligned: dict = {column: [{"selector": "", "props": "text-align: right"}] for column in right}
    return display.set_table_styles(aligned).set_caption(html.escape(f"{title} ({conditions})", quote=False))


def numeric(table: pd.DataFrame) -> list[str]:
    """The names of the columns that hold numbers, which stand on the right."""
    is_number = pd.api.types.is_numeric_dtype
    return [name for name, kind in table.dtypes.items() if is_number(kind) and not pd.api.types.is_bool_dtype(kind)]


def rounded(table: pd.DataFrame, decimals: int = 4) -> pd.DataFrame:
    """The table as text: fractions with so many decimals, whole numbers as they are, nothing as a dash.

    A whole number in a column of fractions is a count where it is large or the column has one decimal.
    """

    def cell(value: object) -> str:
        if isinstance(value, float):
            count = value == round(value) and (abs(value) >= 1000 or decimals <= 1) if value == value else False
            return "–" if value != value else f"{value:.{0 if count else decimals}f}"
        return "–" if value is None or value is pd.NA else str(value)

    return table.map(cell)


def markdown(table: pd.DataFrame, right: Sequence[str] = ()) -> str:
    """The table in Markdown; a bar or a line break inside a cell stays inside it. `right`: columns of numbers."""

    def line(cells: list) -> str:
        return "| " + " | ".join(inert(files.one_line(c)) for c in cells) + " |"

    rule = "|" + "".join("---:|" if name in right else "---|" for name in table.columns)
    return "\n".join([line(list(table.columns)), rule, *(line(list(row)) for row in table.itertuples(index=False))])


def inert(text: str) -> str:
    """A line of text that makes no cell, tag or link in Markdown; < 0.3 stays as it is."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text.replace("|", "\\|").replace("](", "]\\("))


def latex(table: pd.DataFrame, caption: str, label: str, right: Sequence[str] = ()) -> str:
    """The table as a LaTeX table environment (booktabs), every special character escaped. `right`: of numbers."""
    body = table.map(escape).set_axis([escape(str(c)) for c in table.columns], axis=1)
    rows = [" & ".join(body.columns), *(" & ".join(row) for row in body.itertuples(index=False))]
    lines = [r"\begin{table}", rf"\caption{{{escape(caption)}}}", rf"\label{{tab:{label}}}"]
    columns = "".join("r" if name in right else "l" for name in table.columns)
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rows[0] + r" \\", r"\midrule"]
    lines += [row + r" \\" for row in rows[1:]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


LATEX: Mapping[str, str] = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # after a row's end it would be an argument
}


def escape(text: str) -> str:
    """The text with LaTeX's special characters made harmless."""
    return "".join(LATEX.get(character, character) for character in files.one_line(text))
