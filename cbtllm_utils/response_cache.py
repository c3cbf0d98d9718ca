"""Answers on disk before they count: JSON Lines, one line per finished request, looked up by the request's hash."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from cbtllm_utils import files


def read(path: str | Path) -> dict[str, dict]:
    """Read the entries of a cache by request hash; {} where there is no cache yet.

    A last line that a kill cut off does not count, so that its request is asked again. What version 0.1 left under its
    own name beside this cache counts as well, as in a folder that was copied over another.

    Raises:
        InputError: With its number, for a damaged line elsewhere.
    """
    place = located(path)
    entries: dict[str, dict] = {}
    for one in dict.fromkeys((old_name(place), place)):
        if one.exists():
            entries |= entries_of(one)
    return entries


def entries_of(place: Path) -> dict[str, dict]:
    """Return the entries in one file."""
    entries, damaged = {}, 0
    with place.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                if damaged:
                    advice = "repair or remove that line; the others are not affected"
                    raise files.InputError(f"{files.shown(place)}, line {damaged}: damaged; {advice}")
                if found := entry(line):
                    entries[found["hash"]] = found
                else:
                    damaged = number
    return entries


@contextmanager
def appending(path: str | Path) -> Iterator[TextIO]:
    """Open a cache for `append`: its folder is made, and what a kill cut off at its end is removed first."""
    place = located(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+b") as file:
        repair_end(file)
    files.sync_names(place.parent)
    with place.open("a", encoding="utf-8") as file:
        yield file


def append(file: TextIO, answered: dict) -> None:
    """Write an entry, and return once it is on disk: neither a kill nor a power loss takes it back."""
    file.write(json.dumps(answered, ensure_ascii=True) + "\n")
    file.flush()
    os.fsync(file.fileno())


def located(path: str | Path) -> Path:
    """Return the absolute path of a cache; one that still has the name that version 0.1 gave it is renamed first."""
    place = files.path(path)
    if not place.exists():
        for new in (place.with_suffix(".batches.json"), place):  # the answers last: a kill in between is made good
            if (old := old_name(new)).exists():
                new.parent.mkdir(exist_ok=True)
                old.rename(new)
    return place


def old_name(place: Path) -> Path:
    """Return what version 0.1 called a cache: journal where it is responses now, journals for a folder of them."""
    if place.parent.name == "responses":
        return place.parent.with_name("journals") / place.name
    return place.with_name(place.name.replace("responses", "journal"))


def entry(line: bytes) -> dict | None:
    """Return the entry in a line, or None where the line is damaged."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("hash"), str) else None


def repair_end(file: BinaryIO) -> None:
    """Make a file end with a whole line: half a line is cut off, a whole one gets its line break."""
    file.seek(0)
    content = file.read()
    whole = content.rstrip(b"\r\n")
    start = whole.rfind(b"\n") + 1
    if whole[start:].strip() and not entry(whole[start:]):
        file.truncate(start)
    elif whole and not content.endswith(b"\n"):
        file.write(b"\n")  # otherwise the next entry would share its line
