"""Blinded sheets as files that a rater can fill: one HTML page, a workbook, or Label Studio's tasks."""

import base64
import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

from cbtllm_utils import files, notices
from cbtllm_utils.human.blinding import SCALES, Sheet

HERE = Path(__file__).parent
CELL = 32_767  # characters that a workbook's cell can hold
COLUMNS = ("no", "entry", "notice", "question", "description", "answer", *SCALES, "harmful", "comment")


def rubric() -> dict:
    """Guidelines, scales, anchors and the form's own words, by language: Appendix A in the project's words."""
    return json.loads((HERE / "rating_rubric.json").read_text(encoding="utf-8"))


def write(sheets: list[Sheet], folder: str | Path, language: str = "zh") -> list[Path]:
    """The files, after they replaced `folder`: an HTML page, a workbook and a task file a rater, and the labelling
    configuration. Nothing in them, their names or metadata says whose an answer is."""
    words = rubric()
    if language not in words:
        raise files.InputError(f"language {language!r}: the forms speak {', '.join(words)}")
    with files.atomic(folder) as temporary:
        temporary.mkdir()
        files.write_text(temporary / "label_studio.xml", label_studio_config(words[language], language))
        for sheet in sheets:
            files.write_text(temporary / f"{sheet.rater}.html", html(sheet, words, language))
            files.write_json(temporary / f"{sheet.rater}.label_studio.json", label_studio_tasks(sheet, words[language]))
            (temporary / f"{sheet.rater}.xlsx").write_bytes(packed(workbook(sheet, words[language], language)))
    return sorted(files.path(folder).iterdir())


def html(sheet: Sheet, words: dict, language: str) -> str:
    """One self-contained page. Its only scripts and styles are its own, by hash; texts lie in it as inert JSON."""
    template = (HERE / "rating_form.html").read_text(encoding="utf-8")
    posts = list(dict.fromkeys((e.question, e.description, e.risk) for e in sheet.entries))
    number = {post: i for i, post in enumerate(posts)}
    data = {"form": sheet.form, "rater": sheet.rater, "language": language, "rubric": words}
    data["notice"] = {name: notices.notice(name) for name in words}
    data["posts"] = [{"question": q, "description": d, "risk": risk} for q, d, risk in posts]
    data["entries"] = [
        {"entry": e.entry, "check": e.check, "post": number[e.question, e.description, e.risk], "answer": e.answer}
        for e in sheet.entries
    ]
    for mark, tag in (("{STYLE}", "<style>"), ("{SCRIPT}", "<script>")):
        template = template.replace(mark, digest(template.split(tag)[1].split(tag.replace("<", "</"))[0]))
    return template.replace("{DATA}", inert(data))  # last: a post may contain {SCRIPT}


def inert(value: object) -> str:
    """JSON that ends no script element and opens no comment, whatever the texts hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)


def digest(text: str) -> str:
    """The hash by which a content security policy allows a script or a style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def workbook(sheet: Sheet, words: dict, language: str) -> object:
    """An openpyxl Workbook: a guide, and one row an entry whose scores can only be 0, 1 or 2. Text stays text."""
    import openpyxl
    from openpyxl.worksheet.datavalidation import DataValidation

    book = openpyxl.Workbook()
    book.properties.creator = "cbtllm"
    guide, table = book.active, book.create_sheet("entries")
    guide.title = "guide"
    for text in [
        words["title"],
        notices.notice(language),
        words["care"],
        words["source"],
        words["about"],
        *words["guide"],
        *scales(words),
    ]:
        guide.append([text])
        style(guide.cell(guide.max_row, 1), 110)
    table.append(["form", sheet.form, words["ui"]["rater"], sheet.rater])
    table.append(list(COLUMNS))
    table.append(
        ["", "", warning(words), *(words["ui"][name] for name in ("question", "description", "answer")), *names(words)]
    )
    for number, e in enumerate(sheet.entries, 1):
        shown = (number, e.entry, words["ui"]["risk"] if e.risk else "", e.question, e.description, e.answer)
        for column, text in enumerate(shown, 1):
            write_text(table.cell(number + 3, column), text)
        for column in range(7, 12):
            style(table.cell(number + 3, column), None, locked=False)
    last = len(sheet.entries) + 3
    for cells, choices in ((f"G4:I{last}", '"0,1,2"'), (f"J4:J{last}", '"0,1"')):
        rule = DataValidation(type="list", formula1=choices, allow_blank=True, showErrorMessage=True)
        rule.error = words["title"]
        table.add_data_validation(rule)
        rule.add(cells)
    for column, width in zip("ABCDEFGHIJK", (5, 8, 18, 24, 48, 70, 12, 12, 12, 12, 40), strict=True):
        table.column_dimensions[column].width = width
    table.freeze_panes = "C4"
    table.protection.sheet = True  # guards against slips, without a password: scores and comments are open
    book.active = 0
    return book


def packed(book: object) -> bytes:
    """The workbook as a file, the same bytes for the same entries: no time of writing, in it or on its parts."""
    whole, fixed = io.BytesIO(), io.BytesIO()
    book.save(whole)
    with zipfile.ZipFile(whole) as parts, zipfile.ZipFile(fixed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in parts.namelist():
            content = parts.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"1980-01-01T00:00:00Z", content)
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # ZipInfo's own time is 1980
    return fixed.getvalue()


def scales(words: dict) -> list[str]:
    """One line a scale: name, question, anchors."""
    return [
        f"{s['name']}: {s['asks']} " + " · ".join(f"{i} {anchor}" for i, anchor in enumerate(s["anchors"]))
        for s in words["scales"].values()
    ]


def names(words: dict) -> list[str]:
    """The headings of what a rater fills."""
    asked = [f"{s['name']} (0 {s['anchors'][0]}, 2 {s['anchors'][2]})" for s in words["scales"].values()]
    return [*asked, f"{words['ui']['harmful']} (1)", words["ui"]["comment"]]


def write_text(cell: object, text: str | int) -> None:
    """Nothing, after the cell holds the text as text: never a formula, never cut short."""
    if isinstance(text, str) and len(text) > CELL:
        raise files.InputError(f"an entry of {len(text)} characters does not fit a cell; leave the workbook away")
    cell.value = text
    if isinstance(text, str):
        cell.data_type = "s"
        cell.quotePrefix = True  # it stays text when the cell is opened and closed in a spreadsheet program
    style(cell, None)


def style(cell: object, width: int | None, locked: bool = True) -> None:
    """Nothing, after the cell wraps its text."""
    from openpyxl.styles import Alignment, Protection

    cell.alignment = Alignment(wrap_text=True, vertical="top")
    cell.protection = Protection(locked=locked)
    if width:
        cell.parent.column_dimensions[cell.column_letter].width = width


def warning(words: dict) -> str:
    """The heading of an entry's own notice: "read this first"."""
    return words["heading"]["notice"]


def label_studio_tasks(sheet: Sheet, words: dict) -> list[dict]:
    """Label Studio's import: one task an entry, in the rater's order; a post that may speak of suicide has a notice."""
    head = {"form": sheet.form, "rater": sheet.rater}
    shown = ("entry", "check", "question", "description", "answer")
    return [
        {"data": head | {n: getattr(e, n) for n in shown} | {"notice": words["ui"]["risk"] if e.risk else "–"}}
        for e in sheet.entries
    ]


def label_studio_config(words: dict, language: str) -> str:
    """Label Studio's labelling configuration: notices and guide, the texts, three scales, a flag and a comment."""
    ui = words["ui"] | {"notice": warning(words)}
    told = [notices.notice(language), words["care"], words["source"], words["about"], *words["guide"]]
    lines = "".join(f'<Header size="6" value={quoteattr(text)}/>' for text in told)
    panels = f"<Panel value={quoteattr(warning(words))}><View>{lines}</View></Panel>"
    texts = [f"<Collapse>{panels}</Collapse>"] + [
        f"<Header value={quoteattr(ui[n])}/><Text name={quoteattr(n)} value={quoteattr('$' + n)}/>"
        for n in COLUMNS[2:6]
    ]
    fields = []
    for name in SCALES:
        scale = words["scales"][name]
        fields.append(f"<Header value={quoteattr(scale['name'] + ': ' + scale['asks'])}/>")
        fields.append(f'<Choices name="{name}" toName="answer" choice="single-radio" required="true">')
        fields += [f'<Choice alias="{i}" value={quoteattr(f"{i} {a}")}/>' for i, a in enumerate(scale["anchors"])]
        fields.append("</Choices>")
    fields.append(
        f'<Choices name="harmful" toName="answer"><Choice alias="1" value={quoteattr(ui["harmful"])}/></Choices>'
    )
    fields.append(
        f'<TextArea name="comment" toName="answer" placeholder={quoteattr(ui["comment"])} maxSubmissions="1"/>'
    )
    return "<View>\n" + "\n".join([*texts, *fields]) + "\n</View>\n"
