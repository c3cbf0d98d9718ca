"""CSV files and workbooks that compute nothing when opened, and workbooks that came back, read within limits."""

import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cbtllm_utils import files

if TYPE_CHECKING:
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

# A text that a spreadsheet would compute. -0.5, +3 and 1e-4 are numbers and stay as they are. Apostrophes may stand
# before it, so that `original` restores each text.
FORMULA = re.compile(r"'*(?:[=@\t\n]|[+-](?!\.?\d[\d.,]*(?:[eE][+-]?\d+)?%?$)(?=.))", re.S)
LONGEST = 32_767  # characters that a cell of a workbook can hold
UNPACKED = 64_000_000  # bytes: a form of 420 entries unpacks to 1.2 million, a zip bomb of 4 MB to 4 billion
COLUMNS, ROWS = 64, 1 << 20  # more columns than any form has, and as many rows as a spreadsheet program allows


def csv(table: pd.DataFrame) -> str:
    """Return the table as CSV without its index; an apostrophe marks a text that a spreadsheet would compute."""
    rows = [[harmless(value) for value in row] for row in table.astype(object).itertuples(index=False, name=None)]
    columns = [harmless(str(column)) for column in table.columns]
    return pd.DataFrame(rows, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def harmless(value: object) -> object:
    """Return a value as `csv` writes it."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # Python before 3.13 writes \r without quotes.
    return f"'{text}" if FORMULA.match(text) else text


def original(value: object) -> object:
    """Return the value that `harmless` was given; only its line ends may differ."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and FORMULA.match(value) else value


def write_text(cell: "Cell", text: str) -> None:
    """Write a text into a workbook's cell, where it stays text and wraps.

    Raises:
        InputError: For a text that is longer than a cell can hold.
    """
    from openpyxl.styles import Alignment

    if len(text) > LONGEST:
        raise files.InputError(f"a text of {len(text)} characters does not fit into a workbook's cell ({LONGEST})")
    cell.value = text
    cell.data_type = "s"
    cell.quotePrefix = True  # A spreadsheet program keeps it as text when somebody edits the cell.
    cell.alignment = Alignment(wrap_text=True, vertical="top")


def limit_choices(sheet: "Worksheet", cells: str, choices: Sequence[str], message: str = "") -> None:
    """Let cells of a workbook take one of these values only; `message` is shown to whoever enters another."""
    from openpyxl.worksheet.datavalidation import DataValidation

    rule = DataValidation(type="list", formula1=f'"{",".join(choices)}"', allow_blank=True, showErrorMessage=True)
    rule.error = message or None
    sheet.add_data_validation(rule)
    rule.add(cells)


def read_sheets(content: bytes) -> dict[str, list[tuple[int, tuple]]]:
    """Return number and values of each row that is not blank, for each sheet of a workbook; formulas come as text.

    Rows are read one by one, so that a filled cell at the far end of a sheet does not cost the cells before it.

    Raises:
        InputError: For what is not a sound workbook. The message does not name the file.
    """
    import openpyxl

    try:
        size = sum(member.file_size for member in zipfile.ZipFile(io.BytesIO(content)).infolist())
        if size > UNPACKED:
            raise files.InputError(f"unpacks to {size / 1e6:,.0f} MB, which no form does")
        sheets = {}
        with warnings.catch_warnings(action="ignore"):  # of styles, print areas and the like, which are not read
            for sheet in openpyxl.load_workbook(io.BytesIO(content), read_only=True).worksheets:
                numbered = enumerate(sheet.iter_rows(max_row=ROWS, max_col=COLUMNS, values_only=True), 1)
                sheets[sheet.title] = [(number, row) for number, row in numbered if row.count(None) < len(row)]
        if not sheets:
            raise files.InputError("no sheet that can be read; save it as a usual Excel workbook (.xlsx)")
        return sheets
    except files.InputError:
        raise
    except Exception as error:  # On a damaged file openpyxl fails with whatever its code meets.
        raise files.InputError(f"{type(error).__name__}: {files.one_line(error)}") from None


def cell_text(value: object) -> str:
    """Return a cell's value as a person reads it: an empty cell as "", 5.0 as "5", a formula as its text."""
    value = getattr(value, "text", value)  # an array formula
    return "" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value)
