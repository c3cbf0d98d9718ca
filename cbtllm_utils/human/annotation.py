"""What the paper's annotation lacked (§ Limitations): a guideline, a form made of it, and a reader that checks it."""

from pathlib import Path

import pandas as pd

from cbtllm_utils import files, notices, workbooks
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import blinding, forms
from cbtllm_utils.text import distortions

RISKS = ("none", "passive", "active")
FIELDS = ["questionID", "annotator", "labels", "evidence", "risk"]
APART = " / "  # between two pieces of evidence
TICKS = ("x", "1", "1.0", "✓", "√", "v", "y", "yes", "true", "是")
EMPTY = ("", "0", "0.0", "n", "no", "false", "否")
SHORTEST = 2  # characters of a piece of evidence: one stands in almost any post
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
    """The guideline in Markdown: notice, rules, and the classes that can be marked."""
    rows = distortions.taxonomy()[["label", "english", "chinese", "definition"]].itertuples(index=False)
    classes = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return RULES.format(notice=f"> {notices.notice('en')}\n>\n> {notices.notice('zh')}", classes=classes)


def form(posts: list[Question], path: str | Path, annotator: str) -> Path:
    """The path, after a workbook was written there: the guideline, and one line a post with a box for each class."""
    from openpyxl import Workbook
    from openpyxl.worksheet.datavalidation import DataValidation

    book, labels = Workbook(), list(distortions.taxonomy()["label"])
    for line in guideline().splitlines():
        book.active.append([line.replace("**", "")])
    book.active.title, book.active.column_dimensions["A"].width = "guideline", 120
    sheet = book.create_sheet("posts")
    sheet.append(["questionID", "question", "description", *labels, "evidence", "risk"])
    for row, post in enumerate(posts, 2):
        for column, text in enumerate((str(post.questionID), post.question, post.description), 1):
            forms.write_text(sheet.cell(row, column), blinding.plain(text))  # no cell holds control characters
    last, risk = len(posts) + 1, sheet.cell(1, len(labels) + 5).column_letter
    boxes = f"D2:{sheet.cell(1, len(labels) + 3).column_letter}{last}"
    for cells, choices in ((boxes, '"x"'), (f"{risk}2:{risk}{last}", f'"{",".join(RISKS)}"')):
        rule = DataValidation(type="list", formula1=choices, allow_blank=True, showErrorMessage=True)
        sheet.add_data_validation(rule)
        rule.add(cells)
    for name, width in (("B", 24), ("C", 60), (sheet.cell(1, len(labels) + 4).column_letter, 40)):
        sheet.column_dimensions[name].width = width
    sheet.freeze_panes = "D2"
    book.properties.creator = ""
    book.properties.title = annotator
    with files.atomic(path) as temporary:
        temporary.write_bytes(forms.packed(book))
    return files.path(path)


def read(path: str | Path, posts: list[Question], annotator: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(annotations, problems) of a filled form: columns FIELDS; and questionID, reason for each line that cannot count.

    An empty line was not annotated yet and is neither. InputError for a file that is no such form.
    """
    try:
        (_, head), *lines = workbooks.lines(path, "posts") or [(1, ())]
    except files.InputError as error:
        raise files.InputError(f"{files.shown(path)}: no annotation form ({error})") from None
    known, labels = {str(post.questionID): post for post in posts}, list(distortions.taxonomy()["label"])
    if missing := {"questionID", "evidence", "risk", *labels} - set(head):
        raise files.InputError(f"{files.shown(path)}: no column {', '.join(sorted(missing))}")
    good, problems = [], []
    for _, cells in lines:
        row = dict(zip(head, map(workbooks.text, cells), strict=True))
        boxes = {label: row[label].strip().lower() for label in labels}
        if any([*boxes.values(), row["evidence"].strip(), row["risk"].strip()]):
            marked = [label for label, box in boxes.items() if box in TICKS]
            strange = [f"{label} holds {box!r}" for label, box in boxes.items() if box not in (*TICKS, *EMPTY)]
            pieces = [piece.strip() for piece in row["evidence"].split(APART) if piece.strip()]
            wrong = fault(marked, pieces, row["risk"].strip(), known.get(row["questionID"]))
            reason = f"{strange[0]}: tick with x" if strange else wrong
            line = (row["questionID"], annotator, "|".join(marked), APART.join(pieces), row["risk"].strip())
            problems.append((row["questionID"], reason)) if reason else good.append(line)
    return pd.DataFrame(good, columns=FIELDS), pd.DataFrame(problems, columns=["questionID", "reason"])


def collect(folder: str | Path, posts: list[Question]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(annotations, problems) of every filled form in a folder, each under its file's name as annotator; problems name
    annotator, questionID and reason. A folder that does not exist holds none."""
    places = sorted(files.path(folder).glob("*.xlsx"))
    found = [(place.stem, *read(place, posts, place.stem)) for place in places]
    good = [table for _, table, _ in found if len(table)]
    bad = [problems.assign(annotator=name) for name, _, problems in found if len(problems)]
    whole = pd.concat(good, ignore_index=True) if good else pd.DataFrame(columns=FIELDS)
    return whole, pd.concat(bad, ignore_index=True) if bad else pd.DataFrame(
        columns=["questionID", "reason", "annotator"]
    )


def fault(labels: list[str], evidence: list[str], risk: str, post: Question | None) -> str | None:
    """Why an annotation cannot count, or None: evidence stands in the post word for word, or it is none."""
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
    strange = [piece for piece in evidence if piece not in f"{post.question}\n{post.description}"]
    return f"evidence that the post does not hold: {strange[0][:40]!r}" if strange else None
