"""Ratings in JSON: what the rating page saves, and what Label Studio exports, as rows."""

import json
from collections.abc import Iterator

from cbtllm_utils import files
from cbtllm_utils.human import blinding
from cbtllm_utils.human.returned import fold, timestamp, typed_name

CUT_OFF = "not JSON: the file was cut off or edited"
AGAIN = "annotated again later by the same person in Label Studio: the later annotation counts"
SKIPPED = "skipped in Label Studio: its scores do not count"
TEXTS = ("question", "description", "answer")
FLAT = ("annotator", "annotation_id", "created_at", "updated_at")  # columns of Label Studio's CSV and TSV
NOBODY = "its account is gone from Label Studio, and no name was typed: nobody knows whose it is"
EMPTY = "submitted in Label Studio with nothing chosen"
DRAFT = "a draft in Label Studio that was not submitted: ask the annotator to press Submit or Update, and export again"


def read_rows(text: str) -> list[dict]:
    """Return the rows of a file that the page saved, or of Label Studio's export in JSON or JSON-MIN.

    A saved page has a head and a line for each entry; an export has tasks with annotations, or a flat row for each.
    A row of Label Studio has an "annotator".
    """
    rows, head = [], {}
    for line, value in values(text):
        if not isinstance(value, dict):
            rows.append(head | {"line": line, "problem": f"line {line}: {value}"})
        elif "data" in value:
            if not {"form", "rater", "entry"} <= {*value["data"]}:
                raise files.InputError(
                    "an export of Label Studio from another project: its tasks name no form and entry"
                )
            rows += task_rows(value, line)
        elif "entry" in value or "questionID" in value:
            rows.append((flat_row(value) if "annotator" in value else head | value) | {"line": line})
        elif {"annotator", "annotation_id"} <= value.keys():
            raise files.InputError("an export of Label Studio from another project: its rows name no form and entry")
        else:
            head = {name: value[name] for name in ("form", "rater", "kind", "name", "saved") if name in value}
    if not head and not any("entry" in row or "questionID" in row for row in rows):
        raise files.InputError(rows[0]["problem"] if rows else "its first line should name form and rater")
    return by_person(rows) or [head | {"line": 1}]


def values(text: str) -> Iterator[tuple[int, object]]:
    """Yield the objects of a JSON array, or of JSON Lines with their lines; a text in place of what is no object.

    Of an array that was cut off all whole objects are read.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("["):
        yield from elements(text)
        return
    for line, part in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028
        if part.strip("\ufeff \t\r"):
            try:
                value = json.loads(part)
            except (ValueError, RecursionError):
                value = CUT_OFF
            yield line, value if isinstance(value, dict | str) else "not an object"


def elements(text: str) -> Iterator[tuple[int, object]]:
    """Yield the objects of a JSON array with their numbers, and a text in place of the first that is not whole."""
    decoder, number, place = json.JSONDecoder(), 0, text.index("[") + 1
    while rest := text[place : place + 100].lstrip(", \t\r\n"):
        if rest.startswith("]"):
            return
        place, number = text.index(rest[0], place), number + 1
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            yield number, CUT_OFF
            return
        yield number, value if isinstance(value, dict) else "not an object"
    yield number + 1, CUT_OFF


def task_rows(task: dict, line: int) -> Iterator[dict]:
    """Yield a row for each annotation of a task in Label Studio's JSON, with the reason for one that does not count.

    A task that nobody touched has one row, which says nothing; predictions are a model's and have none.
    """
    row = texts_checked(task["data"]) | {"line": line, "annotator": "", "project": str(task.get("project") or "")}
    found = []
    for annotation in task.get("annotations", []):
        results, skipped = annotation.get("result") or [], annotation.get("was_cancelled")
        problem = {"problem": SKIPPED if skipped else EMPTY} if skipped or not results else {}
        if results or not skipped:
            found.append(row | given(results) | made(annotation) | problem | user_of(annotation.get("completed_by")))
    for draft in task.get("drafts", []):
        if isinstance(draft, dict):  # some exports have its number alone
            user = str(draft.get("created_username") or "").rpartition(", ")[2]
            found.append(row | given(draft.get("result") or []) | made(draft) | {"problem": DRAFT} | user_of(user))
    yield from found or [row]


def given(results: list[dict]) -> dict:
    """Return what an annotation says: a text by the name of each control."""
    said: dict[str, list] = {}
    for result in results:
        if "from_name" in result:  # a relation between two regions has none
            said.setdefault(result["from_name"], []).append(result.get("value"))
    found = {name: in_one(parts) for name, parts in said.items()}
    return found | {"harmful": bool(found.get("harmful"))}


def flat_row(value: dict) -> dict:
    """Return a row of Label Studio's JSON-MIN, CSV or TSV, which has task and annotation side by side."""
    row = {name: in_one(unpacked(part)) for name, part in texts_checked(value).items()}
    user = user_of(str(value.get("annotator") or "").removesuffix(".0").replace("None", ""))  # CSV saved again
    annotated = made(value) if user["annotator"] or value.get("annotation_id") else {}
    return row | {"harmful": bool(row.get("harmful"))} | user | annotated


def table_row(row: dict, columns: set[str], lossy: bool) -> dict:
    """Return a row of Label Studio's CSV or TSV; an empty cell says nothing, but of a text.

    Args:
        row: What its cells hold.
        columns: The columns of the table.
        lossy: Whether a ? may be a lost character: the checksum that the form was given must then do.
    """
    texts = {name: row.get(name, "") for name in TEXTS if name in columns}
    lost = lossy and "?" in "".join(texts.values())
    return flat_row({name: cell for name, cell in row.items() if name not in TEXTS} | ({} if lost else texts))


def texts_checked(data: dict) -> dict:
    """Return the data of a task with the texts' own checksum in place of the texts, where all of them are there."""
    row = {name: value for name, value in data.items() if name not in TEXTS}
    whole = all(data.get(name) is not None for name in TEXTS)
    check = blinding.checksum(*(str(data[name]) for name in TEXTS)) if whole else data.get("check")
    return row | {"check": check or ""}


def in_one(value: object) -> object:
    """Return what a control holds as one text; two choices, or two texts, are joined, and are then no score."""
    if isinstance(value, dict):
        value = value.get("choices") or value.get("text") or ""
    if isinstance(value, list):
        return " / ".join(dict.fromkeys(str(in_one(part)) for part in value))
    return "" if value is None else value


def unpacked(value: object) -> object:
    """Return the value that a cell of a CSV holds, which is JSON where a control holds several."""
    if isinstance(value, str) and value.startswith(('{"choices"', '{"text"', '["', "[{")):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def made(annotation: dict) -> dict:
    """Return when an annotation was made and last changed, and its number: the order where the time is lost."""
    number = str(annotation.get("annotation_id") or annotation.get("id") or "")
    created, changed = (str(annotation.get(name) or "") for name in ("created_at", "updated_at"))
    return {"created": created or changed, "changed": changed or created, "number": number}


def user_of(who: object) -> dict:
    """Return the number of an account of Label Studio, and its address; the address for both where it alone is said.

    An address tells accounts apart. It is shown nowhere.
    """
    number, address = (who.get("id"), who.get("email")) if isinstance(who, dict) else (who, who)
    number, address = (str(value or "").strip().casefold() for value in (number, address))
    return {"annotator": number or address, "address": address if "@" in address else ""}


def when(row: dict, event: str) -> tuple[float, str]:
    """Return the key by which the annotations of one login follow each other."""
    return timestamp(row.get(event)), row.get("number", "").zfill(12)


def by_person(rows: list[dict]) -> list[dict]:
    """Return rows, those of Label Studio with the name of who annotated, and with a problem for what was done again.

    A name typed at one entry holds for those that the same login annotates after it, and for those before the first:
    two people may share a login. What is corrected later stays its author's. Rows of tasks that nobody touched are left
    out where others are not.
    """
    logins: dict[tuple, list[dict]] = {}
    annotated = [row for row in rows if "changed" in row]
    numbers = {row["address"]: row["annotator"] for row in annotated if row["address"] and "@" not in row["annotator"]}
    said = any(row["annotator"] for row in annotated)  # else the export is one person's
    for row in annotated:
        row["annotator"] = numbers.get(row["annotator"], row["annotator"])
        name = "" if row["annotator"] else fold(row.get("name"))
        if said and not row["annotator"] and not name:
            row.setdefault("problem", NOBODY)
        logins.setdefault((row.get("form"), row["annotator"], name), []).append(row)
    for own in logins.values():
        name_rows(sorted(own, key=lambda row: when(row, "created")))
        own.sort(key=lambda row: when(row, "changed"))
        latest: dict[tuple, dict] = {}
        for row in own:
            row |= {"saved": own[-1]["changed"]}
            if "problem" not in row:
                who = row.get("entry"), fold(row.get("name"))
                if who in latest:
                    latest[who]["problem"] = AGAIN
                latest[who] = row
    return [row for row in rows if "annotator" not in row or "changed" in row] or rows


def name_rows(rows: list[dict]) -> None:
    """Give a name to each row of one login that has none; `rows` are in the order in which they were made."""
    typed = {fold(name): name for row in rows if (name := typed_name(row.get("name")))}
    name = next(iter(typed.values()), "")
    shared = f"one login of Label Studio gave the names {', '.join(typed.values())}" if len(typed) > 1 else ""
    for row in rows:
        name = typed_name(row.get("name")) or name
        row |= {"name": name, "shared": shared}
