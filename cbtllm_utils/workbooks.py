"""Workbooks that come back from others: read within bounds, whatever a program or malice has made of them."""

import io
import zipfile
from pathlib import Path

from cbtllm_utils import files

UNPACKED = 64_000_000  # bytes of all parts: a form of 420 entries has 1.2 million, a bomb of 4 MB has 4 billion
COLUMNS, LINES = 64, 1 << 20  # of a sheet: more than any form has, and as many lines as a spreadsheet program allows

Line = tuple[int, tuple]  # its number, and the values of its cells: text, a number, None, or what else a sheet can hold


def lines(path: str | Path, sheet: str) -> list[Line]:
    """The lines of a sheet that are not blank, formulas as text; InputError, without the file's name, for what is none.

    Lines are taken as they are read: a cell at the far end of a sheet costs a second, not the 17 billion before it.
    """
    import openpyxl

    try:
        packed = io.BytesIO(files.path(path).read_bytes())  # given a file, openpyxl names its folders in errors
        size = sum(part.file_size for part in zipfile.ZipFile(packed).infolist())
        if size > UNPACKED:
            raise files.InputError(f"unpacks to {size / 1e6:,.0f} MB, which no form does")
        rows = openpyxl.load_workbook(packed, read_only=True)[sheet]
        numbered = enumerate(rows.iter_rows(max_row=LINES, max_col=COLUMNS, values_only=True), 1)
        return [(number, row) for number, row in numbered if row.count(None) < len(row)]
    except files.InputError:
        raise
    except Exception as error:  # of a damaged part openpyxl says what its code stumbled on: any error there is
        raise files.InputError(f"{type(error).__name__}: {files.one_line(error)}") from None


def text(value: object) -> str:
    """A cell's value as a person reads it: nothing as "", 5.0 as 5."""
    return "" if value is None else str(int(value) if isinstance(value, float) and value.is_integer() else value)
