"""Measure and print one table, kept in benchmarks/README.md: python -m benchmarks [asking training …]"""

import datetime
import importlib
import os
import platform
import sys

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.plots import tables

BENCHMARKS = ("asking", "training", "answering", "scoring")
COLUMNS = ["what", "ours", "compared with", "theirs", "theirs / ours", "wanted", "date"]
MEASURED = "benchmarks/measured.json"  # by name of the benchmark: date, machine and rows
README = """# Benchmarks
Made by `make bench`, which measures both sides of every row one after the other on the same machine, on the date that
the row names. Times are seconds unless a row says otherwise; they are noisy, ratios less so.

{machines}

{table}
"""


def machine() -> str:
    """Return processor and software of this machine, without a name."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def table(measured: dict) -> str:
    """Return everything that was measured as one Markdown table."""
    rows = [[*row, one["date"]] for name, one in measured.items() if name in BENCHMARKS for row in one["rows"]]
    return tables.markdown(pd.DataFrame(rows, columns=COLUMNS))


def page(measured: dict) -> str:
    """Return the text of benchmarks/README.md."""
    machines = {name: one["machine"] for name, one in measured.items() if name in BENCHMARKS}
    lines = [
        f"Measured on {words}: {', '.join(name for name in machines if machines[name] == words)}."
        for words in dict.fromkeys(machines.values())
    ]
    return README.format(machines="\n".join(lines), table=table(measured))


def main(names: list[str]) -> None:
    """Measure; each benchmark that ends replaces its old rows in the table."""
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        sys.exit(f"error: unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    for name in names or BENCHMARKS:
        rows = []
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            rows.append(row.cells())
            print(" | ".join(rows[-1]), flush=True)
        measured = files.read_json(MEASURED) | {
            name: {"date": str(datetime.date.today()), "machine": machine(), "rows": rows}
        }
        files.write_json(MEASURED, {known: measured[known] for known in BENCHMARKS if known in measured})
        files.write_text("benchmarks/README.md", page(measured))


if __name__ == "__main__":
    main(sys.argv[1:])
