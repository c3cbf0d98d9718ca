"""Run what is out of date, in order, several notebooks at a time: doit's graph, with its state kept per profile."""

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Iterator

from doit.action import CmdAction

from cbtllm_utils import files
from cbtllm_utils.workflow import downloads, environment, fingerprint, locks, preflight, profiles, provenance
from cbtllm_utils.workflow.graph import Task, makers, tasks
from cbtllm_utils.workflow.progress import Progress


def report_unchanged(task: object, values: dict) -> bool:
    """Return whether the code that binds the report is as it was; doit calls it, and asks for these names."""
    now = fingerprint.report()
    task.value_savers.append(lambda: {"fingerprint": now})
    return values.get("fingerprint") == now


def command(task: Task, profile: str, *options: str) -> str:
    """Return the shell command of a task; LAUNCH (srun …, flock …) comes before the steps that need a GPU."""
    words = [sys.executable, "-m", "cbtllm_utils.workflow.run", task.step.notebook, *options, "--profile", profile]
    words += [f"backbone={task.backbone}"] if task.backbone else []
    launch = os.environ.get("LAUNCH", "") if task.step.gpu else ""
    return f"{launch} {shlex.join(words)}".strip().replace("%", "%%")  # doit fills in %(…)s


def action(shell_command: str) -> CmdAction:
    """Return the command as doit runs it: in the repository, in a clean environment, its standard output unread.

    What it starts inherits the lock on the run.
    """
    clean = {"cwd": files.ROOT, "env": environment.clean(), "close_fds": False}
    return CmdAction(f"{shell_command} > {os.devnull}", **clean)


def doit_tasks(profile: str, *options: str) -> Iterator[dict]:
    """Yield the profile's tasks in doit's form, the report last; `options` are given to each notebook's run."""
    every, run = tasks(profile), f"runs/{profile}"
    for task in every:
        yield {
            "name": task.name,
            "actions": [action(command(task, profile, *options))],
            "task_dep": [f"study:{name}" for name in makers(task, every)],
            "targets": [str(files.path(f"{run}/{name}")) for name in task.writes],
            "uptodate": [
                functools.partial(provenance.recorded, task, run),
                functools.partial(provenance.complete, task, run),
                functools.partial(fingerprint.unchanged, task, run),
            ],
        }
    words = [sys.executable, "-m", "cbtllm_utils.workflow.report", "--profile", profile]
    yield {
        "name": "report",
        "actions": [action(shlex.join(words))],
        "task_dep": [f"study:{task.name}" for task in every],
        "file_dep": [str(files.path(f"{run}/notebooks/{task.name}.ipynb")) for task in every],
        "uptodate": [report_unchanged],
        "targets": [str(files.path(f"{run}/report.html"))],
    }


def config(profile: str, jobs: int = 1) -> dict:
    """Return doit's settings: state kept per profile; a failure stops only what follows from it."""
    state = files.path(f"runs/{profile}/.doit.json")
    state.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.read_json(state)
    except files.InputError:  # a kill left half of it; all it knows is whether the report is current
        state.unlink(missing_ok=True)
    return {
        "dep_file": str(state),
        "backend": "json",
        "reporter": Progress,
        "continue": True,
        "verbosity": 2,
        "num_process": jobs if jobs > 1 else 0,
        "par_type": "thread",
    }


def reproduce(profile: str, jobs: int) -> int:
    """Make everything that is out of date, say where to read it, and return doit's exit status."""
    from doit.cmd_base import ModuleTaskLoader
    from doit.doit_cmd import DoitMain

    preflight.check(profile)
    needs = profiles.requirements(profiles.read(profile))
    print(*(f"{line}\n" for line in downloads.announced(needs)), sep="", end="", flush=True)
    downloads.fetch(needs)
    with locks.whole_run(f"runs/{profile}"):
        study = {"task_study": lambda: doit_tasks(profile, "--held"), "DOIT_CONFIG": config(profile, jobs)}
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
    try:
        return reproduce(given.profile, given.jobs)
    except (files.InputError, OSError) as error:
        print(f"error: {files.explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; finished work is kept; `make reproduce` continues from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a terminal in GBK has no ▶
    sys.exit(main())
