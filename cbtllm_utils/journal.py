"""What was paid for, on disk before it is counted: one line a finished request, keyed by the request's hash."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cbtllm_utils import files


def read(path: str | Path) -> dict[str, dict]:
    """The journal's entries by request hash; {} where there is none yet.

    A last line that a kill cut off is taken away, so that its request is asked again; a damaged line elsewhere is an
    InputError with its number, and nothing is changed.
    """
    place = files.path(path)
    if not place.exists():
        return {}
    with place.open("rb") as file:
        lines = file.read().split(b"\n")
    entries = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entries[entry["hash"]] = entry
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise files.InputError(
                    f"{files.shown(path)}, line {number}: damaged; mend or remove that line, the others are kept"
                ) from None
            os.truncate(place, place.stat().st_size - len(line))
    return entries


@contextmanager
def appending(path: str | Path) -> Iterator[TextIO]:
    """The journal, open for `append`; its folder is made."""
    place = files.path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a", encoding="utf-8") as file:
        yield file


def append(file: TextIO, entry: dict) -> None:
    """Nothing, after the entry is on disk: written, flushed, synced."""
    file.write(json.dumps(entry, ensure_ascii=True) + "\n")
    file.flush()
    os.fsync(file.fileno())
