"""Filled forms come back from a page, a workbook, Label Studio and a CSV file with the texts that were sent out."""

import json
import re

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils.human import blinding, filled_forms, forms, ratings

SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b"]
FORMULA = '=HYPERLINK("http://x","点我")'


def make(question=FORMULA, description="描述", reply="+回复"):
    """Return a sheet of two entries, one post and two systems, and its key."""
    post = {"questionID": 1, "question": question, "description": description}
    answers = [{"system": system, "questionID": 1, "reply": f"回{reply}"} for system in SYSTEMS]
    (sheet,), key = blinding.make_sheets(blinding.sample([post], answers, SYSTEMS, 1, 1), 1, repeats=0, seed=1)
    return sheet, key


def test_a_workbook_comes_back_with_texts_like_formulas_as_texts(tmp_path):
    sheet, key = make()
    forms.write([sheet], tmp_path / "forms")
    book = openpyxl.load_workbook(tmp_path / "forms" / "R1.xlsx")
    table = book["entries"]
    for column, value in zip("GHIJK", (2, 1, 0, 1, FORMULA), strict=True):
        table[f"{column}4"] = value
        table[f"{column}5"] = value
    table["F5"] = "someone else's words"
    book.save(tmp_path / "R1.xlsx")
    assert table["D4"].data_type == "s" and table["D4"].value == FORMULA
    found, problems = ratings.read(tmp_path / "R1.xlsx", key)
    assert found[[*blinding.SCALES, "harmful", "comment"]].to_numpy().tolist() == [[2, 1, 0, True, FORMULA]]
    assert problems[["line", "reason"]].to_numpy().tolist() == [[5, "edited entry: its text is not the form's"]]


def test_a_workbook_keeps_the_columns_of_the_forms_that_were_handed_out_before(tmp_path):
    """Version 0.1 wrote these rows; whoever renames a column must read both names."""
    sheet, key = make()
    entry = sheet.entries[0]
    book = openpyxl.Workbook()
    table = book.create_sheet("entries")
    table.append(["form", sheet.form, "评分人", "R1"])
    table.append("no entry notice question description answer relevance structure helpfulness harmful comment".split())
    table.append(["", "", "请先阅读"])
    table.append([1, entry.entry, "", entry.question, entry.description, entry.answer, 2, 1, 0, None, "好"])
    table["D4"].data_type = "s"
    book.save(tmp_path / "R1.xlsx")
    found, problems = ratings.read(tmp_path / "R1.xlsx", key)
    assert problems.empty and found[[*blinding.SCALES, "comment"]].to_numpy().tolist() == [[2, 1, 0, "好"]]


def test_a_saved_page_keeps_the_names_of_the_forms_that_were_handed_out_before(tmp_path):
    """Version 0.1 saved these lines, and its key.csv had these columns."""
    head = '{"form":"68cfaf43d17ec8cb","rater":"R1","kind":"person","language":"zh","entries":1,"finished":true}'
    line = (
        '{"entry":"HKXV","check":"93da0f4c11b3bd3c","relevance":2,"structure":1,"helpfulness":0,'
        '"harmful":false,"comment":"好"}'
    )
    (tmp_path / "rating-R1-1-of-1.jsonl").write_text(f"{head}\n{line}\n", encoding="utf-8")
    (tmp_path / "key.csv").write_text(
        "form,rater,position,entry,check,questionID,system,repeat\n"
        "68cfaf43d17ec8cb,R1,1,HKXV,93da0f4c11b3bd3c,900036,baichuan-7b,False\n"
    )
    _, later = make()
    key = blinding.save_key(later, tmp_path / "key.csv")
    found, problems = ratings.read(tmp_path / "rating-R1-1-of-1.jsonl", key)
    assert problems.empty and found[["questionID", "system"]].to_numpy().tolist() == [[900036, "baichuan-7b"]]


def test_label_studios_export_comes_back(tmp_path):
    """Label Studio exports tasks with annotations, of which a canceled one does not count."""
    post = {"questionID": 1, "question": "问题", "description": "描述"}
    answers = [{"system": system, "questionID": 1, "reply": f"回复{system}"} for system in "abc"]
    (sheet,), key = blinding.make_sheets(blinding.sample([post], answers, list("abc"), 1, 1), 1, 0, 1)
    tasks = forms.label_studio_tasks(sheet, forms.rubric()["zh"])

    def result(name: str, value: dict) -> dict:
        return {"from_name": name, "to_name": "answer", "value": value}

    scores = [result(scale, {"choices": [str(i)]}) for i, scale in enumerate(blinding.SCALES)]
    extra = [result("harmful", {"choices": ["1"]}), result("comment", {"text": ["伤人"]})]
    tasks[0]["annotations"] = [{"result": scores + extra}, {"was_cancelled": True, "result": []}]
    tasks[1]["annotations"] = [{"result": scores[:2]}]
    tasks[2]["annotations"] = [{"result": scores}]
    tasks[2]["data"]["answer"] += "!"
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    found, problems = ratings.read(tmp_path / "export.json", key)
    assert found[[*blinding.SCALES, "harmful", "comment"]].to_numpy().tolist() == [[0, 1, 2, True, "伤人"]]
    assert problems["line"].tolist() == [2, 3]
    assert problems["reason"].tolist() == ["helpfulness is missing", "edited entry: its text is not the form's"]


def test_a_csv_file_is_read_as_spreadsheet_programs_save_it(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("rater,questionID,system,relevance,structure,helpfulness\n1,7,a,2,1,\n", encoding="utf-8-sig")
    row = {"system": "a", "rater": "1", "questionID": 7, "relevance": "2", "structure": "1", "line": 2}
    assert list(filled_forms.read_csv(path)) == [row]


hostile = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    [
        *("=HYPERLINK(1)", "</script><script>", "<!--", "\x1b[2J\x00", "\ud83d", "\u202eabc", "]]>&lt;", "\r\n"),
        *("_x000D_", "𝔄\u2028"),
    ]
)


@settings(max_examples=40, deadline=None)
@given(hostile, hostile, hostile)
def test_any_text_is_text_in_every_form_and_is_recognized_when_it_comes_back(
    tmp_path_factory, question, description, reply
):
    folder = tmp_path_factory.mktemp("forms")
    made, key = make(question, description, reply)
    page, tasks, book, _ = forms.write([made], folder / "forms")
    sheet = openpyxl.load_workbook(book)
    for row in (4, 5):
        for column in "GHI":
            sheet["entries"][f"{column}{row}"] = 1
    assert not any(cell.data_type == "f" for line in sheet["entries"] for cell in line)
    sheet.save(folder / "filled.xlsx")
    choices = [{"from_name": name, "value": {"choices": ["1"]}} for name in blinding.SCALES]
    done = [task | {"annotations": [{"result": choices}]} for task in json.loads(tasks.read_text(encoding="utf-8"))]
    (folder / "filled.json").write_text(json.dumps(done))
    for name in ("filled.xlsx", "filled.json"):
        found, problems = ratings.read(folder / name, key)
        assert problems.empty and len(found) == 2, problems["reason"].tolist()
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1]
    assert "<" not in data and [e["answer"] for e in json.loads(data)["entries"]] == [e.answer for e in made.entries]


@pytest.mark.parametrize("suffix", filled_forms.READERS)
def test_every_reader_refuses_what_is_not_a_form(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_bytes(b"\xff\x00 not a form [[[")
    with pytest.raises(filled_forms.UNREADABLE):
        list(filled_forms.READERS[suffix](tmp_path / f"x{suffix}"))
