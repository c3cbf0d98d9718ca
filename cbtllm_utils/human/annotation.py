"""What the annotation in the paper lacked (§ Limitations): a guideline, a form, and a reader that checks it.

A language model can be a second annotator by the same guideline; its labels count only with words of the post.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import openpyxl
import pandas as pd
from openpyxl.styles import PatternFill

from cbtllm_utils import files, notices, safe_spreadsheets, statistics
from cbtllm_utils.data import prompts
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import blinding, returned
from cbtllm_utils.human.returned import Grid, Returned, fold, plain
from cbtllm_utils.llm import budget, client, completeness, schema
from cbtllm_utils.text import cleaning, distortions, endings, quotations, recognition, reply_checks
from cbtllm_utils.text.quotations import SHORTEST, comparable
from cbtllm_utils.text.settings import DistortionSettings

RISKS = ("none", "passive", "active")
FIELDS = ["questionID", "annotator", "labels", "evidence", "risk"]
PROBLEMS = ["file", "line", "annotator", "questionID", "reason"]
SEPARATOR = " / "  # between two pieces of evidence
STROKES = re.compile(r"[/／|\n\r]+")  # how people write it
JOINTS = re.compile(r"[/／|\n\r;；、，,]+|(?<=[”」』])\s*(?=[“「『])")  # where a piece is not in the post as a whole
AROUND = re.compile(
    r"^\s*(?:[（(]?\d{1,2}[.、．)）]|[-•·*])\s*|[。，,.；;！!？?…~～\s]+$"
)  # numbers before, marks behind
TICKS = tuple("x 1 1.0 ✓ √ ✔ ☑ ✅ v y yes true t 是 有 对".split())
EMPTY = ("", *"0 0.0 n no false f 否 无 没有 - – — / □ ☐".split())
RISK_WORDS = {  # what is typed in place of the three words, where it can mean nothing else
    **dict.fromkeys(("无", "没有", "无风险", "没有风险", "norisk"), "none"),
    **dict.fromkeys(("被动", "被动风险", "passiverisk"), "passive"),
    **dict.fromkeys(("主动", "主动风险", "activerisk"), "active"),
}
ANNOTATOR = "annotator 标注人 (name or code; it appears in the tables)"  # beside the cell for it
NAMED = ("annotator标注人", "annotator", "标注人", "标注者", "name", "姓名")  # how that may be called
HEAD, FIRST = 2, 3  # rows of a form: whose it is, the columns' names, the first post
RULES = """# How to annotate a post for distorted thinking
{notice}

Read question and description as the client wrote them. Do not read a reply to them first: it would influence you.

1. Mark a class if the client **thinks in that way in this post**. Do not mark it if somebody else thinks so, if the
   client doubts the thought, or if a feeling is painful but no thought is distorted. A post may show no class.
2. Mark every class that applies. Go by the words, not by what you suspect behind them.
3. Give the **evidence**: the client's words, copied character by character. Join two places by ` / `. Do not mark a
   class without words that show it.
4. **Risk**: `none`; `passive` for a wish to be dead or gone without intent; `active` for intent, plan, self-harm, or
   harm by or to others. If you find risk in a real person's post, follow your institution's procedure at once.
   A line counts once its risk is given: `none` says that you have read it.
5. Work alone. Disagreement between annotators is a result, not a mistake. Do not settle it with each other.

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
    """Write a workbook with the guideline and a row for each post, with a box for each class; return its path.

    The annotator's name goes above the table.
    """
    book, labels = openpyxl.Workbook(), list(distortions.taxonomy()["label"])
    book.properties.creator = "cbtllm"
    book.active.title, book.active.column_dimensions["A"].width = "guideline", 120
    for line in guideline().splitlines():
        book.active.append([line.replace("**", "")])
    sheet = book.create_sheet("posts")
    columns = ["questionID", "question", "description", *labels, "evidence", "risk"]
    sheet.append([ANNOTATOR])
    sheet["C1"].fill = PatternFill("solid", "FFF2CC")
    sheet.append(columns)
    for row, post in enumerate(posts, FIRST):
        for column, text in enumerate((str(post.questionID), post.question, post.description), 1):
            safe_spreadsheets.write_text(sheet.cell(row, column), blinding.clean(text))
    letter = {name: sheet.cell(HEAD, place).column_letter for place, name in enumerate(columns, 1)}
    last = len(posts) + HEAD
    safe_spreadsheets.limit_choices(sheet, f"{letter[labels[0]]}{FIRST}:{letter[labels[-1]]}{last}", "x")
    safe_spreadsheets.limit_choices(sheet, f"{letter['risk']}{FIRST}:{letter['risk']}{last}", RISKS)
    for name, width in {"question": 24, "description": 60, "evidence": 40}.items():
        sheet.column_dimensions[letter[name]].width = width
    sheet.freeze_panes = f"{letter[labels[0]]}{FIRST}"
    with files.atomic(path) as temporary:
        book.save(temporary)
    return files.path(path)


class Read(NamedTuple):
    """What filled forms hold.

    Attributes:
        annotations: With the columns `FIELDS` and file.
        problems: With the columns `PROBLEMS`: rows that cannot count, and files that are not forms.
        files: With the columns `returned.FILES`: a row for each file.
    """

    annotations: pd.DataFrame
    problems: pd.DataFrame
    files: pd.DataFrame


@dataclass(eq=False)
class Part(returned.Part):
    """What one annotator gave in one file: annotations by post; `problems` are what cannot count."""

    problems: list[dict] = field(default_factory=list)


def read_folder(folder: str | Path, posts: list[Question]) -> Read:
    """Read every filled form in a folder, at any depth; a folder that does not exist has none.

    An annotator is the name in the form, or else the file's name without marks of copies and versions. Of several files
    of one annotator the latest complete one counts. An empty row was not annotated yet and is in no table.
    """
    known, parts, listed, problems = {str(post.questionID): post for post in posts}, [], [], []
    for file in returned.collect(folder):
        try:
            if file.kind in (returned.PASSED_OVER, returned.UNUSABLE):
                raise files.InputError(file.reason)
            parts += read_form(file, known)
        except (files.InputError, csv.Error) as error:
            passed = file.kind == returned.PASSED_OVER
            reason = f"{'passed over' if passed else 'not an annotation form'}: {files.one_line(error)}"
            problems += [] if passed else [{"file": file.name, "line": 0, "reason": reason}]
            listed.append({"file": file.name, "read as": file.unread("not an annotation form"), "note": reason})
    settle(parts)
    for part in parts:
        problems += [row | {"file": part.file.name, "annotator": part.name} for row in part.problems]
        note = {"note": "; ".join(filter(None, [part.unfinished, part.note, returned.left_out(part.problems)]))}
        numbers = {"entries read": len(part.given), "entries counted": len(part.counts)}
        listed.append({"file": part.file.name, "read as": part.taken_for, "rater": part.name} | numbers | note)
    found = [
        part.given[number] | {"annotator": part.name, "file": part.file.name}
        for part in parts
        for number in part.given
        if number in part.counts
    ]
    return Read(
        pd.DataFrame(found, columns=[*FIELDS, "file"]),
        pd.DataFrame(problems, columns=PROBLEMS),
        returned.table(listed),
    )


def settle(parts: list[Part]) -> None:
    """Decide what of each part counts. Files with the same content are one annotator's, whatever they are called."""
    for part in parts:
        part.note = "" if part.given or part.problems else "nothing is filled in"
        same = (p for p in parts if p.file.content == part.file.content and p.file is not part.file)
        part.name = next((p.name for p in same if p.given == part.given), part.name)
    for name in dict.fromkeys(fold(part.name) for part in parts if part.given):
        of_annotator = [part for part in parts if part.given and fold(part.name) == name]
        returned.choose(of_annotator)
        for part in of_annotator:
            part.name = of_annotator[0].name  # "Li Wei" and "li wei" are one person
            part.problems = part.problems if part.counts else []


def read_form(file: Returned, known: dict[str, Question]) -> list[Part]:
    """Return what was filled in on each sheet of a form.

    Raises:
        InputError: For a file that is not such a form.
    """
    headed = file.headed(columns_by_title(), {"evidence", "risk"}, at_least=4)
    if not headed:
        raise files.InputError(not_a_form(file))
    labels = list(distortions.taxonomy()["label"])
    for *_, (_, columns) in headed:
        if missing := {"questionID", "evidence", "risk", *labels} - set(columns.values()):
            raise files.InputError(f"no column {', '.join(sorted(missing))}")
    parts = []
    for sheet, grid, (place, columns) in headed:
        name = annotator(f"{file.name}/{sheet}" if len(headed) > 1 else file.name, grid[:place])
        part = Part(file, f"annotation form, {file.kind}", name, saved=file.modified)
        fill(part, grid[place + 1 :], columns, known)
        parts.append(part)
    return [part for part in parts if part.given or part.problems] or parts[:1]


def fill(part: Part, rows: Grid, columns: dict[int, str], known: dict[str, Question]) -> None:
    """Put the rows of a sheet into a part; of a post with two different rows neither counts."""
    twice = set()
    for line, cells in rows:
        texts = {name: safe_spreadsheets.cell_text(cells[i]) for i, name in columns.items() if i < len(cells)}
        number = fold(texts.get("questionID", "")).lstrip("'")
        part.expected += number in known
        row, reason = to_annotation(texts, number, known)
        if reason:
            part.problems.append({"line": line, "questionID": number, "reason": reason})
            part.filled |= {number} & known.keys() if texts.get("risk", "").strip() else set()
        elif row and part.given.setdefault(number, row) != row:
            twice.add(number)
    for number in twice:
        del part.given[number]
        part.problems.append({"line": 0, "questionID": number, "reason": "in two rows that differ; keep one of them"})


def to_annotation(texts: dict[str, str], number: str, known: dict[str, Question]) -> tuple[dict | None, str | None]:
    """Return the annotation in a row of a form, or why it cannot count; neither for a row that is not filled in."""
    boxes = {label: fold(texts.get(label)) for label in distortions.taxonomy()["label"]}
    written = texts.get("evidence", "").strip()
    if not any([*boxes.values(), written, texts.get("risk", "").strip()]):
        return None, None
    marked = [label for label, box in boxes.items() if box in TICKS]
    unclear = [f"{label} holds {box!r}: tick with x" for label, box in boxes.items() if box not in TICKS + EMPTY]
    risk, post = to_risk(texts.get("risk", "")), known.get(number)
    evidence = pieces(written, post)
    if reason := [*unclear, problem(marked, evidence, risk, post)][0]:
        return None, reason
    joined = {"labels": "|".join(marked), "evidence": SEPARATOR.join(evidence)}
    return {"questionID": number} | joined | {"risk": risk}, None


def to_risk(text: str) -> str:
    """Return the word of `RISKS` that a text means, or the text itself."""
    folded = plain(text).rstrip(".。,，!")
    return folded if folded in RISKS else RISK_WORDS.get(folded, text.strip())


def pieces(written: str, post: Question | None) -> list[str]:
    """Return the pieces of evidence in a cell: joined by strokes or on lines of their own, or otherwise.

    A piece that is not in the post is divided further where that makes all of it words of the post.
    """
    if post is None or not written or holds(post, written):
        return [written] if written else []
    found = []
    for piece in filter(None, (part.strip() for part in STROKES.split(written))):
        piece = piece if holds(post, piece) else AROUND.sub("", piece)
        smaller = [part.strip() for part in JOINTS.split(piece) if comparable(part)]
        divide = not holds(post, piece) and all(
            holds(post, part) and len(comparable(part)) >= SHORTEST for part in smaller
        )
        found += smaller if divide else [piece]
    return found


def holds(post: Question, piece: str) -> bool:
    """Return whether a post has these words; width, white space and quotation marks do not count."""
    return quotations.occurs(piece, f"{post.question}\n{post.description}")


def columns_by_title() -> dict[str, str]:
    """Return which column a title means."""
    names = {"questionid": "questionID", "evidence": "evidence", "证据": "evidence", "risk": "risk", "风险": "risk"}
    for row in distortions.taxonomy()[["label", "english", "chinese"]].itertuples(index=False):
        names |= {plain(title): row.label for title in row}
    return names


def annotator(file: str, above: Grid) -> str:
    """Return whose form it is: the name typed above the table, or what the file is called."""
    for _, cells in above:
        texts = [files.one_line(safe_spreadsheets.cell_text(cell)) for cell in cells]
        given = [text for text in texts[1:] if text]
        if given and plain(texts[0]) in NAMED:
            return given[0]
    return returned.name_hint(file) or "form"


def not_a_form(file: Returned) -> str:
    """Return why a file has no annotations."""
    titles = file.titles()
    if set(blinding.SCALES) <= titles or file.kind == returned.JSON:
        return "a form for raters; it belongs into data/ratings"
    if {"questionid", "annotator", "labels"} <= titles:
        return "a table of annotations; name it in the parameter `annotations` of notebook 03"
    return "no columns questionID, evidence and risk"


def problem(labels: list[str], evidence: list[str], risk: str, post: Question | None) -> str | None:
    """Return why an annotation cannot count, or None. Evidence must be in the post word for word (see `holds`)."""
    if post is None:
        return "no such post"
    if unknown := set(labels) - set(distortions.taxonomy()["label"]):
        return f"unknown label {', '.join(sorted(unknown))}"
    if risk not in RISKS:
        return f"risk {risk!r}: expected {', '.join(RISKS)}"
    if labels and not evidence:
        return "labels without evidence"
    if short := [piece for piece in evidence if len(comparable(piece)) < SHORTEST]:
        return f"evidence {short[0]!r} is too short to show anything"
    absent = [piece for piece in evidence if not holds(post, piece)]
    return f"evidence that the post does not contain: {absent[0][:40]!r}" if absent else None


def requests(posts: Iterable[Question], model: str, sampling: dict) -> list[dict]:
    """Return requests to a model to annotate as people do: the guideline, a post, and the schema of the answer."""
    task = guideline() + "\nAnswer in JSON: labels, evidence (a list of the client's words), risk.\n"
    fields = {
        "labels": {"type": "array", "items": {"type": "string", "enum": list(distortions.taxonomy()["label"])}},
        "evidence": {"type": "array", "items": {"type": "string"}},
        "risk": {"type": "string", "enum": list(RISKS)},
    }
    own = {"model": model, "response_format": schema.json_schema("annotation", fields), "attempt": 1} | sampling
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
        found = json.loads(schema.between_braces(text))
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
        early = endings.stated(answer.finish_reason)
        parsed = parse_answer(cleaning.clean(answer.text).text, posts[answer.id])
        found = f"{reply_checks.CUT_OFF}: {early}" if early else parsed
        reason, found = (found, {}) if isinstance(found, str) else (None, found)
        labels, evidence = "|".join(found.get("labels", [])), SEPARATOR.join(found.get("evidence", []))
        rows.append((answer.id, annotator, labels, evidence, found.get("risk", ""), reason))
    return pd.DataFrame(rows, columns=[*FIELDS, "reason"])


def posts_of(items: Iterable[Mapping]) -> dict[object, Question]:
    """Return the posts of a data set by questionID."""
    return {one["questionID"]: Question(one["questionID"], one["question"], one["description"]) for one in items}


def judgments(forms: pd.DataFrame, path: str | None, posts: Mapping[object, Question]) -> pd.DataFrame:
    """Return questions × annotators of these posts: the set of labels each gave, NaN where one did not judge.

    Args:
        forms: The annotations of filled forms (`read_folder`); where there are none, those of `path` count.
        path: A CSV of annotations, or None for a study without annotators.
        posts: The posts of the data set by questionID.

    Raises:
        InputError: When none of the posts that the CSV judges is in the data set.
    """
    typed = forms.astype({"questionID": type(next(iter(posts)))})
    judged = recognition.by_annotator(typed) if len(typed) else recognition.annotations(path)
    found = judged[judged.index.isin(list(posts))]
    if len(judged) and not len(found):
        reason = f"none of the {len(judged)} posts that it judges is in this data set"
        raise files.InputError(f"{files.shown(path)}: {reason}")
    return found


def annotators_agree(judged: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Return how well annotators agree on the posts that all of them judged, one measure per row."""
    by_all = judged.dropna()
    presence = by_all.map(bool)
    rows = [("posts judged by all annotators", len(by_all)), ("posts left out", len(judged) - len(by_all))]
    for name, given in (("whether there is a distortion", presence), ("all labels", by_all)):
        same = int((given.nunique(axis=1) == 1).sum())
        rows.append((f"agree on {name}", statistics.share_text(same, len(given))))
    kappa = statistics.weighted_kappa(presence.astype(float).T, resamples=min(resamples, 500), seed=seed)
    # Where all agree, resampling gives no interval.
    interval = f" (95% CI {kappa.low:.2f}–{kappa.high:.2f})" if kappa.low < kappa.high else ""
    known = f"{kappa.value:.2f}{interval}" if kappa.value == kappa.value else "–"
    rows.append(("Cohen's kappa of whether there is a distortion", known))
    return pd.DataFrame([(name, str(value)) for name, value in rows], columns=["measure", "value"])


def second_pass(
    drawn: pd.DataFrame, flags: pd.DataFrame, posts: Mapping[object, Question], chosen: DistortionSettings
) -> pd.DataFrame:
    """Compare automatic annotations with those of the last annotator: names in replies, and a model by the guideline.

    Args:
        drawn: Questions × annotators, from `judgments`.
        flags: Questions × classes: whether the reply attributes each, of the same questions.
        posts: The posts by questionID.
        chosen: Settings of notebook 03. Without an endpoint the first annotator takes the model's place.

    Returns:
        Columns "annotated by" and those of `agreement`.
    """
    truth = drawn.iloc[:, -1].to_dict() if drawn.shape[1] else {}
    passes = {"names in the reply": {number: set(flags.columns[row]) for number, row in flags.iterrows()}}
    if chosen.endpoint:
        passes[files.model_name(chosen.model)] = by_model([posts[number] for number in drawn.index], chosen)
    elif drawn.shape[1] > 1:
        passes[f"annotator {drawn.columns[0]}"] = drawn.iloc[:, 0].to_dict()
    rows = []
    for name, found in passes.items():
        judged = {number: labels for number, labels in truth.items() if number in found}
        rows.append({"annotated by": name} | agreement(judged, found))
    return pd.DataFrame(rows)


def by_model(posts: list[Question], chosen: DistortionSettings) -> dict[object, set[str]]:
    """Ask a model to annotate posts by the guideline; print the cost and what counts; return labels by questionID."""
    asked, step = requests(posts, chosen.model, chosen.sampling), "03_distortion_analysis"
    price = chosen.price(chosen.model)
    print(budget.in_words(asked, price, chosen.model), "(including what the response cache answers)")
    asking = {"endpoint": chosen.endpoint, "cache_path": f"{chosen.run}/annotation/responses.jsonl"}
    answers, lost = completeness.ask(asked, chosen.run, step, price=price, **asking, **chosen.limits())
    print(completeness.require(lost, len(asked), chosen.allowed_missing, chosen.run, step))
    said = from_answers(answers, {post.questionID: post for post in posts}, files.model_name(chosen.model))
    files.tell(schema.account(answer.form for answer in answers))
    print(f"{len(lost)} not annotated;", said["reason"].fillna("counts").value_counts().to_dict())
    return {row.questionID: set(filter(None, row.labels.split("|"))) for row in said.itertuples()}


def hand_out(posts: Mapping[object, Question], chosen: DistortionSettings) -> str:
    """Write guideline and form for annotators below the run and return what to do with them.

    A form that is there stays as it is, since it may be half filled.
    """
    drawn = pd.Series(list(posts)).sample(min(chosen.to_annotate, len(posts)), random_state=chosen.seed).sort_index()
    path = files.path(f"{chosen.run}/annotation/form.xlsx")
    if not path.exists():
        write_form([posts[number] for number in drawn], path)
    files.write_text(f"{chosen.run}/annotation/guideline.md", guideline())
    return (
        f"{files.shown(path)} holds {len(drawn)} posts. Give each annotator a copy; the filled copies go into "
        f"{chosen.filled}/, each with the annotator's name at its top."
    )


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
