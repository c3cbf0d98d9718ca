"""Filled forms become ratings, every fault named; `agreement` makes Table 5 of them."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files
from cbtllm_utils.human import filled_forms
from cbtllm_utils.human.blinding import SCALES

FIELDS = ["rater", "kind", "questionID", "system", "entry", "repeat", *SCALES, "harmful", "comment", "file", "line"]
SHOWN = ["file", "line", "rater", "entry", "reason"]  # of a problem; what a rater wrote is not for a published table
PROBLEMS = [*SHOWN, "kind", "harmful", "comment"]
SCORE = {str(score): score for score in (0, 1, 2)} | {f"{score}.0": score for score in (0, 1, 2)}
PEOPLE, MODELS = KINDS = ("person", "language model")
NO = ("", "0", "0.0", "false", "no", "none")  # how a file says that a box is not ticked


def place(name: str | Path, run: str | Path) -> Path:
    """Where the filled forms lie: below the run where there is such a path, else below the repository, else the run."""
    return next((p for p in (files.path(run) / name, files.path(name)) if p.exists()), files.path(run) / name)


def collect(path: str | Path, key: pd.DataFrame | None = None, kind: str = PEOPLE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ratings, problems) of a CSV file, or of a folder's filled forms (.jsonl, .xlsx, .json of Label Studio, .csv).

    A rating: rater, kind (who rates: person or language model), questionID, system, entry, repeat, a score 0-2 for each
    scale, harmful (None where a file does not ask), comment, file, line. Forms need the `key` of `blinding.sheets`; a
    file that names questionID and system itself does not. Problems name file, line, rater and entry of what was left
    out, and why, and keep its flag and comment; an entry that was not rated at all is none. `kind` is that of files
    which do not say. A path that does not exist holds no ratings.
    """
    place = files.path(path)
    sources = sorted(p for p in place.iterdir() if p.suffix in filled_forms.READERS) if place.is_dir() else [place]
    forms = {} if key is None else {form: rows.set_index("entry") for form, rows in key.groupby("form")}
    good, problems = [], []
    for source in sources if place.exists() else []:
        try:
            for row in filled_forms.READERS[source.suffix](source):
                row = {"kind": kind, "file": source.name} | row
                try:
                    good.append(judged(row, forms))
                except ValueError as error:
                    problems.append(row | {"reason": str(error), "harmful": ticked(row.get("harmful"))})
        except filled_forms.UNREADABLE as error:
            problems.append({"file": source.name, "line": 0, "reason": f"not a filled form: {error}"})
    ratings = pd.DataFrame([row for row in good if row], columns=FIELDS)
    ratings, doubled = apart(ratings)
    return ratings, pd.concat([pd.DataFrame(problems, columns=PROBLEMS), doubled], ignore_index=True)


def gather(sources: dict[str | None, str], key: pd.DataFrame, run: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(ratings, problems) of several places, path -> kind of its raters; a path that is None or absent holds none."""
    parts = [collect(place(name, run), key, kind) for name, kind in sources.items() if name]
    whole = [ratings for ratings, _ in parts if len(ratings)]
    ratings, doubled = apart(pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=FIELDS))
    faults = [table for table in (*(problems for _, problems in parts), doubled) if len(table)]
    return ratings, pd.concat(faults, ignore_index=True) if faults else pd.DataFrame(columns=PROBLEMS)


def progress(key: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """How far each form has come: form, rater, entries, rated, left. A partial form counts with what is rated."""
    counted = set(zip(ratings["rater"], ratings["entry"], strict=True))
    rated = [pair in counted for pair in zip(key["rater"], key["entry"], strict=True)]
    table = key.assign(rated=rated).groupby(["form", "rater"], sort=False)["rated"]
    table = table.agg(entries="size", rated="sum").reset_index()
    return table.assign(left=table["entries"] - table["rated"])


def unfinished(far: pd.DataFrame) -> str:
    """Which forms of `progress` came back unfinished, for the conditions of a table: "partial forms: R1 2 of 5"; ""."""
    begun = far[(far["rated"] > 0) & (far["left"] > 0)]
    found = ", ".join(f"{row.rater} {row.rated} of {row.entries}" for row in begun.itertuples())
    return f"partial forms: {found}" if found else ""


def remarks(ratings: pd.DataFrame, problems: pd.DataFrame) -> pd.DataFrame:
    """What raters flagged as harmful or commented on: who, on which reply, harmful, comment, file, line, reason.

    Harmful ones first, those without a full set of scores included (with the `reason` why they count in no mean): a
    person responsible should read every one.
    """
    columns = ["kind", "rater", "entry", "questionID", "system", "harmful", "comment", "file", "line", "reason"]
    whole = pd.DataFrame([*ratings.to_dict("records"), *problems.to_dict("records")], columns=columns)
    flagged = whole["harmful"].eq(True)
    commented = whole["comment"].fillna("").astype(str).str.strip().ne("")
    return pd.concat([whole[flagged], whole[commented & ~flagged]], ignore_index=True)


def judged(row: dict, forms: dict[str, pd.DataFrame]) -> dict | None:
    """The rating, scores as numbers and its entry looked up; None for an entry left out. ValueError: why not."""
    if row.get("fault"):
        raise ValueError(row["fault"])  # what a model rater said instead of scores
    given = {scale: str(row.get(scale) if row.get(scale) is not None else "").strip() for scale in SCALES}
    row = row if "system" in row else row | unblinded(row, forms)
    if not any(given.values()):
        if ticked(row.get("harmful")) or str(row.get("comment") or "").strip():
            raise ValueError("a flag or a comment without scores: it is among the remarks, and in no mean")
        return None
    if row["kind"] not in KINDS:
        raise ValueError(f"kind is {row['kind']}, expected {' or '.join(KINDS)}")
    for name in ("rater", "questionID", "system"):
        if row.get(name) in (None, ""):
            raise ValueError(f"{name} is missing")
    for scale, score in given.items():
        if score not in SCORE:
            raise ValueError(f"{scale} is {score}, expected 0, 1 or 2" if score else f"{scale} is missing")
    marks = {name: ticked(row.get(name)) for name in ("harmful", "repeat")}
    marks["harmful"] = marks["harmful"] if "harmful" in row else None  # nobody asked: that is no "no"
    texts = {"rater": str(row["rater"]), "comment": str(row.get("comment") or "")}
    return row | texts | marks | {scale: SCORE[score] for scale, score in given.items()}


def ticked(value: object) -> bool:
    """Whether a box is ticked, however a file says so."""
    return str(value or "").strip().lower() not in NO


def unblinded(row: dict, forms: dict[str, pd.DataFrame]) -> dict:
    """Whose reply an entry of a form is, by the key: rater, questionID, system, repeat. ValueError for a stranger."""
    if row.get("form") not in forms:
        raise ValueError("a foreign form: the key does not hold it; is it from another run, and was its key.csv kept?")
    sheet = forms[row["form"]]
    if row.get("entry") not in sheet.index:
        raise ValueError("a foreign entry: this form has no such code")
    truth = sheet.loc[row["entry"]]
    if row.get("check") != truth["check"]:
        raise ValueError("an edited entry: its text is not the form's")
    return truth[["rater", "questionID", "system", "repeat"]].to_dict()


def apart(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ratings that stand once, and problems for those given twice: equal ones count once, unequal ones never."""
    who = ["rater", "kind", "questionID", "system", "repeat"]
    twice, again = ratings.duplicated(who, keep=False), ratings.duplicated(who)
    same = ratings.duplicated([*who, *SCALES], keep=False) & (
        ratings.groupby(who)["rater"].transform("size") == ratings.groupby([*who, *SCALES])["rater"].transform("size")
    )
    equal = ratings[same & again].assign(reason="doubled: the same scores stand in another file or line; counted once")
    unequal = ratings[twice & ~same].assign(reason="doubled with other scores: keep one of the two; none was counted")
    return ratings[~twice | (same & ~again)].reset_index(drop=True), pd.concat([equal, unequal])[PROBLEMS]
