"""The rows of forms that came back, from whatever program they were filled in; `ratings` judges them."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from cbtllm_utils import files, workbooks
from cbtllm_utils.human import blinding
from cbtllm_utils.human.blinding import SCALES

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
    """The rows of a file that the HTML form (or a model rater) saved: a head, then one entry a line."""
    head, *rows = files.read_jsonl(source) or [None]
    if not isinstance(head, dict):
        raise files.InputError("its first line should name form and rater")
    for line, row in enumerate(rows, 2):
        yield {name: head[name] for name in ("form", "rater", "kind") if name in head} | row | {"line": line}


def read_csv(source: Path) -> Iterator[dict]:
    """The rows of a CSV file: form, entry, check or questionID, system; rater and scores."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if absent := [name for name in ("rater", *SCALES) if name not in (reader.fieldnames or [])]:
            raise files.InputError(f"no column {', '.join(absent)}")
        named = {name: "" for name in ("system", "harmful") if name in reader.fieldnames}
        for row in reader:
            whole = {name: value for name, value in row.items() if name and value not in (None, "")}
            ids = {"questionID": int(whole["questionID"])} if whole.get("questionID", "").isdecimal() else {}
            yield named | whole | ids | {"line": reader.line_num}


def read_workbook(source: Path) -> Iterator[dict]:
    """The rows of a filled workbook; the check is that of the text as it stands there now."""
    (_, (_, form, _, rater, *_)), (_, columns), _, *lines = workbooks.lines(source, "entries")
    for line, cells in lines:
        row = dict(zip(columns, cells, strict=True))
        texts = (str(row.pop(name) or "") for name in ("question", "description", "answer"))
        if row["entry"]:
            yield row | {"form": form, "rater": rater, "check": blinding.check(*texts), "line": line}


def read_label_studio(source: Path) -> Iterator[dict]:
    """The rows of Label Studio's JSON export: one task an entry, its last annotation that was not cancelled."""
    for line, task in enumerate(json.loads(source.read_text(encoding="utf-8")), 1):
        data = task["data"]
        done = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
        row = {name: data[name] for name in ("form", "rater", "entry")} | {"line": line}
        row["check"] = blinding.check(data["question"], data["description"], data["answer"])
        for result in done[-1]["result"] if done else []:
            value = result["value"].get("choices") or result["value"].get("text") or [""]
            row[result["from_name"]] = value if isinstance(value, str) else value[0]
        yield row | {"harmful": "harmful" in row}


READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".xlsx": read_workbook, ".json": read_label_studio}
