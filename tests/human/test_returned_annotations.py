"""Annotations as people return them: ticks, risk and evidence in many ways; what is uncertain is listed."""

import openpyxl
import pytest
import returned_files as made

from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation
from cbtllm_utils.text import distortions, recognition

POSTS = [
    Question(
        900004,
        "“我总是失败”",
        "2. 考砸一次，这辈子就完了……妈妈说：「你不行」。真的——真的一点都没用。\n没人理我/没人要我",
    ),
    Question(900007, "今天怎么早睡", "想早点睡，可是睡不着"),
    Question(900009, "同事不理我", "他们都讨厌我"),
]
LABELS = list(distortions.taxonomy()["label"])


def form(rows: dict[int, dict], name: str = "", old: bool = False) -> openpyxl.Workbook:
    """Return a filled form: by question, its cells. Forms of version 0.2 had no row for the name."""
    book = openpyxl.Workbook()
    book.active.title = "guideline"
    sheet = book.create_sheet("posts")
    if not old:
        sheet.append([annotation.ANNOTATOR, None, name])
    columns = ["questionID", "question", "description", *LABELS, "evidence", "risk"]
    sheet.append(columns)
    for post in POSTS:
        texts = {"questionID": str(post.questionID), "question": post.question, "description": post.description}
        sheet.append([(texts | rows.get(post.questionID, {})).get(column) for column in columns])
    return book


def read(folder) -> annotation.Read:
    return annotation.read_folder(folder, POSTS)


def one(tmp_path, **cells) -> annotation.Read:
    return read(made.lay(tmp_path, {"anna.xlsx": made.saved(form({900004: cells}))}))


EVIDENCE = "我总是失败"
NONE = {post.questionID: {"risk": "none"} for post in POSTS}


@pytest.mark.parametrize(
    "box", ["x", "X", "ｘ", " x ", "✓", "√", "✔", "✔️", "☑", "v", "1", 1, 1.0, "是", "TRUE", True, "y"]
)
def test_a_tick(tmp_path, box):
    found = one(tmp_path, labeling=box, evidence=EVIDENCE, risk="none")
    assert found.annotations["labels"].tolist() == ["labeling"] and found.problems.empty


@pytest.mark.parametrize("box", ["0", 0, False, "否", "无", "-", "—", " "])
def test_no_tick(tmp_path, box):
    found = one(tmp_path, labeling=box, risk="none")
    assert found.annotations["labels"].tolist() == [""] and found.problems.empty


@pytest.mark.parametrize("box", ["?", "x?", "大概", "×", "2", "=1+1", EVIDENCE])
def test_a_mark_that_is_not_certain_is_listed(tmp_path, box):
    found = one(tmp_path, labeling=box, evidence=EVIDENCE, risk="none")
    assert found.annotations.empty and "labeling holds" in found.problems["reason"][0]


@pytest.mark.parametrize(
    "text, risk",
    [
        *((text, "none") for text in ("none", "None", "NONE ", "ｎｏｎｅ", "无", "没有", "无风险", "none.")),
        *((text, "passive") for text in ("Passive", "被动", "passive（被动）")),
        *((text, "active") for text in ("active\u00a0", "主动", "ACTIVE")),
        *((text, None) for text in ("", "passive?", "none/passive", "有", "消极", "0", "低", "积极")),
    ],
)
def test_risk(tmp_path, text, risk):
    found = one(tmp_path, labeling="x", evidence=EVIDENCE, risk=text)
    assert found.annotations["risk"].tolist() == ([risk] if risk else [])
    assert len(found.problems) == (0 if risk else 1)


@pytest.mark.parametrize(
    "evidence, pieces",
    [
        ("“我总是失败”", 1),
        ("我 总是\n失败", 1),
        ("我总是失败 / 这辈子就完了", 2),
        ("我总是失败/这辈子就完了", 2),
        ("我总是失败／这辈子就完了", 2),
        ("「我总是失败」\n「这辈子就完了」", 2),
        ("“我总是失败”“这辈子就完了”", 2),
        ("我总是失败；这辈子就完了", 2),
        ("1. 我总是失败\n2. 这辈子就完了。", 2),
        ("2. 考砸一次", 1),
        ("考砸一次,这辈子就完了...妈妈说:你不行", 1),
        ("真的--真的一点都没用", 1),
        ("没人理我/没人要我", 1),
        ("我总是失败\u200b", 1),
        ("我总是 失败！", 1),
        ("考砸一次，这辈子就完了", 1),
    ],
)
def test_the_clients_words_in_another_dress(tmp_path, evidence, pieces):
    found = one(tmp_path, labeling="x", evidence=evidence, risk="none")
    assert found.problems.empty
    assert len(found.annotations["evidence"][0].split(annotation.SEPARATOR)) == pieces


@pytest.mark.parametrize(
    "evidence",
    ["我老是失败", "我总失败", "我总是失败 / 她很自责", "我总是……完了", "我總是失敗", "来访者觉得自己失败", "！", "我"],
)
def test_other_words_are_listed_with_file_and_row(tmp_path, evidence):
    found = one(tmp_path, labeling="x", evidence=evidence, risk="none")
    assert found.annotations.empty
    assert found.problems[["file", "line", "questionID"]].to_numpy().tolist() == [["anna.xlsx", 3, "900004"]]


def test_annotators_and_their_files(tmp_path):
    """Lock files are passed over; "anna (1).xlsx" and "anna.xlsx" are one; the latest complete file counts."""
    half = {900004: {"labeling": "x", "evidence": EVIDENCE, "risk": "none"}}
    contents = {
        "anna.xlsx": made.saved(form(half, old=True)),
        "anna (1).xlsx": made.saved(form(NONE, old=True)),
        "~$anna.xlsx": b"\x05anna",
        "li/form.xlsx": made.saved(form(half | {900007: {"risk": "none"}}, "李娜")),
        "li/form - 副本.xlsx": made.saved(form({900009: {"risk": "active"}}, "李 娜")),
        "wang.zip": made.packed({"form_王芳.xlsx": made.saved(form(NONE | half, old=True))}),
        "rating.jsonl": b'{"form": "x", "rater": "R1"}\n',
    }
    found = read(made.lay(tmp_path, contents))
    counts = found.annotations.groupby(["file", "annotator"]).size().to_dict()
    assert counts == {
        ("anna (1).xlsx", "anna"): 3,
        ("li/form - 副本.xlsx", "李 娜"): 1,
        ("li/form.xlsx", "李 娜"): 2,
        ("wang.zip/form_王芳.xlsx", "wang 王芳"): 3,
    }
    recognition.by_annotator(found.annotations)  # each annotator judged a post once
    notes = dict(zip(found.files["file"], found.files["note"], strict=True))
    assert (
        notes["anna.xlsx"]
        == "unfinished: 1 of 3 entries; superseded by anna (1).xlsx, the latest complete file of this person"
    )
    assert "data/ratings" in notes["rating.jsonl"] and notes["~$anna.xlsx"].startswith("passed over")


def test_the_same_bytes_are_one_annotator(tmp_path):
    content = made.saved(form(NONE, old=True))
    found = read(made.lay(tmp_path, {"form_王芳.xlsx": content, "form_李娜.xlsx": content}))
    assert len(found.annotations) == 3 and found.annotations["annotator"].nunique() == 1


def test_tables_as_programs_export_them(tmp_path):
    """Sorted, with IDs as numbers, in another sheet, as CSV in GBK; two people's sheets in one workbook."""
    rows = made.grid(form(NONE, old=True), "posts")
    book = form({}, old=True)
    for name in ("王芳", "李娜"):
        sheet = book.create_sheet(name)
        for place, row in enumerate([rows[0], *sorted(rows[1:], reverse=True)]):
            sheet.append([int(row[0]) if place else row[0], *row[1:]])
    contents = {"posts_刘洋.csv": made.exported(rows, ";", "gbk"), "all.xlsx": made.saved(book)}
    found = read(made.lay(tmp_path, contents))
    assert found.annotations["annotator"].value_counts().to_dict() == {"刘洋": 3, "all 王芳": 3, "all 李娜": 3}
    assert found.problems.empty


def test_a_post_in_two_rows_that_differ_counts_in_neither(tmp_path):
    book = form(NONE)
    book["posts"].append(["900004", *[None] * (len(LABELS) + 3), "active"])
    book["posts"].append(["900007", *[None] * (len(LABELS) + 3), "none"])
    found = read(made.lay(tmp_path, {"anna.xlsx": made.saved(book)}))
    assert sorted(found.annotations["questionID"]) == ["900007", "900009"]
    assert found.problems[["questionID", "reason"]].to_numpy().tolist() == [
        ["900004", "in two rows that differ; keep one of them"]
    ]


def test_a_slip_in_the_latest_form_brings_no_older_annotations_back(tmp_path):
    slip = NONE | {900004: {"labeling": "x", "evidence": "别的话", "risk": "none"}}
    books = {"a.xlsx": form(NONE, "anna"), "b.xlsx": form(slip, "Anna")}
    found = read(made.lay(tmp_path, {name: made.saved(book) for name, book in books.items()}))
    assert set(found.annotations["file"]) == {"b.xlsx"} and len(found.annotations) == 2
    assert "evidence that the post does not contain" in found.problems["reason"][0]


def test_annotators_of_one_name_may_tell_themselves_apart_in_brackets(tmp_path):
    books = {f"{i}.xlsx": form(NONE, name) for i, name in enumerate(("张伟（大）", "张伟（小）"))}
    books["1.xlsx"]["posts"]["A9"] = "note"  # not the same bytes
    found = read(made.lay(tmp_path, {name: made.saved(book) for name, book in books.items()}))
    assert found.annotations["annotator"].nunique() == 2
