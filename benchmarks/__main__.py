"""python -m benchmarks [generation reading …]: measure, print one table, and keep it in benchmarks/README.md."""

import importlib
import os
import platform
import sys

import pandas as pd

from cbtllm_utils import files, tables

EVERY = ("generation", "reading", "extraction", "metrics", "answers", "rating", "startup")
COLUMNS = ["what", "ours", "against", "theirs", "theirs / ours", "wanted"]
README = """# Benchmarks
Made by `make bench`, which measures both sides of every line one after the other on the same machine. Times in seconds
unless a line says otherwise; they are noisy, ratios less so.

Machine: {machine}.

{table}
"""


def machine() -> str:
    """Processor and software, without a name."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def main(names: list[str]) -> None:
    """Print the table; a run of everything is kept."""
    lines = []
    for name in names or EVERY:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            lines.append(row.cells())
            print(tables.markdown(pd.DataFrame(lines[-1:], columns=COLUMNS)).splitlines()[-1], flush=True)
    if not names:
        text = README.format(machine=machine(), table=tables.markdown(pd.DataFrame(lines, columns=COLUMNS)))
        files.write_text("benchmarks/README.md", text)


if __name__ == "__main__":
    main(sys.argv[1:])
