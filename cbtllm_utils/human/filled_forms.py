"""Readers for filled forms, by the ending of the file; `ratings` checks the rows that they yield."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from cbtllm_utils import files, safe_spreadsheets
from cbtllm_utils.human import blinding
from cbtllm_utils.human.blinding import SCALES

# What a reader may raise on a file that is not a filled form: each of them means a damaged file or one of another kind.
UNREADABLE = (
    files.InputError,
    csv.Error,
    RecursionError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
)


def read_jsonl(source: Path) -> Iterator[dict]:
    """Yield the entries of a file that the HTML page (or a model rater) saved: a head, then one entry per line."""
    head, *rows = files.read_jsonl(source) or [None]
    if not isinstance(head, dict):
        raise files.InputError("its first line should name form and rater")
    for line, row in enumerate(rows, 2):
        yield {name: head[name] for name in ("form", "rater", "kind") if name in head} | row | {"line": line}


def read_csv(source: Path) -> Iterator[dict]:
    """Yield the rows of a CSV file: rater, scores, and either form, entry and check or questionID and system."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if absent := [name for name in ("rater", *SCALES) if name not in (reader.fieldnames or [])]:
            raise files.InputError(f"no column {', '.join(absent)}")
        empty = {name: "" for name in ("system", "harmful") if name in reader.fieldnames}
        for row in reader:
            given = {name: value for name, value in row.items() if name and value not in (None, "")}
            ids = {"questionID": int(given["questionID"])} if given.get("questionID", "").isdecimal() else {}
            yield empty | given | ids | {"line": reader.line_num}


def read_workbook(source: Path) -> Iterator[dict]:
    """Yield the entries of a filled workbook, with the checksum of the texts as they are now."""
    (_, (_, form, _, rater, *_)), (_, columns), _, *rows = safe_spreadsheets.read_rows(source, "entries")
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=True))
        texts = (str(row.pop(name) or "") for name in ("question", "description", "answer"))
        if row["entry"]:
            yield row | {"form": form, "rater": rater, "check": blinding.checksum(*texts), "line": line}


def read_label_studio(source: Path) -> Iterator[dict]:
    """Yield the entries of Label Studio's JSON export: of each task the last annotation that was not canceled."""
    for line, task in enumerate(json.loads(source.read_text(encoding="utf-8")), 1):
        data = task["data"]
        done = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
        row = {name: data[name] for name in ("form", "rater", "entry")} | {"line": line}
        row["check"] = blinding.checksum(data["question"], data["description"], data["answer"])
        for result in done[-1]["result"] if done else []:
            value = result["value"].get("choices") or result["value"].get("text") or [""]
            row[result["from_name"]] = value if isinstance(value, str) else value[0]
        yield row | {"harmful": "harmful" in row}


READERS: dict[str, Callable[[Path], Iterator[dict]]] = {
    ".jsonl": read_jsonl,
    ".csv": read_csv,
    ".xlsx": read_workbook,
    ".json": read_label_studio,
}
