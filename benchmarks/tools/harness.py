"""The environments, the figures and the page of the checks with other tools."""

import contextlib
import datetime
import fcntl
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import pandas as pd

from benchmarks import page
from cbtllm_utils import files
from cbtllm_utils.plots import tables
from cbtllm_utils.workflow import graph

TOOLS = ("llama_factory", "vllm", "tokenizers", "servers", "label_studio", "notebooks", "formats", "training_log")
KEPT = "tools.json"  # below benchmarks/; by name of the check: title, date, machine, versions and rows
PAGE = "tools.md"
PARENT = "CBTLLM_TOOLS"  # environment variable: where the environments are made, in place of .tools/
ENDING = 60.0  # seconds that a server has to end before it is killed
ENDS = ("the check", "runs to its end")  # the row of one that failed
VERSIONS = (
    "import json, sys; from importlib.metadata import version; print(json.dumps([version(p) for p in sys.argv[1:]]))"
)
VERDICTS = {True: "yes", False: "MISSED", None: "not judged"}
TEXT = """# With other tools
Made by `make check-tools`, which has each tool, in an environment of its own, read or serve what a run of the profile
`demo` wrote, as a user of the tool would. `make check-tools TOOLS="{some}"` runs some of them; the others keep the rows
of their last run. What is wanted is computed by the package on the same run.

TOOLS takes any of {every}.
The environments are made below `.tools/` when they are first needed and downloaded once, about 14 GB for all. All checks take about an hour on two cores.
"""


@dataclass(frozen=True)
class Place:
    """Where a check works: a finished run, which it only reads; an empty folder; each environment's `bin` by name."""

    run: Path
    work: Path
    environments: dict[str, Path]


@dataclass(frozen=True)
class Figure:
    """One row: what was compared, what came out and what was wanted. `holds` is None for a measurement alone."""

    what: str
    found: str
    wanted: str
    holds: bool | None


def environment(name: str, requirements: list[str]) -> Path:
    """Return the `bin` folder of a virtual environment with these requirements; make it if it is missing or other.

    Two calls at once wait for each other. A list that pip did not install to its end is installed again.
    """
    parent = files.path(os.environ.get(PARENT) or ".tools")
    parent.mkdir(parents=True, exist_ok=True)
    folder, wanted = parent / name, "\n".join(requirements) + "\n"
    record = folder / "requirements.txt"
    with (parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists() or record.read_text() != wanted:
            print(f"Installing {', '.join(requirements)} into {files.shown(folder)}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, *requirements], check=True)
            record.write_text(wanted)
    return folder / "bin"


def inside(environment: Path, script: str, *arguments: object, **options: object) -> str:
    """Return what a script of `inside/` prints when the Python of an environment runs it, this repository unseen.

    Args:
        environment: The `bin` folder.
        script: The file's name.
        arguments: For the script.
        options: For `subprocess.run` (env, timeout, cwd).

    Raises:
        RuntimeError: With the last lines of what the script wrote to stderr, when it fails.
    """
    command = [environment / "python", "-E", Path(__file__).parent / "inside" / script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}: {' / '.join(done.stderr.splitlines()[-5:])}")
    return done.stdout


@contextlib.contextmanager
def served(command: list[object], path: str, log: Path, seconds: int = 300, **options: object) -> Iterator[str]:
    """Run a server program on a free port of the loopback and yield its address; it ends with the block.

    Args:
        command: The program and its arguments, with `{port}` where the port belongs.
        path: Asked until the server answers, with whatever status.
        log: The file of what the program writes.
        seconds: The most that the start may take.
        options: For `subprocess.Popen` (env, cwd).

    Raises:
        RuntimeError: With the last lines of the log, where the program ends or does not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    words = [str(word).replace("{port}", address.rpartition(":")[2]) for word in command]
    with log.open("w") as out:
        process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, **options)
    try:
        try:
            until(lambda: process.poll() is not None or answers(address + path), "an answer", seconds)
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}")
        except RuntimeError as error:
            last = " / ".join(log.read_text(errors="replace").splitlines()[-5:])
            raise RuntimeError(f"{Path(words[0]).name} does not serve: {error}: {last}") from None
        yield address
    finally:
        process.terminate()
        try:
            process.wait(ENDING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    """Return whether a server answers at a URL, be it by an error of HTTP."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:  # of `transformers serve`, which lists no models without a cache of the hub's
        return True
    except OSError:
        return False
    return True


def until(found: Callable[[], object], what: str, seconds: float = 60) -> object:
    """Return what a function finds once it finds something; RuntimeError says what it did not find in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.5)
    raise RuntimeError(f"after {seconds} s still not: {what}")


def versions(packages: list[str], environments: dict[str, Path]) -> list[str]:
    """Return the versions of packages as words; the name of the environment behind those that two of them differ in."""
    found: dict[str, dict[str, list[str]]] = {package: {} for package in packages}
    pythons = {name: place / "python" for name, place in environments.items()} or {"": Path(sys.executable)}
    for name, python in pythons.items():
        for package in packages:
            asked = subprocess.run([python, "-E", "-c", VERSIONS, package], capture_output=True, text=True)
            if asked.returncode == 0:
                found[package].setdefault(json.loads(asked.stdout)[0], []).append(name)
    if absent := [package for package, by in found.items() if not by]:
        raise RuntimeError(f"in no environment of this check: {', '.join(absent)}")
    return [
        f"{package} {version}" + (f" ({', '.join(names)})" if len(by) > 1 else "")
        for package, by in found.items()
        for version, names in by.items()
    ]


def finished(run: str | Path) -> Path:
    """Return the folder of a run that has all that its notebooks write; InputError names what is missing."""
    for task in graph.tasks("demo"):
        for name in task.writes:
            if not (files.path(run) / name).exists():
                raise files.InputError(f"{files.shown(run)}/{name} is not there: `make reproduce` first")
    return files.path(run)


def figures(check: object, run: Path, versions_found: list[str]) -> list[Figure]:
    """Return the figures of a module's check, or the one figure that says how it failed.

    Args:
        check: The module.
        run: A finished run.
        versions_found: The list to which the versions of the tools are added, known even where the check fails.
    """
    try:
        environments = {name: environment(name, needs) for name, needs in check.ENVIRONMENTS.items()}
        versions_found += versions(check.PACKAGES, environments)
        with files.temporary_folder(run.parent / "check-tools") as work:
            found = check.check(Place(run, work, environments))
        return [replace(row, holds=None if row.holds is None else bool(row.holds)) for row in found]  # numpy's, too
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        what, wanted = ENDS
        return [Figure(what, files.one_line(f"{type(error).__name__}: {error}")[:300], wanted, False)]


def record(name: str, check: object, run: Path, kept: str | Path) -> list[Figure]:
    """Run one check, put its figures in the place of its old ones in the file `kept`, and return them."""
    known: list[str] = []
    rows = figures(check, run, known)
    now = {"title": check.TITLE, "date": str(datetime.date.today()), "machine": page.machine(), "versions": known}
    others = files.read_json(kept) if files.path(kept).exists() else {}
    files.write_json(kept, others | {name: now | {"rows": [list(astuple(row)) for row in rows]}})
    return rows


def text(kept: dict) -> str:
    """Return the page of all figures that are kept, in the order of TOOLS; those that were missed are listed first."""
    names = [name for name in TOOLS if name in kept]
    missed = [(name, *row) for name in names for row in kept[name]["rows"] if row[3] is False]
    lines = "".join(
        f"- MISSED: `{name}`: {what}: {found} (wanted: {wanted})\n" for name, what, found, wanted, _ in missed
    )
    words = {"some": " ".join(TOOLS[:2]), "every": ", ".join(f"`{name}`" for name in TOOLS)}
    parts = [TEXT.format(**words), *([lines] if missed else [])]
    for name in names:
        one = kept[name]
        rows = [[what, found, wanted, VERDICTS[holds]] for what, found, wanted, holds in one["rows"]]
        table = tables.markdown(pd.DataFrame(rows, columns=["what", "found", "wanted", "holds"]))
        about = f"`{name}`, {one['date']}, {one['machine']}; {', '.join(one['versions']) or 'no other package'}."
        parts.append(f"## {one['title']}\n{about}\n\n{table}\n")
    return "\n".join(parts)


def main(names: list[str], run: str | Path = "runs/demo", pages: str | Path = "benchmarks") -> int:
    """Run the named checks or all, and write their figures and the page of all to the folder `pages`.

    Returns:
        0 when every figure holds, 1 when one does not, 2 when nothing was run.
    """
    kept, page_file = files.path(pages) / KEPT, files.path(pages) / PAGE
    try:
        if unknown := sorted(set(names) - set(TOOLS)):
            raise files.InputError(f"unknown tool {', '.join(unknown)}; there are {', '.join(TOOLS)}")
        folder = finished(run)
    except files.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    holding = True
    for name in names or TOOLS:
        check = importlib.import_module(f"benchmarks.tools.{name}")
        print(f"{name}: {check.TITLE}", flush=True)
        for row in record(name, check, folder, kept):
            print(f"  {row.what}: {row.found} (wanted: {row.wanted or '–'}; {VERDICTS[row.holds]})", flush=True)
            holding &= row.holds is not False
        files.write_text(page_file, text(files.read_json(kept)))
    return 0 if holding else 1
