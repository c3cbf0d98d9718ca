"""Hashes of content: of texts, of files and folders."""

import hashlib
from pathlib import Path

from cbtllm_utils import files

LARGE = 200_000_000  # bytes


def text(value: str) -> str:
    """The first 16 hexadecimal digits of a text's SHA-256: how replies and prompts are told apart in every artifact."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sha256(name: str | Path) -> str:
    """The content hash of a file, or of all files below a directory by name, in hexadecimal."""
    full = files.path(name)
    if full.is_dir():
        parts = [f"{p.relative_to(full).as_posix()} {sha256(p)}" for p in sorted(full.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with full.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(place: Path) -> str:
    """The content hash of a file or folder; weights, which take minutes to read, count by size and time of change."""
    every = sorted(p for p in (place.rglob("*") if place.is_dir() else [place]) if p.is_file())
    large = [p for p in every if p.stat().st_size > LARGE]
    if not large:
        return sha256(place)
    facts = [f"{p.relative_to(place).as_posix()} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in large]
    return text("\n".join([*facts, *(sha256(p) for p in every if p not in large)]))
