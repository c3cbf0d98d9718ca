"""The page benchmarks/README.md, made of what was measured."""

import os
import platform

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.plots import tables

BENCHMARKS = ("asking", "training", "answering", "scoring")
COLUMNS = ["what", "ours", "compared with", "theirs", "theirs / ours", "wanted", "date"]
MEASURED = "benchmarks/measured.json"  # by name of the benchmark: date, machine and rows
SMALL = "benchmarks/measured_small.json"  # of benchmarks/small_estimate.py
README = """# Benchmarks
Made by `make bench`, which measures both sides of every row one after the other on the same machine, on the date that
the row names. Times are seconds unless a row says otherwise; they are noisy, ratios less so. What other tools make of a
run's files is on a page of its own: [tools.md](tools.md), by `make check-tools`.

{machines}

{table}

{small}
"""
ESTIMATE = """## What the profile `small` takes on a CPU
Computed from measured throughput, not run. `python -m benchmarks.small_estimate` makes it again in some minutes; this is
of {date}, on {machine}, in CPU seconds of one thread. The model has the dimensions of {model} ({weights:,} weights in {precision}) and random
weights, which change neither time nor memory. What was measured:

{measured}

What follows for the whole run of `params/small.yaml` by arithmetic:

{hours}

Assumed is:
{assumptions}

On a GPU or on Apple's chips nothing was measured. The other notebooks take minutes, as in the demo.
"""


def machine() -> str:
    """Return processor and software of this machine, without a name."""
    return f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}"


def table(measured: dict) -> str:
    """Return everything that was measured as one Markdown table."""
    rows = [[*row, one["date"]] for name, one in measured.items() if name in BENCHMARKS for row in one["rows"]]
    return tables.markdown(pd.DataFrame(rows, columns=COLUMNS))


def small(result: dict) -> str:
    """Return the section on the profile `small`."""
    parts = {
        "measured": tables.markdown(pd.DataFrame(result["measured"], columns=["what", "measured"]), ["measured"]),
        "hours": tables.markdown(
            pd.DataFrame(result["computed"], columns=["what", "arithmetic", "CPU hours"]), ["CPU hours"]
        ),
        "assumptions": "\n".join(f"- {line}" for line in result["assumed"]),
    }
    return ESTIMATE.format(**result | parts)


def text() -> str:
    """Return benchmarks/README.md as its measurements make it."""
    measured = files.read_json(MEASURED)
    machines = {name: one["machine"] for name, one in measured.items() if name in BENCHMARKS}
    lines = [
        f"Measured on {words}: {', '.join(name for name in machines if machines[name] == words)}."
        for words in dict.fromkeys(machines.values())
    ]
    parts = {"table": table(measured), "small": small(files.read_json(SMALL)).rstrip()}
    return README.format(machines="\n".join(lines), **parts)


def write() -> None:
    """Write benchmarks/README.md."""
    files.write_text("benchmarks/README.md", text())
