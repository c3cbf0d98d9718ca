"""Ratings from filled forms: checked entry by entry, with a reason for everything that does not count."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from cbtllm_utils import files, safe_spreadsheets
from cbtllm_utils.human import blinding
from cbtllm_utils.human.blinding import SCALES

FIELDS = ["rater", "kind", "questionID", "system", "entry", "repeat", *SCALES, "harmful", "comment", "file", "line"]
PUBLIC = ["file", "line", "rater", "entry", "reason"]  # of a problem; a comment may quote a post and is not published
PROBLEMS = [*PUBLIC, "kind", "harmful", "comment"]
SCORES = {str(score): score for score in (0, 1, 2)} | {f"{score}.0": score for score in (0, 1, 2)}
PEOPLE, MODELS = KINDS = ("person", "language model")
UNTICKED = ("", "0", "0.0", "false", "no", "none")  # how a file says that a box is not ticked
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


def find(name: str | Path, run: str | Path) -> Path:
    """Return where filled forms are: below the run or else below the repository; below the run if there are none."""
    return next((p for p in (files.path(run) / name, files.path(name)) if p.exists()), files.path(run) / name)


def read(path: str | Path, key: pd.DataFrame | None = None, kind: str = PEOPLE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the ratings in a file or in all filled forms of a folder (.jsonl, .xlsx, .csv, .json of Label Studio).

    Args:
        path: A file or folder; one that does not exist has no ratings.
        key: From `blinding.make_sheets`. Not needed for files that name questionID and system themselves.
        kind: Who rated, where a file does not say: "person" or "language model".

    Returns:
        Two tables. Ratings, with the columns `FIELDS`: scores 0 to 2; `harmful` is None where a file does not ask.
        Problems, with the columns `PROBLEMS`: what was left out and why. An entry without any score, flag or comment
        is in neither.
    """
    path = files.path(path)
    sources = sorted(p for p in path.iterdir() if p.suffix in READERS) if path.is_dir() else [path]
    forms = {} if key is None else {form: rows.set_index("entry") for form, rows in key.groupby("form")}
    found, problems = [], []
    for source in sources if path.exists() else []:
        try:
            for row in READERS[source.suffix](source):
                row = {"kind": kind, "file": source.name} | row
                try:
                    found.append(to_rating(row, forms))
                except ValueError as error:
                    problems.append(row | {"reason": str(error), "harmful": is_ticked(row.get("harmful"))})
        except UNREADABLE as error:
            problems.append({"file": source.name, "line": 0, "reason": f"not a filled form: {error}"})
    ratings, duplicates = without_duplicates(pd.DataFrame([row for row in found if row], columns=FIELDS))
    return ratings, pd.concat([pd.DataFrame(problems, columns=PROBLEMS), duplicates], ignore_index=True)


def read_all(sources: dict[str | None, str], key: pd.DataFrame, run: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the ratings of several places as `read` does; `sources` maps each path to who rated there."""
    parts = [read(find(name, run), key, kind) for name, kind in sources.items() if name]
    found = [ratings for ratings, _ in parts if len(ratings)]
    together = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=FIELDS)
    ratings, duplicates = without_duplicates(together)
    problems = [table for table in (*(table for _, table in parts), duplicates) if len(table)]
    return ratings, pd.concat(problems, ignore_index=True) if problems else pd.DataFrame(columns=PROBLEMS)


def progress(key: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return how many entries of each form are rated and left; a form that is half done counts with its half."""
    counted = set(zip(ratings["rater"], ratings["entry"], strict=True))
    rated = [pair in counted for pair in zip(key["rater"], key["entry"], strict=True)]
    table = key.assign(rated=rated).groupby(["form", "rater"], sort=False)["rated"]
    table = table.agg(["size", "sum"]).reset_index().set_axis(["form", "rater", "entries", "entries rated"], axis=1)
    return table.assign(**{"entries left": table["entries"] - table["entries rated"]})


def partial_forms(far: pd.DataFrame) -> str:
    """Return which forms of `progress` came back unfinished, such as "partial forms: R1 2 of 5"; "" if none did."""
    begun = far[(far["entries rated"] > 0) & (far["entries left"] > 0)]
    counts = begun[["rater", "entries rated", "entries"]].itertuples(index=False)
    found = ", ".join(f"{rater} {rated} of {entries}" for rater, rated, entries in counts)
    return f"partial forms: {found}" if found else ""


def remarks(ratings: pd.DataFrame, problems: pd.DataFrame) -> pd.DataFrame:
    """Return every reply that a rater flagged as harmful or commented on; harmful ones come first.

    Entries without a full set of scores are included, with the reason why they do not count: the person responsible
    for a study should read every remark.
    """
    columns = ["kind", "rater", "entry", "questionID", "system", "harmful", "comment", "file", "line", "reason"]
    both = pd.DataFrame([*ratings.to_dict("records"), *problems.to_dict("records")], columns=columns)
    flagged = both["harmful"].eq(True)
    commented = both["comment"].fillna("").astype(str).str.strip().ne("")
    return pd.concat([both[flagged], both[commented & ~flagged]], ignore_index=True)


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


def to_rating(row: dict, forms: dict[str, pd.DataFrame]) -> dict | None:
    """Return a row of a form as a rating, or None for an entry that was left out.

    Raises:
        ValueError: With the reason why the row does not count.
    """
    if row.get("problem"):  # A model rater's answer could not be read.
        raise ValueError(row["problem"])
    given = {scale: str(row.get(scale) if row.get(scale) is not None else "").strip() for scale in SCALES}
    row = row if "system" in row else row | unblind(row, forms)
    if not any(given.values()):
        if is_ticked(row.get("harmful")) or str(row.get("comment") or "").strip():
            raise ValueError("a flag or a comment without scores: it is listed among the remarks, and in no mean")
        return None
    if row["kind"] not in KINDS:
        raise ValueError(f"kind is {row['kind']}, expected {' or '.join(KINDS)}")
    for name in ("rater", "questionID", "system"):
        if row.get(name) in (None, ""):
            raise ValueError(f"{name} is missing")
    for scale, score in given.items():
        if score not in SCORES:
            raise ValueError(f"{scale} is {score}, expected 0, 1 or 2" if score else f"{scale} is missing")
    marks = {name: is_ticked(row.get(name)) for name in ("harmful", "repeat")}
    if "harmful" not in row:
        marks["harmful"] = None  # Nobody was asked, which is not the same as "no".
    texts = {"rater": str(row["rater"]), "comment": str(row.get("comment") or "")}
    return row | texts | marks | {scale: SCORES[score] for scale, score in given.items()}


def is_ticked(value: object) -> bool:
    """Return whether a box is ticked, however a file says so."""
    return str(value or "").strip().lower() not in UNTICKED


def unblind(row: dict, forms: dict[str, pd.DataFrame]) -> dict:
    """Return rater, questionID, system and repeat of a form's entry, by the key.

    Raises:
        ValueError: For a form or an entry that the key does not have, and for an edited text.
    """
    if row.get("form") not in forms:
        raise ValueError("unknown form: the key does not list it; is it from another run, and was its key.csv kept?")
    sheet = forms[row["form"]]
    if row.get("entry") not in sheet.index:
        raise ValueError("unknown entry: this form has no such code")
    truth = sheet.loc[row["entry"]]
    if row.get("check") != truth["check"]:
        raise ValueError("edited entry: its text is not the form's")
    return truth[["rater", "questionID", "system", "repeat"]].to_dict()


def without_duplicates(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the ratings that count, and problems for replies that a rater rated twice.

    Equal scores count once. Of different scores none counts, since nobody knows which is meant.
    """
    who = ["rater", "kind", "questionID", "system", "repeat"]
    duplicated, later = ratings.duplicated(who, keep=False), ratings.duplicated(who)
    lines = ratings.groupby(who)["rater"].transform("size")
    equal = duplicated & (ratings.groupby([*who, *SCALES])["rater"].transform("size") == lines)
    once = "rated twice with the same scores, in another file or line; counted once"
    never = "rated twice with different scores: keep one of the two; none was counted"
    problems = [ratings[equal & later].assign(reason=once), ratings[duplicated & ~equal].assign(reason=never)]
    return ratings[~duplicated | (equal & ~later)].reset_index(drop=True), pd.concat(problems)[PROBLEMS]
