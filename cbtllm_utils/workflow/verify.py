"""Compare a run's tables with the committed ones: python -m cbtllm_utils.workflow.verify --profile demo"""

import argparse
import csv
import math
import re
import sys
from collections import Counter
from pathlib import Path

from cbtllm_utils import files

NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
PEOPLE = (
    "data/ratings",
    "data/readings",
    "data/annotations",
)  # folders of filled forms, where notebooks look by default
SHOWN = 10  # differences printed per table; the rest are counted

Table = tuple[list[str], list[list[str]]]


def compare(made: Path, committed: Path, tolerance: float) -> dict[str, list[str]]:
    """Compare every CSV table of two folders.

    Args:
        made: The folder with the run's tables.
        committed: The folder with the tables to compare with.
        tolerance: Largest accepted difference of two numbers, relative or absolute.

    Returns:
        Table name -> what differs, one line each, for every table of either folder; [] for equal tables.
    """
    names = {place.name for folder in (made, committed) for place in folder.glob("*.csv")}
    found = {}
    for name in sorted(names):
        if not (made / name).exists():
            found[name] = ["missing in the run"]
        elif not (committed / name).exists():
            found[name] = ["not among the committed tables"]
        else:
            found[name] = differences(read(made / name), read(committed / name), tolerance)
    return found


def read(place: Path) -> Table:
    """Return a CSV table as its header and its rows of text cells."""
    with place.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    return header, rows


def differences(made: Table, committed: Table, tolerance: float) -> list[str]:
    """Return a line for each difference of two tables, whose columns and rows are found by name."""
    lines = only("column", made[0], committed[0])
    key = row_name(committed)
    ours, theirs = (by_name(table, key) for table in (made, committed))
    lines += only("row", list(ours), list(theirs))
    for name in theirs:
        for column in committed[0]:
            if name in ours and column in made[0] and not same(ours[name][column], theirs[name][column], tolerance):
                lines.append(f"{name}, {column}: {ours[name][column]!r}, committed {theirs[name][column]!r}")
    return lines


def only(kind: str, made: list[str], committed: list[str]) -> list[str]:
    """Return a line for each name that only one of two lists has."""
    more = [f"{kind} {name!r} is not in the committed table" for name in made if name not in committed]
    return more + [f"{kind} {name!r} is missing in the run" for name in committed if name not in made]


def row_name(table: Table) -> list[str]:
    """Return the fewest leading columns whose values name each row of a table once; all of them where none do."""
    header, rows = table
    for width in range(1, len(header) + 1):
        if len({tuple(row[:width]) for row in rows}) == len(rows):
            return header[:width]
    return header


def by_name(table: Table, key: list[str]) -> dict[str, dict[str, str]]:
    """Return the rows of a table by name; rows of the same name are numbered."""
    header, rows = table
    found: dict[str, dict[str, str]] = {}
    seen: Counter[str] = Counter()
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        name = " / ".join(cells.get(column, "") for column in key)
        seen[name] += 1
        found[f"{name} #{seen[name]}" if seen[name] > 1 else name] = cells
    return found


def same(one: str, other: str, tolerance: float) -> bool:
    """Return whether two cells hold the same text around the same numbers, within the tolerance."""
    if one == other:
        return True
    if NUMBER.sub("0", one) != NUMBER.sub("0", other):
        return False
    pairs = zip(NUMBER.findall(one), NUMBER.findall(other), strict=True)
    return all(
        math.isclose(float(a.replace("−", "-")), float(b.replace("−", "-")), rel_tol=tolerance, abs_tol=tolerance)
        for a, b in pairs
    )


def without_tables(profile: str, made: Path, committed: Path, against: str | None) -> str:
    """Return what is missing and what to do where one of the two folders holds no tables; "" where both do."""
    if not list(made.glob("*.csv")):
        return f"{files.shown(made)}: no tables there; run `make reproduce PROFILE={profile}` first"
    if list(committed.glob("*.csv")):
        return ""
    if against:
        return (
            f"{files.shown(committed)}: no tables there; --against takes a folder of CSV tables, such as runs/…/tables"
        )
    command = f"python -m cbtllm_utils.workflow.verify --profile {profile} --against FOLDER"
    return (
        f"the profile {profile} has no committed results to compare with ({files.shown(committed)} holds no tables); "
        f"to compare its run with the tables of another run: {command}"
    )


def main(argv: list[str] | None = None) -> int:
    """Print what differs; return 0 when nothing does, else 1."""
    parser = argparse.ArgumentParser(prog="python -m cbtllm_utils.workflow.verify", description=__doc__)
    parser.add_argument("--profile", default="demo", help="whose run below runs/ (demo)")
    parser.add_argument("--against", help="the folder to compare with (figures/<profile>)")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="of numbers, relative or absolute (1e-6)")
    given = parser.parse_args(argv)
    if not given.tolerance >= 0:
        parser.error(f"--tolerance {given.tolerance}: expected 0 or more")
    made, committed = (
        files.path(f"runs/{given.profile}/tables"),
        files.path(given.against or f"figures/{given.profile}"),
    )
    if problem := without_tables(given.profile, made, committed, given.against):
        print(f"error: {problem}", file=sys.stderr)
        return 1
    found = compare(made, committed, given.tolerance)
    unlike = {name: lines for name, lines in found.items() if lines}
    for name, lines in unlike.items():
        print(f"{name}: {len(lines)} differences")
        print("".join(f"  {line}\n" for line in lines[:SHOWN]), end="")
        if len(lines) > SHOWN:
            print(f"  … and {len(lines) - SHOWN} more")
    people = [name for name in PEOPLE if any(p.is_file() for p in files.path(name).rglob("[!.]*"))]
    if unlike and people:
        print(
            f"note: what people filled in ({', '.join(people)}) is in the tables of 02, 03, 05, 07 and 08, and in no committed one"
        )
    words = f"of {len(found)} tables equal the committed ones within {given.tolerance:g}"
    print(f"{len(found) - len(unlike)} {words}")
    return 1 if unlike else 0


if __name__ == "__main__":
    sys.exit(main())
