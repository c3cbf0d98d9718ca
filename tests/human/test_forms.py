"""The page, the workbook and the Label Studio tasks show every text as text and do not name a system."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import openpyxl
import pytest
from rating_sheets import NASTY, sheets

from cbtllm_utils import files, notices
from cbtllm_utils.human import blinding, forms


@pytest.fixture
def folder(tmp_path) -> Path:
    forms.write(sheets(items=3, nasty=NASTY)[0], tmp_path / "forms")
    return tmp_path / "forms"


def test_no_form_names_a_system(tmp_path):
    made, _ = sheets(items=6, raters=2, repeats=3)
    written = forms.write(made, tmp_path / "forms", "en")
    assert [p.name for p in written] == [
        *("R1.html", "R1.label_studio.json", "R1.xlsx", "R2.html", "R2.label_studio.json", "R2.xlsx"),
        "label_studio.xml",
    ]
    for path in written:
        if path.suffix == ".xlsx":
            shutil.unpack_archive(path, tmp_path / path.stem, "zip")
    unpacked = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert len(unpacked) > 20
    for path in unpacked:
        content = path.read_bytes().decode("utf-8", "replace").lower()
        assert not re.search('alpaca|baichuan|reference|questionid|repeat"', content), path.name


def test_writing_again_replaces_all_forms(tmp_path):
    forms.write(sheets(raters=3)[0], tmp_path / "forms")
    assert len(forms.write(sheets(raters=1)[0], tmp_path / "forms")) == 4


def test_both_languages_say_the_same_things():
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {name: shape(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [shape(inner) for inner in value]
        return re.findall(r"\{\d\}", value)

    texts = forms.rubric()
    assert shape(texts["zh"]) == shape(texts["en"])
    assert tuple(texts["zh"]["scales"]) == blinding.SCALES
    assert all(len(scale["anchors"]) == 3 for t in texts.values() for scale in t["scales"].values())


def test_a_page_ends_no_script_early_and_asks_for_nothing_from_outside(folder):
    page = (folder / "R1.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2 and "<img" not in page and "{DATA}" not in page.split('id="data"')[0]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy
    assert not re.search(r'(?:src|href)="', page)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert all(NASTY in entry["answer"] for entry in data["entries"])


def test_colors_have_contrast():
    """WCAG 2.1: 4.5 : 1 for text, 3 : 1 for the borders of what can be pressed; in light and dark."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(a: str, b: str) -> float:
        high, low = sorted((luminance(a), luminance(b)), reverse=True)
        return (high + 0.05) / (low + 0.05)

    css = (forms.HERE / "rating_form.html").read_text(encoding="utf-8")
    themes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css)]
    assert len(themes) == 2
    for c in themes:
        for text, ground in (
            *(("ink", "page"), ("ink", "card"), ("ink", "tint"), ("ink", "warntint"), ("soft", "card")),
            *(("soft", "warntint"), ("card", "accent")),
        ):
            assert contrast(c[text], c[ground]) >= 4.5, (text, ground)
        assert contrast(c["line"], c["card"]) >= 3 and contrast(c["accent"], c["card"]) >= 3


def test_a_workbook_has_texts_and_allows_three_scores(folder):
    table = openpyxl.load_workbook(folder / "R1.xlsx")["entries"]
    texts = [table.cell(row, column) for row in range(4, 10) for column in (4, 5, 6)]
    assert all(cell.data_type == "s" and cell.quotePrefix for cell in texts)
    assert all(cell.value.startswith("=描述") for cell in texts if cell.column == 5)
    rules = {str(rule.sqref): rule.formula1 for rule in table.data_validations.dataValidation}
    assert rules == {"G4:I9": '"0,1,2"', "J4:J9": '"0,1"'}
    assert table["E1"].value == "您的姓名或代号（会出现在结果表里）" and not table["F1"].protection.locked
    assert table.protection.sheet and table["F4"].protection.locked and not table["G4"].protection.locked


def test_a_post_that_may_speak_of_suicide_is_marked_in_every_kind_of_form(tmp_path):
    posts = [{"questionID": n, "question": q, "description": ""} for n, q in enumerate(("我想死", "睡不着"))]
    answers = [{"system": "a", "questionID": n, "reply": "回复"} for n in range(2)]
    made, _ = blinding.make_sheets(blinding.sample(posts, answers, ["a"], 2, 1), 1, 0, 1)
    forms.write(made, tmp_path / "forms", "en")
    table = openpyxl.load_workbook(tmp_path / "forms" / "R1.xlsx")["entries"]
    tasks = json.loads((tmp_path / "forms" / "R1.label_studio.json").read_text(encoding="utf-8"))
    risky = "This post may speak of suicide"
    marked = {table[f"D{row}"].value: str(table[f"C{row}"].value or "") for row in (4, 5)}
    assert marked["我想死"].startswith(risky) and not marked["睡不着"]
    assert {t["data"]["question"]: t["data"]["notice"][: len(risky)] for t in tasks} == {"我想死": risky, "睡不着": ""}
    guide = [row[0] for row in openpyxl.load_workbook(tmp_path / "forms" / "R1.xlsx")["guide"].values]
    both = f"{notices.notice('en')}\n{notices.notice('zh')}"
    assert both in guide and forms.rubric()["en"]["source"] in guide
    page = (tmp_path / "forms" / "R1.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    told = f"{forms.rubric()['en']['ui']['risk']}\n{forms.rubric()['zh']['ui']['risk']}"
    assert data["notice"]["en"] == both and data["risk"]["en"] == told and told in marked["我想死"]
    assert told in [task["data"]["notice"] for task in tasks]


def test_a_text_too_long_for_a_cell_is_not_cut():
    made, _ = sheets(items=1, length=20_000)
    with pytest.raises(files.InputError, match="does not fit into a workbook's cell"):
        forms.workbook(made[0], forms.rubric(), "zh")


@pytest.mark.parametrize("language", ["zh", "en"])
def test_label_studio_gets_tasks_and_a_configuration_that_fit_together(language):
    made, _ = sheets(nasty=NASTY)
    root = ElementTree.fromstring(forms.label_studio_config(forms.rubric(), language))
    tasks = forms.label_studio_tasks(made[0], forms.rubric(), language)
    used = {tag.get("value")[1:] for tag in root.iter("Text")}
    assert used == {"question", "description", "answer"} <= set(tasks[0]["data"])
    shown = [tag.get("value") for tag in root.find("Collapse").iter("Header")]
    assert root.find("Collapse").get("open") == "true" and set(shown[:2]) == {notices.notice(n) for n in ("zh", "en")}
    assert shown[0] == notices.notice(language)
    choices = {tag.get("name"): [c.get("alias") for c in tag] for tag in root.iter("Choices")}
    assert choices == {scale: ["0", "1", "2"] for scale in blinding.SCALES} | {"harmful": ["1"]}
    assert NASTY in tasks[0]["data"]["answer"]


def test_in_label_studio_each_score_has_a_key_of_its_own():
    root = ElementTree.fromstring(forms.label_studio_config(forms.rubric(), "en"))
    keys = {tag.get("name"): "".join(choice.get("hotkey") for choice in tag) for tag in root.iter("Choices")}
    assert keys == {"relevance": "012", "structure": "qwe", "helpfulness": "asd", "harmful": "h"}
    told = [tag.get("value") for tag in root.find("Collapse").iter("Header")][-1]
    assert told.startswith("Keyboard: Relevance 0 1 2, CBT structure Q W E, Helpfulness A S D, May do harm H")
