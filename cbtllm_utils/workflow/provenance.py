"""Provenance: what a run's results came from, without user names, paths or keys (runs/<profile>/provenance.json)."""

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from cbtllm_utils import files, hashing
from cbtllm_utils.workflow import graph, locks

LIBRARIES = (
    *("papermill", "nbconvert", "jupyterlab", "torch", "transformers", "peft", "accelerate", "datasets", "openai"),
    *("jury", "pandas", "matplotlib", "scikit-learn", "scipy", "sacrebleu", "nltk", "bert-score", "sentencepiece"),
    *("krippendorff", "bitsandbytes"),
)


def record(run: str | Path, profile: str, name: str, entry: dict) -> None:
    """Write one notebook's record, and the run's provenance from all records.

    Args:
        run: The run's folder.
        profile: Its profile.
        name: The task's name.
        entry: {"parameters", "fingerprint", "files", "seconds", "peak_memory_mib"}.
    """
    folder = files.path(run) / "records"
    made = entry | {"parameters": public(entry["parameters"]), "inputs": inputs(entry["parameters"])}
    now = {"revision": revision(), "libraries": versions()}
    # Of two steps that end at once the last one must know the other's record.
    with locks.in_turn(folder.with_name(".records.lock")):
        files.write_json(folder / f"{name}.json", made | now)
        records = {file.stem: files.read_json(file) for file in sorted(folder.glob("*.json"))}
        named = {name: hashed for made in records.values() for name, hashed in made.get("inputs", {}).items()}
        whole = {"profile": profile, "machine": machine()} | now
        whole |= {"inputs": dict(sorted(named.items())), "notebooks": records}
        files.write_json(files.path(run) / "provenance.json", whole)


def forget(run: str | Path, name: str) -> None:
    """Remove a notebook's record, so that it counts as out of date until it has run to its end.

    What it lists as missing is removed too, after the record: it lists that anew.
    """
    folder = files.path(run) / "records"
    with locks.in_turn(folder.with_name(".records.lock")):
        (folder / f"{name}.json").unlink(missing_ok=True)
    files.missing(run, name).unlink(missing_ok=True)


def complete(task: graph.Task, run: str) -> bool:
    """Return whether each request of a notebook's last run found an answer: one without is asked for again."""
    return not files.missing(run, task.name).exists()


def recorded(task: graph.Task, run: str) -> bool:
    """Return whether a notebook's last run had the profile's parameters, and all that it wrote is still there."""
    made = read(run, task.name)
    there = all((files.path(run) / name).exists() for name in made.get("files", []))
    return there and made.get("parameters") == public(task.parameters)


def read(run: str | Path, name: str) -> dict:
    """Return a notebook's record, or {} where it has not run to its end."""
    place = files.path(run) / "records" / f"{name}.json"
    return files.read_json(place) if place.exists() else {}


def below(run: str | Path, written: Iterable[str]) -> list[str]:
    """Return those of these paths that are in a run's folder, by their names there, without what is gone or hidden."""
    top = files.path(run)
    inside = {Path(place).relative_to(top) for place in written if Path(place).is_relative_to(top)}
    shown = (name for name in inside if not any(part.startswith(".") for part in name.parts))
    return sorted(name.as_posix() for name in shown if (top / name).exists())


def inputs(parameters: dict) -> dict[str, str]:
    """Return the content hash of each file that parameters name, by its name without the folders of a user.

    A model of the hub has the commit at which it is in the local cache, whatever revision its name asks for.
    """
    named = [name for name in graph.named_inputs(parameters) if not name.startswith(files.TINY)]
    found = {files.shown(name): hashing.content(files.path(name)) for name in named if files.path(name).exists()}
    return found | graph.hub_commits(parameters)


def public(value: object) -> object:
    """Return a parameter's value with paths outside the repository cut to their last part, at any depth."""
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    return files.public(value) if isinstance(value, str) else value


def revision() -> str | None:
    """Return the git revision, with "+" when tracked files differ from it; None outside a repository.

    The repository is this folder's, whatever GIT_DIR says and whether a folder above belongs to another one.
    """
    elsewhere = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    here = {name: value for name, value in os.environ.items() if name not in elsewhere}
    options = {"env": here | {"GIT_CEILING_DIRECTORIES": str(files.ROOT.parent)}, "capture_output": True}

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=files.ROOT, text=True, check=True, **options).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, str]:
    """Return system, architecture and Python version: what numbers depend on besides the code."""
    return {"system": platform.system(), "architecture": platform.machine(), "python": platform.python_version()}


def versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the version of each library that is installed: bitsandbytes need not be."""
    there = {distribution.name for distribution in metadata.distributions()}
    return {name: metadata.version(name) for name in names if name in there}
