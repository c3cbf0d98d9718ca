"""Provenance: runs/<profile>/manifest.json says what a run's results came from; no user names, no paths, no keys."""

import importlib.util
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from cbtllm_utils import files, hashing
from cbtllm_utils.workflow import graph

LIBRARIES = ("papermill", "nbconvert", "jupyterlab", "torch", "transformers", "peft", "datasets", "openai", "jury")
LIBRARIES += (
    "pandas",
    "matplotlib",
    "scikit-learn",
    "sacrebleu",
    "nltk",
    "bert-score",
    "sentencepiece",
    "krippendorff",
)
OPTIONAL = ("bitsandbytes",)


def record(run: str | Path, profile: str, name: str, entry: dict) -> None:
    """Nothing, after one notebook's record was written and the manifest put together again from all records.

    `entry`: {"parameters", "seconds", "peak_memory_mib"}.
    """
    folder = files.path(run) / "records"
    made = entry | {"parameters": public(entry["parameters"]), "inputs": inputs(entry["parameters"])}
    files.write_json(folder / f"{name}.json", made)
    records = {file.stem: files.read_json(file) for file in sorted(folder.glob("*.json"))}
    named = {name: hashed for made in records.values() for name, hashed in made.get("inputs", {}).items()}
    manifest = {"profile": profile, "revision": revision(), "machine": machine(), "libraries": versions()}
    files.write_json(
        files.path(run) / "manifest.json", manifest | {"inputs": dict(sorted(named.items())), "notebooks": records}
    )


def recorded(task: graph.Task, run: str) -> bool:
    """Whether the last run of a notebook had the profile's parameters: one with others, by hand, is made again."""
    place = files.path(f"{run}/records/{task.name}.json")
    return place.exists() and files.read_json(place)["parameters"] == public(task.parameters)


def inputs(parameters: dict) -> dict[str, str]:
    """The content hash of each file that parameters name, by its name without the folders of a user."""
    named = [name for name in graph.named_inputs(parameters) if not name.startswith("backbones/")]
    return {files.shown(name): hashing.content(files.path(name)) for name in named if files.path(name).exists()}


def public(value: object) -> object:
    """A parameter's value with absolute paths cut down to their last part, at any depth."""
    if isinstance(value, dict):
        return {key: public(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [public(inner) for inner in value]
    return files.public(value) if isinstance(value, str) else value


def revision() -> str | None:
    """The git revision, with "+" when files differ from it; None outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=files.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict:
    """What the figures of a run depend on besides the code: no names, no paths."""
    return {"system": platform.system(), "architecture": platform.machine(), "python": platform.python_version()}


def versions() -> dict[str, str]:
    """The version of each library that a result depends on; of one that need not be there, where it is."""
    more = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    return {name: metadata.version(name) for name in (*LIBRARIES, *more)}
