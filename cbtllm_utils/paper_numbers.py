"""The paper's printed numbers by their place, and what a computation on them says."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

CONSISTENT, INCONSISTENT = "consistent within the paper", "inconsistent within the paper"
Key = tuple[str, str, str]
Printed = dict[Key, float]


@dataclass(frozen=True)
class Check:
    """What one computation on the printed numbers says: in words, about which of them, and the status that follows.

    An empty status leaves a number the one that it has otherwise: the finding explains it.
    """

    name: str
    finding: str
    about: tuple[Key, ...]
    status: str = ""


def values(numbers: pd.DataFrame) -> Printed:
    """The printed numbers by (table, row, column), from `published.numbers()`."""
    keys = numbers[["table", "row", "column"]].itertuples(index=False, name=None)
    return dict(zip(keys, numbers["value"].astype(float), strict=True))


def text(printed: Printed, row: str) -> float:
    """A number that stands in the prose."""
    return printed["text", row, "value"]


def grid(printed: Printed, name: str) -> pd.DataFrame:
    """A table as rows by columns, as printed."""
    found = pd.Series({(row, column): value for (table, row, column), value in printed.items() if table == name})
    return found.unstack().reindex(index=found.index.unique(0), columns=found.index.unique(1))


def prose(*rows: str) -> tuple[Key, ...]:
    """The keys of numbers in the prose."""
    return tuple(("text", row, "value") for row in rows)


def cells(table: str, rows: Iterable[str], columns: Iterable[str]) -> tuple[Key, ...]:
    """The keys of a table's cells."""
    return tuple((table, row, column) for row, column in itertools.product(rows, columns))


def places(value: float) -> int:
    """How many decimals a printed number has."""
    return len(f"{value:.10f}".rstrip("0").partition(".")[2])
