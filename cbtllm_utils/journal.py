"""What was paid for, on disk before it is counted: one line a finished request, keyed by the request's hash."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from cbtllm_utils import files


def read(path: str | Path) -> dict[str, dict]:
    """The journal's entries by request hash; {} where there is none yet. Nothing is changed.

    A last line that a kill cut off does not count, so that its request is asked again; a damaged line elsewhere is an
    InputError with its number.
    """
    place = files.path(path)
    if not place.exists():
        return {}
    lines = place.read_bytes().rstrip(b"\r\n").split(b"\n")
    entries = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            if found := entry(line):
                entries[found["hash"]] = found
            elif number < len(lines):
                advice = "mend or remove that line, the others are kept"
                raise files.InputError(f"{files.shown(path)}, line {number}: damaged; {advice}")
    return entries


def entry(line: bytes) -> dict | None:
    """The entry in a line; None where the line is damaged."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "hash" in found else None


@contextmanager
def appending(path: str | Path) -> Iterator[TextIO]:
    """The journal, open for `append`; its folder is made, and what a kill cut off at its end is taken away first."""
    place = files.path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+b") as file:
        mend(file)
    with place.open("a", encoding="utf-8") as file:
        yield file


def mend(file: BinaryIO) -> None:
    """Nothing, after the file ends with a whole line: half a line is cut off, a whole one gets its line break."""
    file.seek(0)
    content = file.read()
    whole = content.rstrip(b"\r\n")
    start = whole.rfind(b"\n") + 1
    if whole[start:].strip() and not entry(whole[start:]):
        file.truncate(start)
    elif whole and not content.endswith(b"\n"):
        file.write(b"\n")  # else the next entry would share its line


def append(file: TextIO, answered: dict) -> None:
    """Nothing, after the entry is on disk: written, flushed, synced."""
    file.write(json.dumps(answered, ensure_ascii=True) + "\n")
    file.flush()
    os.fsync(file.fileno())
