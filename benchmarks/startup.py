"""Start-up: the package beside Python alone, help beside the same parser alone, and `make reproduce` at rest."""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.table import Row
from cbtllm_utils import files
from cbtllm_utils.workflow import graph

REPEATS = 7
EMPTY = """
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
import tempfile
study = {"task_study": lambda: {"actions": [], "uptodate": [True]}, "DOIT_CONFIG": {"dep_file": tempfile.mkdtemp() + "/d"}}
DoitMain(ModuleTaskLoader(study)).run(["run"])
"""


def seconds(*words: str) -> float:
    """The median time of a Python process with these arguments, in seconds."""
    took = []
    for _ in range(REPEATS):
        start = time.monotonic()
        subprocess.run([sys.executable, *words], cwd=files.ROOT, capture_output=True, check=True)
        took.append(time.monotonic() - start)
    return statistics.median(took)


def done(profile: str) -> bool:
    """Whether every notebook of a profile has been run here."""
    return all(
        Path(files.path(f"runs/{profile}/notebooks/{task.name}.ipynb")).exists() for task in graph.tasks(profile)
    )


def rows() -> Iterator[Row]:
    """Import, help, and a reproduction that has nothing to do, where a whole demo run lies here."""
    alone, papermill = seconds("-c", "pass"), seconds("-m", "papermill", "--help")
    package = seconds("-c", "import cbtllm_utils.workflow.run")
    yield Row("import of the package", package, "Python alone", alone, "< 0.3 s", package < 0.3)
    ours = seconds("-m", "cbtllm_utils.workflow.run", "--help")
    yield Row("cbtllm_utils.workflow.run --help", ours, "papermill --help", papermill, "< 0.3 s", ours < 0.3)
    if done("demo"):
        seconds("-m", "cbtllm_utils.workflow.pipeline")  # what was out of date is made now
        ours, empty = seconds("-m", "cbtllm_utils.workflow.pipeline"), seconds("-c", EMPTY)
        yield Row("pipeline, nothing to do", ours, "doit with one empty task", empty)
