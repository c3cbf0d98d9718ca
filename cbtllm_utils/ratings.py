"""Filled forms become ratings, every fault named; ratings become Table 5 with intervals, tests and agreement."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.blinding import SCALES

FIELDS = ["rater", "kind", "questionID", "system", "entry", "repeat", *SCALES, "harmful", "comment", "file", "line"]
PROBLEMS = ["file", "line", "rater", "entry", "reason"]
SCORE = {str(score): score for score in (0, 1, 2)} | {f"{score}.0": score for score in (0, 1, 2)}
PEOPLE, MODELS = "person", "language model"


def place(name: str | Path, run: str | Path) -> Path:
    """Where the filled forms lie: below the run where there is such a path, else below the repository, else the run."""
    return next((p for p in (files.path(run) / name, files.path(name)) if p.exists()), files.path(run) / name)


def collect(path: str | Path, key: pd.DataFrame | None = None, kind: str = PEOPLE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ratings, problems) of a CSV file, or of every filled form in a folder (.jsonl, .xlsx, .json of Label Studio, .csv).

    A rating: rater, kind (who rates: person or language model), questionID, system, entry, repeat, a score 0-2 for each
    scale, harmful, comment, file, line. Forms need the `key` of `blinding.sheets`; a file that names questionID and
    system itself does not. Problems name file, line, rater and entry of what was left out, and why; an entry that was
    not rated at all is none. `kind` is that of files which do not say. A path that does not exist holds no ratings.
    """
    place = files.path(path)
    sources = sorted(p for p in place.iterdir() if p.suffix in READERS) if place.is_dir() else [place]
    forms = {} if key is None else {form: rows.set_index("entry") for form, rows in key.groupby("form")}
    good, problems = [], []
    for source in sources if place.exists() else []:
        try:
            for row in READERS[source.suffix](source):
                row = {"kind": kind, "file": source.name, "harmful": False, "comment": "", "repeat": False} | row
                try:
                    good.append(judged(row, forms))
                except ValueError as error:
                    problems.append(row | {"reason": str(error)})
        except (files.InputError, KeyError, TypeError, ValueError, OSError) as error:
            problems.append({"file": source.name, "line": 0, "reason": f"not a filled form: {error}"})
    ratings = pd.DataFrame([row for row in good if row], columns=FIELDS)
    ratings, doubled = apart(ratings)
    return ratings, pd.concat([pd.DataFrame(problems, columns=PROBLEMS), doubled], ignore_index=True)


def judged(row: dict, forms: dict[str, pd.DataFrame]) -> dict | None:
    """The rating with its scores as numbers and its entry looked up; None for an entry left out. ValueError: why not."""
    given = {scale: str(row.get(scale) if row.get(scale) is not None else "").strip() for scale in SCALES}
    named = "system" in row
    if not named:
        if row.get("form") not in forms:
            raise ValueError(
                "a foreign form: the key does not hold it; was it made from other answers, or with another seed?"
            )
        sheet = forms[row["form"]]
        if row["entry"] not in sheet.index:
            raise ValueError("a foreign entry: this form has no such code")
        truth = sheet.loc[row["entry"]]
        if row["check"] != truth["check"]:
            raise ValueError("an edited entry: its text is not the form's")
        row = row | {"rater": truth["rater"], **truth[["questionID", "system", "repeat"]].to_dict()}
    if not any(given.values()):
        return None
    for scale, score in given.items():
        if score not in SCORE:
            raise ValueError(f"{scale} is {score}, expected 0, 1 or 2" if score else f"{scale} is missing")
    return row | {scale: SCORE[score] for scale, score in given.items()}


def apart(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ratings that stand once, and problems for those given twice: equal ones count once, unequal ones not at all."""
    who = ["rater", "kind", "questionID", "system", "repeat"]
    twice, again = ratings.duplicated(who, keep=False), ratings.duplicated(who)
    same = ratings.duplicated([*who, *SCALES], keep=False) & (
        ratings.groupby(who)["rater"].transform("size") == ratings.groupby([*who, *SCALES])["rater"].transform("size")
    )
    equal = ratings[same & again].assign(reason="doubled: the same scores stand in another file or line; counted once")
    unequal = ratings[twice & ~same].assign(reason="doubled with other scores: keep one of the two; none was counted")
    return ratings[~twice | (same & ~again)].reset_index(drop=True), pd.concat([equal, unequal])[PROBLEMS]


def read_jsonl(source: Path) -> Iterator[dict]:
    """The rows of a file that the HTML form (or a model rater) saved: a head, then one entry a line."""
    head, *rows = files.read_jsonl(source)
    for line, row in enumerate(rows, 2):
        yield {name: head[name] for name in ("form", "rater", "kind") if name in head} | row | {"line": line}


def read_csv(source: Path) -> Iterator[dict]:
    """The rows of a CSV file: form, entry, check or questionID, system; rater and scores."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        for row in (reader := csv.DictReader(file)):
            whole = {name: value for name, value in row.items() if name and value not in (None, "")}
            ids = {"questionID": int(whole["questionID"])} if whole.get("questionID", "").isdecimal() else {}
            yield whole | ids | {"line": reader.line_num}


def read_workbook(source: Path) -> Iterator[dict]:
    """The rows of a filled workbook; the check is that of the text as it stands there now."""
    import openpyxl

    from cbtllm_utils import blinding

    (_, form, _, rater, *_), columns, _, *rows = openpyxl.load_workbook(source)["entries"].iter_rows(values_only=True)
    for line, cells in enumerate(rows, 4):
        row = dict(zip(columns, cells, strict=False))
        texts = (str(row.pop(name) or "") for name in ("question", "description", "answer"))
        marks = {"harmful": str(row["harmful"] or "0") not in ("0", "0.0"), "comment": row["comment"] or ""}
        if row["entry"]:
            yield row | marks | {"form": form, "rater": rater, "check": blinding.check(*texts), "line": line}


def read_label_studio(source: Path) -> Iterator[dict]:
    """The rows of Label Studio's JSON export: one task an entry, its last annotation that was not cancelled."""
    from cbtllm_utils import blinding

    for line, task in enumerate(json.loads(source.read_text(encoding="utf-8")), 1):
        data = task["data"]
        done = [a for a in task.get("annotations", []) if not a.get("was_cancelled")]
        row = {name: data[name] for name in ("form", "rater", "entry")} | {"line": line}
        row["check"] = blinding.check(data["question"], data["description"], data["answer"])
        for result in done[-1]["result"] if done else []:
            value = result["value"].get("choices") or result["value"].get("text") or [""]
            row[result["from_name"]] = value if isinstance(value, str) else value[0]
        yield row | {"harmful": "harmful" in row, "comment": row.get("comment", "")}


READERS = {".jsonl": read_jsonl, ".csv": read_csv, ".xlsx": read_workbook, ".json": read_label_studio}
