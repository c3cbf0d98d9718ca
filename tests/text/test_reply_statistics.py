"""Flaws of replies by a table of cases, and counts by system."""

import pytest

from cbtllm_utils import files
from cbtllm_utils.text import reply_statistics


@pytest.mark.parametrize(
    "reply, flaws",
    [
        ("我能理解你的难过。你可以先写下来。", set()),
        ("", {"empty"}),
        (" \n", {"empty"}),
        ("你可以试试你可以试试你可以试试", {"loop"}),  # four characters and more, three times
        ("好好好好好好好好好好", {"loop"}),
        ("慢慢来，慢慢来，没关系。", set()),  # twice is speech
        ("我能理解你的难过。写。我能理解你的难过。走。我能理解你的难过。", {"loop"}),  # apart, but three times
        ("哈哈哈哈，挺好的。", set()),
        ("我睡不着，每天晚上都想着考试的事情，怎么办", {"copy"}),
        (
            "你说“我睡不着，每天晚上都想着考试的事情”，这一定很累。我们可以一起看看这个念头是从哪里来的，再试试放松。",
            set(),
        ),
    ],
)
def test_flaws(reply, flaws):
    assert reply_statistics.flaws(reply, "怎么办？我睡不着，每天晚上都想着考试的事情，怎么办") == flaws


def test_quality_counts_by_system():
    def answer(system, reply, finish="stop"):
        return {"system": system, "questionID": 1, "reply": reply, "finish_reason": finish, "tokens": len(reply)}

    answers = [answer("b", "好" * 10, "length"), answer("b", "你好。"), answer("a", "")]
    table = reply_statistics.quality(answers, {1: "怎么办"})
    assert table.to_dict("records") == [
        {"system": "b", "items": 2, "mean tokens": 6.5, "empty": 0, "loop": 1, "copy": 0, "cut off": 1},
        {"system": "a", "items": 1, "mean tokens": 0.0, "empty": 1, "loop": 0, "copy": 0, "cut off": 0},
    ]


def test_structure_by_system():
    """A recorded reply has the five components by construction; a reply that says nothing has none of the five."""
    reply = "".join(text for _, text in files.read_jsonl("data/sample/recorded_replies.jsonl")[0]["sections"])
    texts = {"full": [reply, ""], "none": [""], "twice": [reply + reply]}
    answers = [{"system": system, "reply": text} for system, some in texts.items() for text in some]
    table = reply_statistics.structure(answers).set_index("system")
    assert table.loc["full", "validation"] == 0.5 and table.loc["none", "all five"] == 0
    assert table.loc["full", ["all five", "all five, in order"]].tolist() == [0.5, 0.5]
    assert table.loc["twice", ["all five", "all five, in order"]].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("reply", "share"),
    [("", 0), ("好的", 0), ("一二三四五", 0), ("好好好好好好", 2 / 3), ("慢慢来吧慢慢来吧", 1 / 5)],
)
def test_repetition_by_hand(reply, share):
    """好 x 6: three runs of four, one kind. 慢慢来吧 twice: five runs, the first one comes again."""
    assert reply_statistics.repetition(reply) == pytest.approx(share)


def test_traits_by_hand():
    references = ["这是灾难化思维。", "你辛苦了。"]  # 8 + 5 characters; one names
    systems = {"same": ["你有灾难化。", "好。"], "other": ["这是读心术。", "这是读心术。"], "none": ["", ""]}
    found = reply_statistics.traits(systems, references).set_index("system")
    assert list(found.index) == ["reference", "same", "other", "none"]
    assert found["length ratio"].tolist() == pytest.approx([1, 8 / 13, 12 / 13, 0])
    assert found["names a distortion"].tolist() == [0.5, 0.5, 1, 0]
    assert found["same distortion"].tolist() == [1, 1, 0, 0]
    assert reply_statistics.traits({}, ["好。"])["same distortion"].isna().all()
