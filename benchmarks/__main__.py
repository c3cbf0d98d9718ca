"""Measure and print one table, kept in benchmarks/README.md: python -m benchmarks [asking training …]"""

import datetime
import importlib
import sys

from benchmarks import page
from benchmarks.page import BENCHMARKS, MEASURED
from cbtllm_utils import files


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
            name: {"date": str(datetime.date.today()), "machine": page.machine(), "rows": rows}
        }
        files.write_json(MEASURED, {known: measured[known] for known in BENCHMARKS if known in measured})
        page.write()


if __name__ == "__main__":
    main(sys.argv[1:])
