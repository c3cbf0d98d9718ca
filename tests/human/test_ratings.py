"""Every problem of a filled form is named by file, line and rater; no problem counts, and nothing sound is lost."""

import json
import re
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils.human import blinding, forms, ratings

SYSTEMS = ["alpaca-chinese-7b", "baichuan-7b"]
FORMULA = '=HYPERLINK("http://x","点我")'


@pytest.fixture
def made() -> tuple[list[blinding.Sheet], pd.DataFrame]:
    posts = [{"questionID": n, "question": f"{FORMULA}{n}", "description": f"描述{n}"} for n in (1, 2)]
    answers = [{"system": s, "questionID": p["questionID"], "reply": f"+回复 {s[0]}"} for s in SYSTEMS for p in posts]
    return blinding.make_sheets(blinding.sample(posts, answers, SYSTEMS, 2, 1), raters=2, repeats=1, seed=1)


def rows(sheet: blinding.Sheet, **changes: object) -> list[dict]:
    """Return a sheet filled with 2, 1, 0 throughout; `changes` go to its second entry, line 3 of the file."""
    filled = [
        {"entry": e.entry, "check": e.check, "relevance": 2, "structure": 1, "helpfulness": 0} for e in sheet.entries
    ]
    filled[1] |= changes
    return filled


def saved(folder: Path, sheet: blinding.Sheet, filled: list[dict], name: str = "R1.jsonl", **head: str) -> Path:
    lines = [{"form": sheet.form, "rater": sheet.rater, "kind": "person"} | head, *filled]
    path = folder / name
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_sound_form_is_read_whole_and_unblinded(made, tmp_path):
    sheets, key = made
    found, problems, _ = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0])), key)
    assert problems.empty and len(found) == 5 and found["repeat"].sum() == 1
    assert found[list(blinding.SCALES)].to_numpy().tolist() == [[2, 1, 0]] * 5
    expected = key[key["form"] == sheets[0].form][["entry", "questionID", "system"]]
    assert found[["entry", "questionID", "system"]].to_numpy().tolist() == expected.to_numpy().tolist()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"structure": None}, "structure is missing"),
        ({"structure": ""}, "structure is missing"),
        ({"relevance": 3}, "relevance is 3, expected 0, 1 or 2"),
        ({"relevance": -1}, "relevance is -1, expected 0, 1 or 2"),
        ({"helpfulness": 1.5}, "helpfulness is 1.5, expected 0, 1 or 2"),
        ({"helpfulness": "高"}, "helpfulness is 高, expected 0, 1 or 2"),
        ({"relevance": True}, "relevance is True, expected 0, 1 or 2"),
        ({"entry": "AAAA"}, "unknown entry: this form has no such code"),
        ({"entry": None}, "unknown entry: this form has no such code"),
        ({"check": "0" * 16}, "edited entry: its text is not the form's"),
        ({"check": None}, "edited entry: its text is not the form's"),
        ({"form": "0" * 16}, "unknown form: the key does not list it"),
        ({"kind": "robot"}, "kind is robot, expected person or language model"),
    ],
)
def test_a_problem_is_named_and_costs_one_entry(made, tmp_path, changes, reason):
    sheets, key = made
    found, problems, _ = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0], **changes)), key)
    assert len(found) == 4 and len(problems) == 1
    problem = problems.iloc[0]
    assert (problem["file"], problem["line"], problem["rater"]) == ("R1.jsonl", 3, "R1")
    assert problem["reason"].startswith(reason)


def test_entries_left_out_are_not_a_problem(made, tmp_path):
    sheets, key = made
    blank = dict.fromkeys(blinding.SCALES)
    found, problems, _ = ratings.read(saved(tmp_path, sheets[0], rows(sheets[0], **blank)[:3]), key)
    assert len(found) == 2 and problems.empty


def test_an_entry_that_a_file_holds_twice(made, tmp_path):
    """Line 7 repeats line 2 with the same scores, which counts once; line 8 contradicts line 3, and neither counts."""
    sheets, key = made
    filled = rows(sheets[0])
    saved(tmp_path, sheets[0], [*filled, filled[0], filled[1] | {"relevance": 0}])
    found, problems, _ = ratings.read(tmp_path, key)
    assert found["line"].tolist() == [2, 4, 5, 6]
    assert problems[["line", "reason"]].map(lambda cell: str(cell)[:20]).to_numpy().tolist() == [
        *(["3", "rated twice with dif"], ["7", "rated twice with the"], ["8", "rated twice with dif"])
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jsonl", "", "empty; ask for it again"),
        ("head.json", "[]", "its first line should name form and rater"),
        ("deep.json", "[" * 200_000, "not a filled form"),
        ("wide.csv", "[" * 200_000, "not a filled form"),
        ("list.jsonl", "[1]\n[2]\n", "line 1: not an object"),
        ("broken.jsonl", '{"entry', "line 1: not JSON: the file was cut off or edited"),
        ("text.xlsx", "not a zip", "no column relevance, structure, helpfulness"),
        ("half.xlsx", "PK\x03\x04", "damaged, or cut off while it was copied; ask for it again"),
        ("tasks.json", "{}\n1", ""),
        ("other.csv", "a,b\n1,2\n", "no column relevance, structure, helpfulness"),
        ("half.csv", "rater,relevance,helpfulness\n1,2,2\n", "no column structure"),
        ("bytes.csv", "\udcff\udcff", "in UTF-8 or GBK"),
    ],
)
def test_a_file_that_is_not_a_form_is_named_and_the_others_count(made, tmp_path, name, content, reason):
    sheets, key = made
    saved(tmp_path, sheets[0], rows(sheets[0]), "R1.jsonl")
    (tmp_path / name).write_text(content, encoding="utf-8", errors="surrogateescape")
    found, problems, _ = ratings.read(tmp_path, key)
    assert len(found) == 5 and problems["file"].tolist() == [name]
    assert problems["reason"][0].startswith("not a filled form: ") and reason in problems["reason"][0]


def test_a_csv_that_names_systems_needs_no_key(tmp_path):
    path = tmp_path / "r.csv"
    lines = ["rater,questionID,system,relevance,structure,helpfulness,harmful,repeat,kind", "1,7,a,2,1,0,0,False,"]
    lines += [
        "1,8,a,2,1,0,1,,person",
        "1,9,a,2,2,,,,",
        ",7,b,2,2,2,,,",
        "1,,b,2,2,2,,,",
        "1,7,,2,2,2,,,",
        "1,10,b,,,,,,",
    ]
    path.write_text("\n".join(lines), encoding="utf-8-sig")  # as spreadsheet programs save it
    found, problems, _ = ratings.read(path, kind="language model")
    assert found[["questionID", "kind", "harmful", "repeat"]].to_numpy().tolist() == [
        [7, "language model", False, False],
        [8, "person", True, False],
    ]
    reasons = ["helpfulness is missing", "rater is missing", "questionID is missing", "system is missing"]
    assert problems[["line", "reason"]].to_numpy().tolist() == [[n, r] for n, r in enumerate(reasons, 4)]


def test_the_bundled_ratings_are_whole():
    found, problems, _ = ratings.read("data/sample/ratings.csv", kind="language model")
    assert problems.empty and len(found) == 5 * 40 * 2
    assert found.groupby(["rater", "system"]).size().eq(40).all()


def test_a_path_that_does_not_exist_has_no_ratings(tmp_path):
    found, problems, _ = ratings.read(tmp_path / "filled")
    assert found.empty and problems.empty and list(found.columns) == ratings.FIELDS


def test_people_and_models_are_read_separately_and_a_partial_form_counts_with_what_is_rated(made, tmp_path):
    sheets, key = made
    (tmp_path / "filled").mkdir()
    saved(tmp_path / "filled", sheets[0], rows(sheets[0], structure=None)[:3])
    places = {"data/sample/ratings.csv": "language model", "filled": "person", "absent": "person", None: "person"}
    found, problems, _ = ratings.read_all(places, key, tmp_path)
    assert found["kind"].value_counts().to_dict() == {"language model": 400, "person": 2}
    assert problems[["file", "line", "rater"]].to_numpy().tolist() == [["R1.jsonl", 3, "R1"]]
    far = ratings.progress(key, found)
    assert far[["rater", "entries", "entries rated", "entries left"]].to_numpy().tolist() == [
        ["R1", 5, 2, 3],
        ["R2", 5, 0, 5],
    ]
    assert (
        ratings.partial_forms(far) == "partial forms: R1 2 of 5"
        and ratings.partial_forms(far.assign(**{"entries left": 0})) == ""
    )
    none, problems, _ = ratings.read_all({"absent": "person"}, key, tmp_path)
    assert none.empty and problems.empty and ratings.progress(key, none)["entries rated"].sum() == 0


def test_remarks_begin_with_harm_and_leave_out_entries_without_a_remark(made, tmp_path):
    sheets, key = made
    filled = rows(sheets[0], comment=FORMULA, harmful=False)
    filled[3] |= {"harmful": True}
    filled[4] |= dict.fromkeys(blinding.SCALES) | {"harmful": True, "comment": "不敢评"}
    found, problems, _ = ratings.read(saved(tmp_path, sheets[0], filled), key)
    said = ratings.remarks(found, problems)
    assert said[["harmful", "comment", "line"]].to_numpy().tolist() == [
        *([True, "", 5], [True, "不敢评", 6], [False, FORMULA, 3])
    ]
    assert len(found) == 4 and problems["reason"].str.startswith("a flag or a comment without scores").tolist() == [
        True
    ]
    assert said["system"].notna().tolist() == [True, False, True] and said["entry"].notna().all()
    bundled, problems, _ = ratings.read("data/sample/ratings.csv", kind="language model")
    assert ratings.remarks(bundled, problems).empty, "nobody was asked about harm there"


def test_a_rating_given_in_two_places_counts_once(tmp_path):
    line = "rater,questionID,system,relevance,structure,helpfulness\n1,7,a,2,1,0\n"
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(line, encoding="utf-8")
    found, problems, _ = ratings.read_all(
        {"a.csv": "person", "b.csv": "person"}, pd.DataFrame(columns=["form"]), tmp_path
    )
    assert len(found) == 1 and problems["file"].tolist() == ["b.csv"]


def test_ratings_are_found_in_the_run_or_in_the_repository(tmp_path):
    assert ratings.find("data/sample/ratings.csv", tmp_path).is_file()
    (tmp_path / "ratings").mkdir()
    assert ratings.find("ratings", tmp_path) == tmp_path / "ratings"
    assert ratings.find("ratings/filled", tmp_path) == tmp_path / "ratings" / "filled"


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
    found, problems, _ = ratings.read(tmp_path / "R1.xlsx", key)
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
    found, problems, _ = ratings.read(tmp_path / "R1.xlsx", key)
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
    found, problems, _ = ratings.read(tmp_path / "rating-R1-1-of-1.jsonl", key)
    assert problems.empty and found[["questionID", "system"]].to_numpy().tolist() == [[900036, "baichuan-7b"]]


def test_label_studios_export_comes_back(tmp_path):
    """Label Studio exports tasks with annotations, of which a canceled one does not count."""
    post = {"questionID": 1, "question": "问题", "description": "描述"}
    answers = [{"system": system, "questionID": 1, "reply": f"回复{system}"} for system in "abc"]
    (sheet,), key = blinding.make_sheets(blinding.sample([post], answers, list("abc"), 1, 1), 1, 0, 1)
    tasks = forms.label_studio_tasks(sheet, forms.rubric(), "zh")

    def result(name: str, value: dict) -> dict:
        return {"from_name": name, "to_name": "answer", "value": value}

    scores = [result(scale, {"choices": [str(i)]}) for i, scale in enumerate(blinding.SCALES)]
    extra = [result("harmful", {"choices": ["1"]}), result("comment", {"text": ["伤人"]})]
    tasks[0]["annotations"] = [{"result": scores + extra}, {"was_cancelled": True, "result": []}]
    tasks[1]["annotations"] = [{"result": scores[:2]}]
    tasks[2]["annotations"] = [{"result": scores}]
    tasks[2]["data"]["answer"] += "!"
    (tmp_path / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    found, problems, _ = ratings.read(tmp_path / "export.json", key)
    assert found[[*blinding.SCALES, "harmful", "comment"]].to_numpy().tolist() == [[0, 1, 2, True, "伤人"]]
    assert problems["line"].tolist() == [2, 3]
    assert problems["reason"].tolist() == ["helpfulness is missing", "edited entry: its text is not the form's"]


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
        found, problems, _ = ratings.read(folder / name, key)
        assert problems.empty and len(found) == 2, problems["reason"].tolist()
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1]
    assert "<" not in data and [e["answer"] for e in json.loads(data)["entries"]] == [e.answer for e in made.entries]
