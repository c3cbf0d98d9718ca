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
    entries, damaged = {}, 0
    with place.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                if damaged:
                    advice = "mend or remove that line, the others are kept"
                    raise files.InputError(f"{files.shown(path)}, line {damaged}: damaged; {advice}")
                if found := entry(line):
                    entries[found["hash"]] = found
                else:
                    damaged = number
    return entries


def entry(line: bytes) -> dict | None:
    """The entry in a line; None where the line is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("hash"), str) else None


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
    size, span = file.seek(0, os.SEEK_END), 1 << 20
    while True:  # the end of the file, as far back as its last line reaches
        file.seek(max(0, size - span))
        content = file.read()
        whole = content.rstrip(b"\r\n")
        if b"\n" in whole or span >= size:
            break
        span *= 2
    start = whole.rfind(b"\n") + 1
    if whole[start:].strip() and not entry(whole[start:]):
        file.truncate(size - len(content) + start)
    elif whole and not content.endswith(b"\n"):
        file.write(b"\n")  # else the next entry would share its line


def append(file: TextIO, answered: dict) -> None:
    """Nothing, after the entry is on disk: written, flushed, synced."""
    file.write(json.dumps(answered, ensure_ascii=True) + "\n")
    file.flush()
    os.fsync(file.fileno())
