"""Run what is out of date, in order, several notebooks at a time: doit's graph, with its state kept per profile."""

import argparse
import contextlib
import fcntl
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator

from doit.action import CmdAction

from cbtllm_utils import files
from cbtllm_utils.workflow import environment, fingerprint, preflight, provenance
from cbtllm_utils.workflow.graph import Task, makers, tasks
from cbtllm_utils.workflow.progress import Progress


def unchanged(current: Callable[[], str]) -> Callable[[object, dict], bool]:
    """Return what doit asks whether a task is up to date; `task` and `values` are the names by which doit calls it."""

    def check(task: object, values: dict) -> bool:
        now = current()
        task.value_savers.append(lambda: {"fingerprint": now})
        return values.get("fingerprint") == now

    return check


def command(task: Task, profile: str) -> str:
    """Return the shell command of a task; LAUNCH (srun …, flock …) comes before the steps that need a GPU."""
    words = [sys.executable, "-m", "cbtllm_utils.workflow.run", task.step.notebook, "--profile", profile]
    words += [f"backbone={task.backbone}"] if task.backbone else []
    launch = os.environ.get("LAUNCH", "") if task.step.gpu else ""
    return f"{launch} {shlex.join(words)}".strip().replace("%", "%%")  # doit fills in %(…)s


def action(shell_command: str) -> CmdAction:
    """Return the command as doit runs it: in the repository, in a clean environment, its standard output unread."""
    return CmdAction(f"{shell_command} > {os.devnull}", cwd=files.ROOT, env=environment.clean())


def doit_tasks(profile: str) -> Iterator[dict]:
    """Yield the profile's tasks in doit's form, the report last."""
    every, run = tasks(profile), f"runs/{profile}"
    for task in every:
        yield {
            "name": task.name,
            "actions": [action(command(task, profile))],
            "task_dep": [f"study:{name}" for name in makers(task, every)],
            "targets": [str(files.path(f"{run}/{name}")) for name in task.writes],
            "uptodate": [
                functools.partial(provenance.recorded, task, run),
                functools.partial(provenance.complete, task, run),
                unchanged(functools.partial(fingerprint.fingerprint, task, run)),
            ],
        }
    words = [sys.executable, "-m", "cbtllm_utils.workflow.report", "--profile", profile]
    yield {
        "name": "report",
        "actions": [action(shlex.join(words))],
        "task_dep": [f"study:{task.name}" for task in every],
        "file_dep": [str(files.path(f"{run}/notebooks/{task.name}.ipynb")) for task in every],
        "uptodate": [unchanged(fingerprint.report)],
        "targets": [str(files.path(f"{run}/report.html"))],
    }


def config(profile: str, jobs: int = 1) -> dict:
    """Return doit's settings: state kept per profile; a failure stops only what follows from it."""
    state = files.path(f"runs/{profile}")
    state.mkdir(parents=True, exist_ok=True)
    return {
        "dep_file": str(state / ".doit.json"),
        "backend": "json",
        "reporter": Progress,
        "continue": True,
        "verbosity": 2,
        "num_process": jobs if jobs > 1 else 0,
        "par_type": "thread",
    }


@contextlib.contextmanager
def alone(profile: str) -> Iterator[None]:
    """Hold a lock on the run's folder: two runs of one profile would write into each other's files."""
    place = files.path(f"runs/{profile}")
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise files.InputError(
                f"runs/{profile}: another run of this profile is at work; wait for it or stop it"
            ) from None
        yield


def reproduce(profile: str, jobs: int) -> int:
    """Make everything that is out of date, say where to read it, and return doit's exit status."""
    from doit.cmd_base import ModuleTaskLoader
    from doit.doit_cmd import DoitMain

    preflight.check(profile)
    with alone(profile):
        study = {"task_study": lambda: doit_tasks(profile), "DOIT_CONFIG": config(profile, jobs)}
        status = DoitMain(ModuleTaskLoader(study), config_filenames=()).run(["run"])
    if status == 0:
        print(f"To read: runs/{profile}/report.html, in any browser. Beside it: tables/, figures/, notebooks/")
    return status


def main(argv: list[str] | None = None) -> int:
    """Run a profile; return 0, or 1 with a line for each error, or 130 after an interrupt."""
    parser = argparse.ArgumentParser(
        prog="python -m cbtllm_utils.workflow.pipeline", description="Run what is out of date."
    )
    parser.add_argument("--profile", default="demo", help="a parameter file below params/ (demo)")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (2)")
    given = parser.parse_args(argv)
    sys.stdout.reconfigure(errors="replace")  # a terminal in GBK has no ▶
    try:
        return reproduce(given.profile, given.jobs)
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept, `make reproduce` goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
