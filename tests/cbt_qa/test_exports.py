"""The data set in every form in which others read it."""

import json

import pytest

from cbtllm_utils import files, hashing, notices
from cbtllm_utils.cbt_qa import exports
from cbtllm_utils.text import second_reader


def item(number, **own):
    base = {
        "questionID": number,
        "question": f"问{number}😀",
        "description": "我昨天晚上一个人坐在操场上看星星\u2028想家",
        "reply": f"答{number}",
        "topic": None,
        "risk": number == 1,
        "flagged_by": "second reader" if number == 1 else None,
        "advice": False,
        "split": "test" if number == 3 else "train",
        "model": "m",
        "prompt": "p",
        "near_duplicate_of": None,
    }
    return base | own


ITEMS = [item(1), item(2, near_duplicate_of=1, topic="家庭"), item(3)]


def test_train_and_test_are_the_same_rows(tmp_path):
    exports.write_rows(ITEMS, tmp_path)
    assert files.read_jsonl(tmp_path / "cbt_qa.jsonl") == ITEMS
    assert (
        files.read_jsonl(tmp_path / "train.jsonl") == ITEMS[:2]
        and files.read_jsonl(tmp_path / "test.jsonl") == ITEMS[2:]
    )


@pytest.mark.parametrize("items", [ITEMS, [i | {"questionID": f"q{i['questionID']}"} for i in ITEMS]])
def test_datasets_reads_the_lines_with_its_cache_below_the_run(tmp_path, items):
    """As the card says; ids, empty topics and line separators (U+2028) come back as they were."""
    import datasets

    exports.write_rows(items, tmp_path)
    data_files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    loaded = datasets.load_dataset("json", data_files=data_files, cache_dir=str(tmp_path / "cache"))
    assert [dict(row) for row in loaded["train"]] == items[:2]
    assert [dict(row) for row in loaded["test"]] == items[2:]


def test_the_released_form_holds_no_post(tmp_path):
    quoting = item(2, reply="你说“晚上一个人坐在操场上看星星”，我懂。")
    table = exports.release([item(1), quoting, item(3)], tmp_path / "release.jsonl")
    text = (tmp_path / "release.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    assert all(not {"question", "description", "topic"} & row.keys() for row in rows) and "问1" not in text
    assert rows[0]["post"] == hashing.text("问1😀\n我昨天晚上一个人坐在操场上看星星\u2028想家")
    assert [row["flagged_by"] for row in rows] == ["second reader", None, None], "by whom is no part of a post"
    assert rows[0]["reply"] == "答1" and table["quotes"].tolist() == [False, True, False]


@pytest.mark.parametrize("length, expected", [(11, False), (12, True), (16, True)])
def test_a_quotation_is_twelve_characters_in_a_row(length, expected):
    post = item(1)["description"]
    assert exports.quotes("。" + post[:length] + "。", post) is expected


def test_the_card_shows_the_notices_and_the_counts(tmp_path):
    released = exports.release(ITEMS, tmp_path / "release.jsonl")
    said = "2 cut off", "nothing", "second reader: m; 2 read, 1 unread", "0 of 1 read by a person", "demo {scale}"
    text = exports.card(ITEMS, released, *said, tmp_path / "README.md").read_text("utf-8")
    assert all(notices.notice(kind) in text for kind in ("en", "zh", "psyqa"))
    assert (
        "3 examples (2 train, 1 test)" in text
        and "By the reading sheets: 0 of 1 read by a person." in text
        and "Left out: 2 cut off. Cleaned off replies: nothing." in text
        and "demo {scale}" in text
        and "1 post is flagged for risk (by second reader 1; second reader: m; 2 read, 1 unread). " in text
        and "In 0 of the replies to flagged posts the referral screen finds advice" in text
    )


def test_the_card_says_in_one_sentence_that_no_post_is_flagged(tmp_path):
    quiet = [item(2), item(3)]
    said = "none", "nothing", second_reader.note(None, "m", {}, {}), "no reply to a flagged post", "ci scale"
    text = exports.card(quiet, exports.release(quiet, tmp_path / "r.jsonl"), *said, tmp_path / "README.md").read_text()
    assert "No post is flagged for risk (no second reader was asked: the screen alone). A post that" in text
    assert "0 posts" not in text and "nobody" not in text and "In 0 of" not in text
