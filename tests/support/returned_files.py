"""Files as people return them: filled pages and workbooks, and what programs, mailboxes and phones make of them."""

import csv
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl

from cbtllm_utils.human import blinding, forms
from cbtllm_utils.human.blinding import SCALES, Sheet

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
PASSWORD = OLE + "EncryptedPackage".encode("utf-16-le") + bytes(64)
XLS = OLE + "Workbook".encode("utf-16-le") + bytes(64)


def scores(sheet: Sheet, who: int = 0, entries: int | None = None) -> dict[str, tuple[int, ...]]:
    """Return the scores of a person: different people differ in most of them."""
    random = np.random.default_rng([who, 7])
    drawn = random.integers(0, 3, (len(sheet.entries), 3)).tolist()
    return {e.entry: tuple(row) for e, row in list(zip(sheet.entries, drawn, strict=True))[:entries]}


def page(sheet: Sheet, given: dict[str, tuple], **head: object) -> bytes:
    """Return what the page of a form saves; forms of version 0.2 saved no name and no time."""
    first = {"form": sheet.form, "rater": sheet.rater, "kind": "person", "language": "zh"} | head
    rows = [
        {"entry": e.entry, "check": e.check} | dict(zip(SCALES, given[e.entry], strict=True)) | {"harmful": False}
        for e in sheet.entries
        if e.entry in given
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in (first, *rows)).encode()


def filled(sheet: Sheet, given: dict[str, tuple], name: str = "") -> openpyxl.Workbook:
    """Return a filled workbook."""
    book = forms.workbook(sheet, forms.rubric(), "zh")
    table = book["entries"]
    table["F1"] = name or None
    for row in table.iter_rows(min_row=forms.HEAD + 1):
        for column, score in zip((6, 7, 8), given.get(row[1].value, ()), strict=False):
            row[column].value = score
    return book


def saved(book: openpyxl.Workbook) -> bytes:
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def grid(book: openpyxl.Workbook, sheet: str = "entries") -> list[list[str]]:
    """Return a sheet's cells as texts, as a program exports them."""
    return [["" if cell is None else str(cell) for cell in row] for row in book[sheet].iter_rows(values_only=True)]


def exported(rows: list[list[str]], delimiter: str = ",", encoding: str = "utf-8", ends: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ends, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode(encoding, "replace")


def packed(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in members.items():
            archive.writestr(name, part)
    return content.getvalue()


def label_studio(sheet: Sheet, by: dict[object, dict[str, tuple]], name: str | None = None) -> list[dict]:
    """Return Label Studio's export of a form that several people rated in one project."""
    tasks = forms.label_studio_tasks(sheet, forms.rubric(), "zh")
    for task in tasks:
        task["annotations"] = []
        for user, given in by.items():
            if task["data"]["entry"] in given:
                pairs = zip(SCALES, given[task["data"]["entry"]], strict=True)
                result = [{"from_name": scale, "value": {"choices": [str(score)]}} for scale, score in pairs]
                if name and task is tasks[0]:
                    result.append({"from_name": "name", "value": {"text": [name]}})
                task["annotations"].append({"completed_by": user, "was_cancelled": False, "result": result})
    return tasks


def lay(folder: Path, contents: dict[str, bytes]) -> Path:
    """Put files into a folder, each a minute later than the one before it."""
    for minute, (name, content) in enumerate(contents.items()):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (1_773_360_000 + 60 * minute,) * 2)
    return folder


def change(book: openpyxl.Workbook, edit: Callable) -> openpyxl.Workbook:
    """Return a workbook after somebody edited its sheet of entries."""
    edit(book["entries"])
    return book


def without_name(book: openpyxl.Workbook) -> openpyxl.Workbook:
    """Return a form as version 0.2 handed it out, without a place for the name."""
    book["entries"]["E1"] = book["entries"]["F1"] = None
    return book


def sheets(raters: int = 2) -> tuple[list[Sheet], object]:
    """Return forms of twelve entries, and their key."""
    posts = [{"questionID": n, "question": f"问题{n}？", "description": f"描述{n}，第一行\n第二行"} for n in range(6)]
    answers = [
        {"system": system, "questionID": n, "reply": f"“回复”{n}，来自{i}。"}
        for n in range(6)
        for i, system in enumerate("ab")
    ]
    return blinding.make_sheets(blinding.sample(posts, answers, ["a", "b"], 6, 42), raters, 0, 42)
