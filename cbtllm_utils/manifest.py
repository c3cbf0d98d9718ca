"""Provenance: runs/<profile>/manifest.json says what a run's results came from; no user names, no paths, no keys."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from cbtllm_utils import files, graph

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


def record(run: str | Path, profile: str, name: str, entry: dict) -> None:
    """Nothing, after one notebook's record was written and the manifest put together again from all records.

    `entry`: {"parameters", "seconds", "peak_memory_mib"}.
    """
    folder = files.path(run) / "records"
    files.write_json(folder / f"{name}.json", entry)
    records = {file.stem: files.read_json(file) for file in sorted(folder.glob("*.json"))}
    named = {name for entry in records.values() for name in graph.named_inputs(entry["parameters"])}
    inputs = {name: files.sha256(name) for name in sorted(named) if files.path(name).exists()}
    manifest = {"profile": profile, "revision": revision(), "machine": machine(), "libraries": versions()}
    files.write_json(files.path(run) / "manifest.json", manifest | {"inputs": inputs, "notebooks": records})


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
    """The version of each library that a result depends on."""
    return {name: metadata.version(name) for name in LIBRARIES}
