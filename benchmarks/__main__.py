"""python -m benchmarks [generation reading …]: measure, print one table, and keep it in benchmarks/README.md."""

import datetime
import importlib
import os
import platform
import sys

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.plots import tables

EVERY = ("generation", "reading", "extraction", "metrics", "training", "answers", "startup", "growth")
COLUMNS = ["what", "ours", "against", "theirs", "theirs / ours", "wanted", "on"]
ALONE = ("growth",)  # rows beside which no rival stands but ours at another size: a ratio would say nothing
KEPT = "benchmarks/measured.json"  # by name of the benchmark: the day, the machine and the rows
README = """# Benchmarks
Made by `make bench`, which measures both sides of every line one after the other on the same machine, on the day
that stands beside it. Times in seconds unless a line says otherwise; they are noisy, ratios less so. What LoRA teaches
the stand-ins, with its spread over seeds, is measured by `python -m benchmarks.learning`.

{machines}

{table}
"""


def machine() -> str:
    """Processor and software, without a name."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def machines(measured: dict) -> str:
    """Which benchmarks were measured on which machine, a line each machine."""
    found: dict[str, list[str]] = {}
    for name, one in measured.items():
        found.setdefault(one["machine"], []).append(name)
    return "\n".join(f"Machine of {', '.join(names)}: {words}." for words, names in found.items())


def table(measured: dict) -> str:
    """All that was measured, as one table."""
    known = [name for name in EVERY if name in measured]
    lines = [[*shown(name, row), measured[name]["on"]] for name in known for row in measured[name]["rows"]]
    return tables.markdown(pd.DataFrame(lines, columns=COLUMNS))


def shown(name: str, row: list[str]) -> list[str]:
    """A benchmark's row to print: without a ratio where there is no rival."""
    return [*row[:4], "" if name in ALONE else row[4], *row[5:]]


def page(measured: dict) -> str:
    """benchmarks/README.md."""
    return README.format(machines=machines(measured), table=table(measured))


def main(names: list[str]) -> None:
    """Print what is measured, row by row; each benchmark that ends takes its old rows' place in the table."""
    if unknown := sorted(set(names) - set(EVERY)):
        sys.exit(f"error: no benchmark {', '.join(unknown)}; there are {', '.join(EVERY)}")
    for name in names or EVERY:
        rows = []
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            rows.append(row.cells())
            print(" | ".join(shown(name, rows[-1])), flush=True)
        measured = files.read_json(KEPT)
        measured[name] = {"on": str(datetime.date.today()), "machine": machine(), "rows": rows}
        files.write_json(KEPT, measured)
        files.write_text("benchmarks/README.md", page(measured))
    print(table({name: measured[name] for name in names or EVERY}))


if __name__ == "__main__":
    main(sys.argv[1:])
