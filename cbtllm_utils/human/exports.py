"""Ratings in JSON: what the rating page saves, and what Label Studio exports, as rows."""

import json
from collections.abc import Iterator

from cbtllm_utils import files
from cbtllm_utils.human import blinding


def read_rows(text: str) -> list[dict]:
    """Return the rows of a file that the page saved, or of Label Studio's export.

    A saved page has a head and a line for each entry; an export has tasks with annotations, or a flat row for each.
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
            rows.append(head | value | {"line": line})
        else:
            head = {name: value[name] for name in ("form", "rater", "kind", "name", "saved") if name in value}
    if not head and not any("entry" in row or "questionID" in row for row in rows):
        raise files.InputError(rows[0]["problem"] if rows else "its first line should name form and rater")
    return rows or [head | {"line": 1}]


def values(text: str) -> Iterator[tuple[int, object]]:
    """Yield the objects of a JSON array, or of JSON Lines with their lines; a text in place of what is no object."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, list):
        yield from enumerate((x if isinstance(x, dict) else "not an object" for x in whole), 1)
        return
    for line, part in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028
        if part.strip("\ufeff \t\r"):
            try:
                value = json.loads(part)
            except (ValueError, RecursionError):
                value = "not JSON: the file was cut off or edited"
            yield line, value if isinstance(value, dict | str) else "not an object"


def task_rows(task: dict, line: int) -> Iterator[dict]:
    """Yield a row for each person who annotated a task in Label Studio: their last annotation that was not canceled."""
    data = task["data"]
    row = {name: data[name] for name in ("form", "rater", "entry")} | {"line": line, "task": True}
    row["check"] = blinding.checksum(data["question"], data["description"], data["answer"])
    in_order = sorted(task.get("annotations", []), key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""))
    done = {str(user_of(a)): a for a in in_order if not a.get("was_cancelled")}
    for user, annotation in done.items() or [(None, {"result": []})]:
        given = {}
        for result in annotation["result"]:
            value = result["value"].get("choices") or result["value"].get("text") or [""]
            given[result["from_name"]] = value if isinstance(value, str) else value[0]
        yield row | given | {"harmful": "harmful" in given, "annotator": user}


def user_of(annotation: dict) -> object:
    """Return who made an annotation in Label Studio: an e-mail address or a number."""
    who = annotation.get("completed_by")
    return (who.get("email") or who.get("id")) if isinstance(who, dict) else who
