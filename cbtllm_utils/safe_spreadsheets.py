"""CSV that a spreadsheet opens without computing anything in it."""

import re

import pandas as pd

FORMULA = re.compile(
    r"'*(?:[=@\t\n]|[+-](?!\.?\d[\d.,]*(?:[eE][+-]?\d+)?%?$)(?=.))", re.S
)  # but -0.5, +3 and 1e-4 are numbers; with apostrophes before it, so that `original` finds each text again


def csv(table: pd.DataFrame) -> str:
    """The table as CSV without its index. A text that a spreadsheet would compute stands behind an apostrophe."""
    rows = [[harmless(value) for value in row] for row in table.astype(object).itertuples(index=False, name=None)]
    columns = [harmless(str(column)) for column in table.columns]
    return pd.DataFrame(rows, columns=columns, dtype=object).to_csv(index=False, lineterminator="\n")


def harmless(value: object) -> object:
    """The value as `csv` writes it."""
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")  # which Python before 3.13 writes without quotes
    return f"'{text}" if FORMULA.match(text) else text


def original(value: object) -> object:
    """The value that `harmless` made harmless, but for its line ends."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and FORMULA.match(value) else value
