"""Every shape of PsyQA is read, and every record that is not used has a reason."""

import dataclasses
import json

import pandas as pd
import pytest

from cbtllm_utils import files
from cbtllm_utils.data import psyqa


@pytest.fixture
def read(tmp_path):
    """A function that reads a text (or bytes) as a file."""

    def reading(content):
        place = tmp_path / "psyqa.json"
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        return psyqa.read(place)

    return reading


RECORD = {
    "question": "问",
    "description": "述",
    "keywords": "学业,焦虑",
    "answers": [{"answer_text": "答", "has_label": False, "labels_sequence": None}],
    "questionID": 7,
}
SAME = psyqa.Question(7, "问", "述", ["学业", "焦虑"], ["答"])


@pytest.mark.parametrize(
    "content, expected",
    [
        (json.dumps([RECORD], ensure_ascii=False), SAME),
        (json.dumps([RECORD]), SAME),  # \u escapes
        (json.dumps(RECORD, ensure_ascii=False) + "\r\n", SAME),  # JSON Lines under the name .json
        (b"\xef\xbb\xbf" + json.dumps([RECORD]).encode(), SAME),  # byte order mark
        (json.dumps([{k: v for k, v in RECORD.items() if k != "questionID"} | {"idx": 7}]), SAME),
        (
            json.dumps(["[QUESTION]问[DESCRIPTION]述[LABEL]学业,焦虑[ANSWER][SUP]答"]),
            dataclasses.replace(SAME, questionID=0),
        ),
    ],
)
def test_every_shape_in_the_wild(read, content, expected):
    found, dropped = read(content)
    assert dropped == [] and found == [expected]


@pytest.mark.parametrize(
    "record, reason",
    [
        ({**RECORD, "question": " "}, "question is blank"),
        ({**RECORD, "description": 3}, "description is a int, expected text"),
        ({**RECORD, "questionID": [1]}, "questionID is a list"),
        (["x"], "a list where an object is expected"),
        ("no marks", "a text without [QUESTION] and [DESCRIPTION]"),
        ({**RECORD, "keywords": 5}, "keywords is a int, expected text"),
        ({**RECORD, "answers": "答"}, "answers is a str, expected a list"),
        (
            {**RECORD, "description": "\ud83d"},
            "a character is broken (half of a surrogate pair), so that no file could hold the text",
        ),
    ],
)
def test_a_record_that_cannot_be_used_is_dropped_with_its_reason(read, record, reason):
    found, dropped = read(json.dumps([RECORD, record]))
    assert len(found) == 1
    assert [(d.file, d.index, d.reason) for d in dropped] == [("psyqa.json", 1, reason)]


def test_an_id_counts_once(read):
    found, dropped = read(json.dumps([RECORD, RECORD]))
    assert len(found) == 1 and dropped[0].reason == "questionID 7 occurs already at index 0"


def test_a_damaged_line_costs_only_itself(read):
    found, dropped = read(json.dumps(RECORD) + '\n{"question": \n' + json.dumps({**RECORD, "questionID": 8}))
    assert [q.questionID for q in found] == [7, 8]
    assert dropped[0].index == 1 and dropped[0].reason.startswith("not JSON")


@pytest.mark.parametrize(
    "content, message",
    [
        (json.dumps([RECORD])[:-20], r"psyqa\.json: cut off or not JSON \(.*line 1 column"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps([RECORD]) + " {}", "Extra data"),
        (" \n\n", "holds no records"),
        ("", "holds no records"),
        ("[]", "holds no records"),
        ("问".encode("gb18030"), "not UTF-8 at byte 0"),
    ],
)
def test_a_file_that_is_cut_off_is_an_error(read, content, message):
    with pytest.raises(files.InputError, match=message):
        read(content)


CHAT = {"messages": [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "你好"}]}
DIALOGUE = {"dialog_id": 1, "topic": "学业", "dialog": [{"speaker": "seeker", "content": "你好"}]}
OTHER_PROJECTS = {
    "dialogues": (json.dumps([DIALOGUE, DIALOGUE]), "none of 2 records can be used (record 0: no field question; its "),
    "dialogues on one line": (
        json.dumps(DIALOGUE),
        "(record 0: no field question; its fields: dialog_id, topic, dialog)",
    ),
    "chats, one a line": (json.dumps(CHAT) + "\n" + json.dumps(CHAT), "its fields: messages)"),
    "a dict of lists": (json.dumps({"train": [RECORD], "test": []}, indent=2), "its fields: train, test)"),
    "texts": (json.dumps(["你好", "再见"]), "(record 0: a text without [QUESTION] and [DESCRIPTION])"),
    "lists": (json.dumps([["你好", "再见"]]), "(record 0: a list where an object is expected)"),
    "a CSV": ("question,answer\n你好,再见\n", "none of 2 records can be used (record 0: not JSON: "),
    "a number": ("5", "(record 0: a int where an object is expected)"),
    "markup in names": (json.dumps([{"\x1b[2J\n<b>" * 99: 1}]), "its fields: �[2J <b>"),
}


@pytest.mark.parametrize("content, said", OTHER_PROJECTS.values(), ids=OTHER_PROJECTS)
def test_a_file_of_another_project_is_one_line_with_its_first_reason(read, content, said):
    with pytest.raises(files.InputError) as error:
        read(content)
    assert str(error.value).startswith("psyqa.json: not posts of PsyQA, none of ") and said in str(error.value)
    assert str(error.value).isprintable() and len(str(error.value)) < 400


def test_a_workbook_is_called_one(tmp_path):
    pd.DataFrame([RECORD]).to_excel(tmp_path / "posts.xlsx")
    with pytest.raises(
        files.InputError, match=r"^posts\.xlsx: a workbook or compressed file, not UTF-8 at byte \d+; convert"
    ):
        psyqa.read(tmp_path / "posts.xlsx")


def test_the_sample_is_read_whole(sample_questions):
    found, dropped = psyqa.read("data/sample/psyqa_sample.json")
    assert len(found) == len(sample_questions) == 360 and dropped == []
    assert found[0].questionID == 900001 and all(len(q.answers) == 1 for q in found)


def test_a_missing_file_says_how_to_get_psyqa():
    with pytest.raises(files.InputError, match=r"no such file; data/psyqa/README\.md"):
        psyqa.read("data/psyqa/none.json")


def test_only_strategy_marks_are_taken_out_of_an_answer(read):
    text = "[QUESTION]问[DESCRIPTION]述[ANSWER][Approval and Reassurance]抱抱你[捂脸][SUP]会好的"
    assert read(json.dumps([text]))[0][0].answers == ["抱抱你[捂脸]会好的"]
