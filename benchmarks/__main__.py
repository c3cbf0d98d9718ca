"""python -m benchmarks [generation reading …]: measure, print one table, and keep it in benchmarks/README.md."""

import importlib
import os
import platform
import sys

import pandas as pd

from cbtllm_utils import files, tables

EVERY = ("generation", "reading", "extraction", "metrics", "training", "answers", "rating", "startup", "growth")
COLUMNS = ["what", "ours", "against", "theirs", "theirs / ours", "wanted"]
README = """# Benchmarks
Made by `make bench`, which measures both sides of every line one after the other on the same machine. Times in seconds
unless a line says otherwise; they are noisy, ratios less so. What LoRA teaches the stand-ins, with its spread over seeds:
[learning.md](learning.md).

Machine: {machine}.

{table}
"""


def machine() -> str:
    """Processor and software, without a name."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def main(names: list[str]) -> None:
    """Print the table, row by row; a run of everything is kept, as far as it has come."""
    lines: list[list[str]] = []
    for name in names or EVERY:
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            lines.append(row.cells())
            whole = tables.markdown(pd.DataFrame(lines, columns=COLUMNS))
            print(whole.splitlines()[-1], flush=True)
            if not names:
                files.write_text("benchmarks/README.md", README.format(machine=machine(), table=whole))


if __name__ == "__main__":
    main(sys.argv[1:])
