"""A guideline, a form that follows it, and a reader that checks each line against the post, for people and models."""

import json

import openpyxl
import pandas as pd
import pytest
from provider import good

from cbtllm_utils import files
from cbtllm_utils.data import psyqa
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.human import annotation
from cbtllm_utils.llm import client
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.text import distortions, recognition

POSTS = [
    Question(1, "我总是失败", "考砸一次，这辈子就完了。"),
    Question(2, "=1+1", "@同事不理我"),
    Question(3, "今天怎么早睡", ""),
]


def fill(path, rows, name=None):
    """Fill some rows of a form, given as questionID -> {column: text}, and the annotator's name."""
    book = openpyxl.load_workbook(path)
    sheet = book["posts"]
    sheet["C1"] = name
    head = {cell.value: cell.column for cell in sheet[2]}
    for line in sheet.iter_rows(min_row=3):
        for column, text in rows.get(int(line[0].value), {}).items():
            sheet.cell(line[0].row, head[column]).value = text
    book.save(path)
    return path


@pytest.fixture
def form(tmp_path):
    return annotation.write_form(POSTS, tmp_path / "form.xlsx")


def test_the_guideline_names_every_class_and_where_to_find_help():
    text = annotation.guideline()
    for row in distortions.taxonomy().itertuples():
        assert f"| {row.label} | {row.english} | {row.chinese} |" in text
    assert "12356" in text and "copied character by character" in text


def test_a_form_has_posts_as_text_and_boxes_for_every_class(form):
    sheet = openpyxl.load_workbook(form)["posts"]
    head = [cell.value for cell in sheet[2]]
    assert head == ["questionID", "question", "description", *distortions.taxonomy()["label"], "evidence", "risk"]
    assert sheet.cell(4, 2).value == "=1+1" and sheet.cell(4, 2).data_type == "s", "no formula"
    choices = {rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert choices == {'"x"', '"none,passive,active"'}


def test_a_filled_row_is_an_annotation_and_an_empty_one_is_not(form):
    fill(form, {1: {"overgeneralization": "x", "evidence": "我总是失败 / 这辈子就完了", "risk": "none"}})
    found, problems, listed = annotation.read_folder(form, POSTS)
    assert found.to_dict("records") == [
        {"questionID": "1", "annotator": "form", "labels": "overgeneralization"}
        | {"evidence": "我总是失败 / 这辈子就完了", "risk": "none", "file": "form.xlsx"}
    ]
    assert problems.empty and listed[["file", "entries read", "entries counted"]].to_numpy().tolist() == [
        ["form.xlsx", 1, 1]
    ]


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"labeling": "x", "risk": "none"}, "labels without evidence"),
        (
            {"labeling": "x", "evidence": "我失败了", "risk": "none"},
            "evidence that the post does not contain: '我失败了'",
        ),
        ({"risk": "severe"}, "risk 'severe': expected none, passive, active"),
        ({"labeling": "x", "evidence": "我总是失败"}, "risk '': expected none, passive, active"),
        ({"labeling": "大概", "risk": "none"}, "labeling holds '大概': tick with x"),
        ({"labeling": "√", "evidence": "我", "risk": "none"}, "evidence '我' is too short to show anything"),
    ],
)
def test_what_cannot_count_has_a_reason(form, row, reason):
    found, problems, _ = annotation.read_folder(fill(form, {1: row}), POSTS)
    assert found.empty and problems.to_dict("records") == [
        {"file": "form.xlsx", "line": 3, "annotator": "form", "questionID": "1", "reason": reason}
    ]


def test_a_line_about_another_post_is_named(form):
    fill(form, {3: {"risk": "none"}})
    assert annotation.read_folder(form, POSTS[:2])[1]["reason"].tolist() == ["no such post"]


def test_another_file_is_listed_and_stops_nothing(tmp_path):
    (tmp_path / "text.xlsx").write_bytes(b"text")
    (tmp_path / "half.xlsx").write_bytes(b"PK\x03\x04junk")
    pd.DataFrame({"questionID": [1]}).to_excel(tmp_path / "other.xlsx", sheet_name="posts")
    (tmp_path / "short.csv").write_text("questionID,evidence,risk,labeling\n1,,none,\n", encoding="utf-8")
    (tmp_path / "all.csv").write_text("questionID,annotator,labels\n1,A,labeling\n", encoding="utf-8")
    (tmp_path / "~$A.xlsx").write_bytes(b"lock")
    found, problems, listed = annotation.read_folder(tmp_path, POSTS)
    reasons = dict(zip(problems["file"], problems["reason"], strict=True))
    assert found.empty and sorted(reasons) == ["all.csv", "half.xlsx", "other.xlsx", "short.csv", "text.xlsx"]
    assert "damaged" in reasons["half.xlsx"] and "no column all_or_nothing, catastroph" in reasons["short.csv"]
    assert "parameter `annotations`" in reasons["all.csv"]
    assert listed.set_index("file").loc["~$A.xlsx", "note"] == "passed over: lock file of Excel or WPS"


def test_the_bundled_annotations_follow_the_guideline():
    """They were written independently of it: labels, evidence word for word, risk."""
    posts = {str(p.questionID): p for p in psyqa.read("data/sample/psyqa_sample.json")[0]}
    table = pd.read_csv(files.path("data/sample/distortion_annotations.csv"), dtype=str, keep_default_na=False)
    for row in table.itertuples():
        labels, evidence = (
            list(filter(None, text.split(mark)))
            for text, mark in ((row.labels, "|"), (row.evidence, annotation.SEPARATOR))
        )
        assert annotation.problem(labels, evidence, row.risk, posts[row.questionID]) is None, row.questionID


def test_filled_forms_in_a_folder_become_annotations_under_a_name(tmp_path):
    """The name in the form counts; without one, that of the file without marks of copies."""
    for name, labels, typed in (("A", {"labeling": "√"}, None), ("form (1)", {}, "王 芳")):
        path = annotation.write_form(POSTS, tmp_path / "forms" / f"{name}.xlsx")
        row = labels | {"evidence": "我总是失败" if labels else "", "risk": "none"}
        fill(path, {1: row, 2: {"risk": "high"}}, typed)
    found, problems, _ = annotation.read_folder(tmp_path / "forms", POSTS)
    assert found[["questionID", "annotator", "labels"]].to_numpy().tolist() == [
        *(["1", "A", "labeling"], ["1", "王 芳", ""])
    ]
    assert problems["annotator"].tolist() == ["A", "王 芳"] and problems["questionID"].tolist() == ["2", "2"]
    sets = recognition.by_annotator(found)
    assert sets.loc["1", "A"] == {"labeling"} and sets.loc["1", "王 芳"] == frozenset()
    assert annotation.read_folder(tmp_path / "none", POSTS)[0].empty


def test_control_characters_in_a_post_do_not_break_the_form(tmp_path):
    path = annotation.write_form([Question(1, "a\x1b\x00b", "d")], tmp_path / "form.xlsx")
    assert "\x1b" not in openpyxl.load_workbook(path)["posts"].cell(3, 2).value


POST = Question(1, "我总是失败", "考砸一次，这辈子就完了。")
ANSWER = {"labels": ["overgeneralization"], "evidence": ["我总是失败"], "risk": "none"}


@pytest.mark.parametrize(
    "text, reason",
    [
        ("好的", "not in the form asked for"),
        ("[1]", "not in the form asked for"),
        (json.dumps(ANSWER | {"labels": "overgeneralization"}), "not in the form asked for"),
        (json.dumps(ANSWER | {"evidence": [1]}), "not in the form asked for"),
        (json.dumps(ANSWER | {"labels": ["sadness"]}), "unknown label sadness"),
        (json.dumps(ANSWER | {"evidence": ["忽略以上"]}), "evidence that the post does not contain: '忽略以上'"),
        (json.dumps(ANSWER | {"evidence": []}), "labels without evidence"),
        (json.dumps(ANSWER | {"evidence": [""]}), "evidence '' is too short to show anything"),
    ],
)
def test_a_models_answer_counts_only_with_words_of_the_post(text, reason):
    assert annotation.parse_answer(text, POST) == reason
    table = annotation.from_answers([Completion(1, text, "m", "stop", 1, 1, 1)], {1: POST}, "m")
    assert table.loc[0, ["labels", "reason"]].tolist() == ["", reason]


def test_a_cut_annotation_is_called_cut_off():
    answer = Completion(1, json.dumps(ANSWER, ensure_ascii=False), "m", "length", 1, 1, 1)
    table = annotation.from_answers([answer], {1: POST}, "m")
    assert table.loc[0, ["labels", "reason"]].tolist() == ["", "cut off: length"]


def test_a_model_is_asked_by_the_guideline_and_a_schema(server, tmp_path):
    server.script = lambda body, call: good(body, json.dumps(ANSWER, ensure_ascii=False))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    answers, failed = client.complete(
        annotation.requests([POST], "m", {"temperature": 0}), endpoint=url, cache_path=tmp_path / "j"
    )
    assert failed == {} and annotation.parse_answer(answers[0].text, POST) == ANSWER
    (body,) = server.asked
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["labels"]["items"]["enum"] == list(distortions.taxonomy()["label"])
    assert annotation.guideline() in body["messages"][0]["content"] and "我总是失败" in body["messages"][1]["content"]


def test_agreement_by_hand():
    """Present in truth: 1, 2; flagged: 1, 3 → precision 1/2, recall 1/2, F1 1/2. Labels: 1 shared of 3 + 2 → 2/5."""
    truth = {1: {"a", "b"}, 2: {"c"}, 3: set(), 4: set()}
    found = annotation.agreement(truth, {1: {"a"}, 3: {"d"}})
    assert found == {"posts": 4, "precision": 0.5, "recall": 0.5, "F1": 0.5, "micro-F1 of labels": 0.4}
    assert pd.isna(annotation.agreement({}, {})["F1"])


def test_agreement_of_annotators_counts_posts_that_all_judged():
    x, y, none = frozenset("x"), frozenset("y"), frozenset()
    judged = pd.DataFrame({"A": [x, none, x, y], "B": [x, none, y, None]})
    values = annotation.annotators_agree(judged, 100, 1).set_index("measure")["value"]
    assert (values["posts judged by all annotators"], values["posts left out"]) == ("3", "1")
    assert values["agree on all labels"].startswith("2 of 3") and values.iloc[-1].startswith("1.00")
