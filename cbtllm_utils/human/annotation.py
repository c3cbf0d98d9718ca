"""What the annotation in the paper lacked (§ Limitations): a guideline, a form, and a reader that checks it.

A language model can be a second annotator by the same guideline; its labels count only with words of the post.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import openpyxl
import pandas as pd

from cbtllm_utils import files, notices, safe_spreadsheets
from cbtllm_utils.data import prompts
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import blinding
from cbtllm_utils.llm import client
from cbtllm_utils.text import distortions, recognition

RISKS = ("none", "passive", "active")
FIELDS = ["questionID", "annotator", "labels", "evidence", "risk"]
SEPARATOR = " / "  # between two pieces of evidence
TICKS = ("x", "1", "1.0", "✓", "√", "v", "y", "yes", "true", "是")
EMPTY = ("", "0", "0.0", "n", "no", "false", "否")
SHORTEST = 2  # characters of a piece of evidence: a single one occurs in almost any post
RULES = """# How to annotate a post for distorted thinking
{notice}

Read question and description as the client wrote them. Do not read a reply to them: it would lead you.

1. Mark a class where the client **thinks in that way in this post**. Not where somebody else does, where the client
   doubts the thought themselves, or where a feeling is painful and no thought is distorted. A post may have none.
2. Mark every class that applies, on the words and not on what you suspect behind them.
3. Give the **evidence**: the client's words, copied character by character; two places joined by ` / `. A class
   without words that show it is not marked.
4. **Risk**: `none`; `passive` for a wish to be dead or gone without intent; `active` for intent, plan, self-harm, or
   harm by or to others. Where you find risk in a real person's post, follow your institution's procedure at once.
   A line counts once its risk is given: `none` says that you have read it.
5. Work alone. Disagreement between annotators is a result, not a fault; do not settle it between you.

| label | class | in Chinese | what it is |
|---|---|---|---|
{classes}
"""


def guideline() -> str:
    """Return the guideline in Markdown: notices, rules, and the classes to mark."""
    rows = distortions.taxonomy()[["label", "english", "chinese", "definition"]].itertuples(index=False)
    classes = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return RULES.format(notice=f"> {notices.notice('en')}\n>\n> {notices.notice('zh')}", classes=classes)


def write_form(posts: list[Question], path: str | Path) -> Path:
    """Write a workbook with the guideline and a row for each post, with a box for each class; return its path."""
    book, labels = openpyxl.Workbook(), list(distortions.taxonomy()["label"])
    book.properties.creator = "cbtllm"
    book.active.title, book.active.column_dimensions["A"].width = "guideline", 120
    for line in guideline().splitlines():
        book.active.append([line.replace("**", "")])
    sheet = book.create_sheet("posts")
    columns = ["questionID", "question", "description", *labels, "evidence", "risk"]
    sheet.append(columns)
    for row, post in enumerate(posts, 2):
        for column, text in enumerate((str(post.questionID), post.question, post.description), 1):
            safe_spreadsheets.write_text(sheet.cell(row, column), blinding.clean(text))
    letter = {name: sheet.cell(1, place).column_letter for place, name in enumerate(columns, 1)}
    last = len(posts) + 1
    safe_spreadsheets.limit_choices(sheet, f"{letter[labels[0]]}2:{letter[labels[-1]]}{last}", "x")
    safe_spreadsheets.limit_choices(sheet, f"{letter['risk']}2:{letter['risk']}{last}", RISKS)
    for name, width in {"question": 24, "description": 60, "evidence": 40}.items():
        sheet.column_dimensions[letter[name]].width = width
    sheet.freeze_panes = f"{letter[labels[0]]}2"
    with files.atomic(path) as temporary:
        book.save(temporary)
    return files.path(path)


def read(path: str | Path, posts: list[Question], annotator: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read a filled form: annotations with the columns `FIELDS`, and problems with questionID and reason.

    An empty row was not annotated yet and is in neither table.

    Raises:
        InputError: For a file that is not such a form.
    """
    try:
        (_, head), *rows = safe_spreadsheets.read_rows(path, "posts") or [(1, ())]
    except files.InputError as error:
        raise files.InputError(f"{files.shown(path)}: not an annotation form ({error})") from None
    known, labels = {str(post.questionID): post for post in posts}, list(distortions.taxonomy()["label"])
    if missing := {"questionID", "evidence", "risk", *labels} - set(head):
        raise files.InputError(f"{files.shown(path)}: no column {', '.join(sorted(missing))}")
    found, problems = [], []
    for _, cells in rows:
        row = dict(zip(head, map(safe_spreadsheets.cell_text, cells), strict=True))
        boxes, risk = {label: row[label].strip().lower() for label in labels}, row["risk"].strip()
        if not any([*boxes.values(), row["evidence"].strip(), risk]):
            continue
        marked = [label for label, box in boxes.items() if box in TICKS]
        unclear = [f"{label} holds {box!r}: tick with x" for label, box in boxes.items() if box not in TICKS + EMPTY]
        evidence = [piece.strip() for piece in row["evidence"].split(SEPARATOR) if piece.strip()]
        if reason := [*unclear, problem(marked, evidence, risk, known.get(row["questionID"]))][0]:
            problems.append((row["questionID"], reason))
        else:
            found.append((row["questionID"], annotator, "|".join(marked), SEPARATOR.join(evidence), risk))
    return pd.DataFrame(found, columns=FIELDS), pd.DataFrame(problems, columns=["questionID", "reason"])


def read_folder(folder: str | Path, posts: list[Question]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read every filled form in a folder as `read` does; the name of a file is its annotator's.

    The problems have a column `annotator`. A folder that does not exist has no forms.
    """
    found, problems = [pd.DataFrame(columns=FIELDS)], [pd.DataFrame(columns=["questionID", "reason", "annotator"])]
    for place in sorted(files.path(folder).glob("*.xlsx")):
        annotations, unusable = read(place, posts, place.stem)
        found.append(annotations)
        problems.append(unusable.assign(annotator=place.stem))
    return pd.concat(found, ignore_index=True), pd.concat(problems, ignore_index=True)


def problem(labels: list[str], evidence: list[str], risk: str, post: Question | None) -> str | None:
    """Return why an annotation cannot count, or None. Evidence must be in the post word for word."""
    if post is None:
        return "no such post"
    if unknown := set(labels) - set(distortions.taxonomy()["label"]):
        return f"unknown label {', '.join(sorted(unknown))}"
    if risk not in RISKS:
        return f"risk {risk!r}: expected {', '.join(RISKS)}"
    if labels and not evidence:
        return "labels without evidence"
    if short := [piece for piece in evidence if len(piece.strip()) < SHORTEST]:
        return f"evidence {short[0]!r} is too short to show anything"
    absent = [piece for piece in evidence if piece not in f"{post.question}\n{post.description}"]
    return f"evidence that the post does not contain: {absent[0][:40]!r}" if absent else None


def requests(posts: Iterable[Question], model: str) -> list[dict]:
    """Return requests to a model to annotate as people do: the guideline, a post, and the schema of the answer."""
    task = guideline() + "\nAnswer in JSON: labels, evidence (a list of the client's words), risk.\n"
    fields = {
        "labels": {"type": "array", "items": {"type": "string", "enum": list(distortions.taxonomy()["label"])}},
        "evidence": {"type": "array", "items": {"type": "string"}},
        "risk": {"type": "string", "enum": list(RISKS)},
    }
    own = {"model": model, "temperature": 0, "response_format": client.json_schema("annotation", fields), "attempt": 1}
    return [
        {
            "id": post.questionID,
            "messages": [
                {"role": "system", "content": task},
                {"role": "user", "content": prompts.enclosed(post.question, post.description)},
            ],
        }
        | own
        for post in posts
    ]


def parse_answer(text: str, post: Question) -> dict | str:
    """Return labels, evidence and risk of a model's answer, or why it cannot count."""
    try:
        found = json.loads(text)
        labels, evidence, risk = found["labels"], found["evidence"], found["risk"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "not in the form asked for"
    texts = [risk, *labels, *evidence] if isinstance(labels, list) and isinstance(evidence, list) else [None]
    if not all(isinstance(text, str) for text in texts):
        return "not in the form asked for"
    reason = problem(labels, evidence, risk, post)
    return reason or {"labels": labels, "evidence": evidence, "risk": risk}


def from_answers(
    answers: Iterable[client.Completion], posts: Mapping[object, Question], annotator: str
) -> pd.DataFrame:
    """Return a row for each answer: `FIELDS` and reason. An answer that cannot count has no labels."""
    rows = []
    for answer in answers:
        found = parse_answer(answer.text, posts[answer.id])
        reason, found = (found, {}) if isinstance(found, str) else (None, found)
        labels, evidence = "|".join(found.get("labels", [])), SEPARATOR.join(found.get("evidence", []))
        rows.append((answer.id, annotator, labels, evidence, found.get("risk", ""), reason))
    return pd.DataFrame(rows, columns=[*FIELDS, "reason"])


def agreement(truth: Mapping[object, set[str]], found: Mapping[object, set[str]]) -> dict[str, float]:
    """Compare two annotations of the posts in `truth`; a post that `found` lacks counts as without labels.

    Returns:
        posts; precision, recall and F1 of whether a post has any label; micro-F1 over all labels.
    """
    pairs = [(set(labels), set(found.get(post, ()))) for post, labels in truth.items()]
    any_label = pd.DataFrame([(bool(a), bool(b)) for a, b in pairs], columns=["truth", "found"])
    scores = recognition.scores(**recognition.counts(any_label["truth"], any_label["found"]))
    shared, given = sum(len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)
    return {
        "posts": len(pairs),
        "precision": scores["Precision"],
        "recall": scores["Recall"],
        "F1": scores["F1 score"],
        "micro-F1 of labels": 2 * shared / given if given else float("nan"),
    }
