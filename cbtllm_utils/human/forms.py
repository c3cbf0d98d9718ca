"""Blinded sheets as files that a rater can fill in: an HTML page, a workbook, or tasks for Label Studio."""

import base64
import hashlib
import itertools
import json
import operator
import re
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import openpyxl
from openpyxl.styles import Alignment, PatternFill, Protection
from openpyxl.utils import get_column_letter

from cbtllm_utils import files, notices
from cbtllm_utils.human.blinding import Sheet
from cbtllm_utils.safe_spreadsheets import limit_choices, write_text

HERE = Path(__file__).parent
SHOWN = ("no", "entry", "notice", "question", "description", "answer")  # a workbook's columns before what is filled in
WIDTHS = (5, 8, 18, 24, 48, 70)  # of these columns
HEAD = 3  # rows above the first entry: form and rater, the columns' names, their titles in the form's language
# In Label Studio all scales of an entry hear the keyboard at once: each has a row of keys for the scores 0, 1, 2.
SCORE_KEYS = ("012", "qwe", "asd")
HARMFUL_KEY = "h"  # as on the page
SMALL = "font-size: 14px; font-weight: 400; margin: 4px 0"  # Label Studio shows headers larger than the posts


def rubric() -> dict:
    """Return guidelines, scales, anchors and the forms' own texts by language: Appendix A in our words."""
    return json.loads((HERE / "rating_rubric.json").read_text(encoding="utf-8"))


def write(
    sheets: list[Sheet], folder: str | Path, language: str = "zh", texts: dict[str, dict] | None = None
) -> list[Path]:
    """Replace `folder` by the forms of all raters: for each a page, a workbook and a task file; and label_studio.xml.

    Neither the files nor their names or metadata say which system wrote a reply.

    Args:
        sheets: The entries.
        folder: Where to.
        language: What the forms speak at first.
        texts: Guidelines, scales and the forms' own texts by language; those of `rubric` by default.
    """
    texts = texts or rubric()
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        files.write_text(temporary / "label_studio.xml", label_studio_config(texts, language))
        for sheet in sheets:
            files.write_text(temporary / f"{sheet.rater}.html", page(sheet, texts, language))
            files.write_json(temporary / f"{sheet.rater}.label_studio.json", label_studio_tasks(sheet, texts, language))
            workbook(sheet, texts, language).save(temporary / f"{sheet.rater}.xlsx")
    return sorted(files.path(folder).iterdir())


def page(sheet: Sheet, texts: dict, language: str) -> str:
    """Return one self-contained HTML page for a rater.

    The only script and style that may run are the page's own, allowed by their hashes. Posts and replies are JSON
    data, which the script shows as text.
    """
    template = (HERE / "rating_form.html").read_text(encoding="utf-8")
    posts = list(dict.fromkeys((e.question, e.description, e.risk) for e in sheet.entries))
    number = {post: i for i, post in enumerate(posts)}
    data = {"form": sheet.form, "rater": sheet.rater, "language": language, "rubric": texts}
    data["scales"] = list(texts[language]["scales"])
    data["notice"] = {name: safety_notice(name) for name in texts}
    data["risk"] = {name: risk_notice(texts, name) for name in texts}
    data["posts"] = [{"question": q, "description": d, "risk": risk} for q, d, risk in posts]
    data["entries"] = [
        {"entry": e.entry, "check": e.check, "post": number[e.question, e.description, e.risk], "answer": e.answer}
        for e in sheet.entries
    ]
    for mark, tag in (("{STYLE}", "style"), ("{SCRIPT}", "script")):
        template = template.replace(mark, csp_hash(template.split(f"<{tag}>")[1].split(f"</{tag}>")[0]))
    return template.replace("{DATA}", json_for_html(data))  # This comes last, since a post may contain {SCRIPT}.


def json_for_html(value: object) -> str:
    """Return JSON that cannot end its script element or begin a comment, whatever the texts contain."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def csp_hash(text: str) -> str:
    """Return the hash by which a content security policy allows a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def workbook(sheet: Sheet, texts: dict[str, dict], language: str) -> openpyxl.Workbook:
    """Return a workbook with a guide and a row for each entry, which takes only what `choices` allows.

    The table is protected without a password, against slips: only name, scores, flag and comment can be
    changed.
    """
    risk, texts = risk_notice(texts, language), texts[language]
    book = openpyxl.Workbook()
    book.properties.creator = "cbtllm"
    guide, table = book.active, book.create_sheet("entries")
    guide.title = "guide"
    guide.column_dimensions["A"].width = 110
    for row, text in enumerate([texts["title"], *introduction(texts, language), *scale_lines(texts)], 1):
        write_text(guide.cell(row, 1), text)
    table.append(["form", sheet.form, texts["ui"]["rater"], sheet.rater, texts["ui"]["name"]])
    table["F1"].protection, table["F1"].fill = Protection(locked=False), PatternFill("solid", "FFF2CC")
    allowed = choices(texts)
    table.append([*SHOWN, *allowed, "comment"])
    table.append(["", "", *column_titles(texts)])
    first, last = HEAD + 1, HEAD + len(sheet.entries)
    filled = [get_column_letter(len(SHOWN) + number) for number in range(1, len(allowed) + 2)]
    for number, e in enumerate(sheet.entries, 1):
        row = number + HEAD
        table.cell(row, 1, number).alignment = Alignment(vertical="top")
        shown = (e.entry, risk if e.risk else "", e.question, e.description, e.answer)
        for column, text in enumerate(shown, 2):
            write_text(table.cell(row, column), text)
        for cell in table[f"{filled[0]}{row}:{filled[-1]}{row}"][0]:
            cell.alignment, cell.protection = Alignment(wrap_text=True, vertical="top"), Protection(locked=False)
    for values, columns in itertools.groupby(zip(allowed.values(), filled, strict=False), key=operator.itemgetter(0)):
        ends = [column for _, column in columns]
        limit_choices(table, f"{ends[0]}{first}:{ends[-1]}{last}", values, texts["title"])
    for number, width in enumerate((*WIDTHS, *(12 for _ in allowed), 40), 1):
        table.column_dimensions[get_column_letter(number)].width = width
    table.freeze_panes = f"C{first}"
    table.protection.sheet = True
    return book


def choices(texts: dict) -> dict[str, Sequence[str]]:
    """Return what a workbook's columns for a rater take: of a single scale its words, else the scores; and the flag."""
    scales = texts["scales"]
    words = {name: scale["anchors"] if len(scales) == 1 else "012" for name, scale in scales.items()}
    return words | ({"harmful": "01"} if "harmful" in texts["ui"] else {})


def introduction(texts: dict, language: str) -> list[str]:
    """Return what a rater reads first: the notices, what the form is about, and the guidelines."""
    return [safety_notice(language), texts["care"], texts["source"], texts["about"], *texts["guide"]]


def languages(first: str) -> list[str]:
    """Return the languages of every notice on a form, that of the form first: whoever opens it must understand one."""
    return sorted(("zh", "en"), key=lambda language: language != first)


def safety_notice(language: str) -> str:
    """Return the safety notice in both languages, a line for each, this one first."""
    return "\n".join(map(notices.notice, languages(language)))


def risk_notice(texts: dict[str, dict], language: str) -> str:
    """Return the notice above a post that is flagged for risk in both languages, a line for each, this one first."""
    return "\n".join(texts[name]["ui"]["risk"] for name in languages(language))


def scale_lines(texts: dict) -> list[str]:
    """Return one line for each scale: its name, its question, and its anchors."""
    return [
        f"{scale['name']}: {scale['asks']} " + " · ".join(f"{i} {anchor}" for i, anchor in enumerate(scale["anchors"]))
        for scale in texts["scales"].values()
    ]


def column_titles(texts: dict) -> list[str]:
    """Return the titles of a workbook's columns from the notice on, in the form's language."""
    ui = texts["ui"]
    allowed = choices(texts)
    scales = [
        f"{s['name']} (0 {s['anchors'][0]}, 2 {s['anchors'][2]})" if allowed[name] == "012" else s["name"]
        for name, s in texts["scales"].items()
    ]
    shown = [texts["heading"]["notice"], ui["question"], ui["description"], ui["answer"]]
    return [*shown, *scales, *([f"{ui['harmful']} (1)"] if "harmful" in ui else []), ui["comment"]]


def label_studio_tasks(sheet: Sheet, texts: dict[str, dict], language: str) -> list[dict]:
    """Return Label Studio's import: a task for each entry; a post flagged for risk has a notice."""
    head = {"form": sheet.form, "rater": sheet.rater}
    shown = ("entry", "check", "question", "description", "answer")
    risk = risk_notice(texts, language)
    return [
        {"data": head | {n: getattr(e, n) for n in shown} | {"notice": risk if e.risk else ""}} for e in sheet.entries
    ]


def label_studio_config(texts: dict[str, dict], language: str) -> str:
    """Return Label Studio's labeling configuration: the introduction, the texts, the scales, a flag where
    the form has one, a comment, and the rater's name, which is needed once."""
    texts = texts[language]
    ui, scales = texts["ui"], texts["scales"]
    lines = [*"\n".join(introduction(texts, language)).split("\n"), keys_in_words(texts)]
    shown = "".join(f'<Header size="6" style="{SMALL}" value={quoteattr(text)}/>' for text in lines)
    title = quoteattr(texts["heading"]["notice"])
    tags = [f'<Collapse open="true"><Panel value={title}><View>{shown}</View></Panel></Collapse>']
    tags.append('<Header size="6" value="$notice"/>')  # a heading of its own would stand above nothing
    for name in ("question", "description", "answer"):
        tags.append(f'<Header size="5" value={quoteattr(ui[name])}/><Text name="{name}" value="${name}"/>')
    for (name, scale), keys in zip(scales.items(), SCORE_KEYS, strict=False):
        tags.append(f'<Header size="6" value={quoteattr(scale["name"] + ": " + scale["asks"])}/>')
        tags.append(f'<Choices name="{name}" toName="answer" choice="single-radio" required="true">')
        for score, (anchor, key) in enumerate(zip(scale["anchors"], keys, strict=True)):
            tags.append(f'<Choice alias="{score}" value={quoteattr(f"{score} {anchor}")} hotkey="{key}"/>')
        tags.append("</Choices>")
    if "harmful" in ui:
        harmful = f'<Choice alias="1" value={quoteattr(ui["harmful"])} hotkey="{HARMFUL_KEY}"/>'
        tags.append(f'<Choices name="harmful" toName="answer">{harmful}</Choices>')
    comment = quoteattr(ui["comment"])
    tags.append(f'<TextArea name="comment" toName="answer" placeholder={comment} maxSubmissions="1"/>')
    name = quoteattr(ui["name"])
    tags.append(f'<TextArea name="name" toName="answer" placeholder={name} maxSubmissions="1" rows="1"/>')
    return "<View>\n" + "\n".join(tags) + "\n</View>\n"


def keys_in_words(texts: dict) -> str:
    """Return which keys give the scores in Label Studio, such as "Keyboard: Relevance 0 1 2, May do harm H"."""
    scales = [
        f"{scale['name']} {' '.join(keys.upper())}"
        for scale, keys in zip(texts["scales"].values(), SCORE_KEYS, strict=False)
    ]
    harmful = [f"{texts['ui']['harmful']} {HARMFUL_KEY.upper()}"] if "harmful" in texts["ui"] else []
    return f"{texts['heading']['keys']}: {', '.join(scales + harmful)}; Ctrl + Enter: Submit / Update"
