"""Hashes of content: of texts, of files and folders."""

import hashlib
import os
from pathlib import Path

from cbtllm_utils import files

LARGE = 200_000_000  # bytes from which a file is known by its size and samples: reading 14 GB takes minutes
SAMPLES, SAMPLE = 64, 1 << 16  # of a large file: 64 pieces of 64 KiB, its two ends among them


def text(value: str) -> str:
    """Return the first 16 hexadecimal digits of a text's SHA-256, by which every artifact knows replies and prompts."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def sha256(name: str | Path) -> str:
    """Return the SHA-256 of a file, or of all files below a folder and their names, in hexadecimal."""
    full = files.path(name)
    if full.is_dir():
        parts = [f"{p.relative_to(full).as_posix()} {sha256(p)}" for p in sorted(full.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    with full.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(place: Path) -> str:
    """Return the content hash of a file or folder; of a large file, of its size and of samples.

    A copied or touched file has the same hash. Trained weights differ everywhere, so samples tell them from others.
    """
    every = sorted(p for p in (place.rglob("*") if place.is_dir() else [place]) if p.is_file())
    if all(p.stat().st_size <= LARGE for p in every):
        return sha256(place)
    hashes = [sampled(p) if p.stat().st_size > LARGE else sha256(p) for p in every]
    return text("\n".join(f"{p.relative_to(place).as_posix()} {h}" for p, h in zip(every, hashes, strict=True)))


def sampled(place: Path) -> str:
    """Return the SHA-256 of a file's size and of pieces at equal distances, the first and the last of it included."""
    size = place.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with place.open("rb") as file:
        for number in range(SAMPLES):
            file.seek((size - SAMPLE) * number // (SAMPLES - 1), os.SEEK_SET)
            found.update(file.read(SAMPLE))
    return found.hexdigest()
