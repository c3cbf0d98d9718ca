"""All systems beside each other: counts by hand, and what is drawn of them."""

import pandas as pd
import pytest

from cbtllm_utils import files
from cbtllm_utils.generate import comparison
from cbtllm_utils.llm.failure import REFUSED

TEST = [
    {"questionID": 1, "question": "怎么办", "description": "我睡不着。", "reply": "谢谢你的信任，先休息一下。"},
    {"questionID": 2, "question": "怕考试", "description": "手会抖。", "reply": "听起来你很紧张。"},
]


def answer(system, question, reply, reason="stop"):
    return {"system": system, "questionID": question, "reply": reply, "finish_reason": reason, "tokens": 3}


ANSWERS = [
    answer("qwen-7b-untuned", 1, ""),
    answer("qwen-7b-untuned", 2, "别怕别怕别怕别怕别怕别怕。", "length"),
    answer("qwen-7b", 1, "你好，我在。"),
    answer("qwen-7b", 2, "", REFUSED),  # by a server: not a reply
]


def test_replies_are_counted_by_system_and_compared_with_the_references():
    found = comparison.table(ANSWERS, TEST).set_index("system")
    assert list(found.index) == ["Qwen-7B, untuned", "Qwen-7B, tuned", comparison.REFERENCES]
    assert found["n"].tolist() == [2, 1, 2] and found["empty"].tolist() == [1, 0, 0]
    assert found["repeating"].tolist() == [1, 0, 0] and found["cut off"].tolist() == [1, 0, 0]
    assert found["mean characters"].tolist() == [6.5, 6.0, 10.5]
    # Wilson's upper end for 0 of n is z² / (n + z²), with z = 1.96.
    assert found["95% CI, % high"]["Qwen-7B, tuned"] == pytest.approx(100 * 3.8415 / 4.8415, abs=0.01)


def test_the_answers_of_a_backbone_in_words():
    first, second, third = comparison.in_words(ANSWERS, TEST)
    assert first == (
        "All five components are found in 0 of 1 tuned replies and 0 of 2 untuned replies; this counts wording and says "
        "nothing of meaning."
    )
    assert second == "A reply has on average 6 (tuned) and 6 (untuned) characters; the references have 10."
    assert third.startswith("Of the tuned replies, 0 are counted as empty, 0 as repeating a passage and 0 as cut off")


def test_what_no_reply_does_is_not_drawn():
    found = comparison.shares(ANSWERS, TEST)
    assert list(found["metric"].unique()) == ["empty, %", "repeating, %", "cut off, %"]
    assert set(found["row"]) == {"Qwen-7B"} and found["kind"].tolist() == ["untuned", "tuned"] * 3
    assert found["value"].tolist() == [50.0, 0.0] * 3 and found["n"].tolist() == [2, 1] * 3
    assert all(type(n) is int for n in found["n"].tolist()), "n = 2 is drawn, not n = 2.0"


def test_the_replies_of_the_sample_have_all_five_components():
    """They were written with a paragraph for each."""
    rows = files.read_jsonl("data/sample/recorded_replies.jsonl")[:6]
    replies = {row["questionID"]: "\n".join(text for _, text in row["sections"]) for row in rows}
    test = [{"questionID": i, "question": "", "description": "", "reply": text} for i, text in replies.items()]
    found = comparison.table([answer("a", row["questionID"], row["reply"]) for row in test], test)
    assert pd.Series(found["all five components"]).tolist() == [6, 6]
