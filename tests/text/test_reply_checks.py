"""A reply enters the data set or has a named reason; shares, flaws and traits of many replies."""

import json

import pytest

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.text import reply_checks, sections

PROMPT = prompts.read("params/prompts/cbt_prompt.zh.md")
RULES = reply_checks.Rules()


def recording():
    lines = files.path("data/sample/recorded_replies.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["questionID"]: "".join(text for _, text in row["sections"]) for row in map(json.loads, lines)}


REPLY = recording()[900001]


def test_every_recorded_reply_passes_and_all_are_in_the_prompts_language():
    problems = {item: reply_checks.problem(text, "stop", PROMPT, RULES) for item, text in recording().items()}
    assert {item: reason for item, reason in problems.items() if reason} == {}


SORRY = "你的情绪很重要，请照顾好自己。" * 15


@pytest.mark.parametrize(
    "text, finish_reason, reason",
    [
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        ("", "content_filter", "cut off (content_filter)"),
        (REPLY, "length", "cut off (length)"),
        # what gpt-3.5-turbo is known to have said to posts about suicide
        ("很抱歉，我无法提供你所需的帮助。" + SORRY, "stop", "refusal"),
        ("非常抱歉听到你这样的感受，但我无法提供你所需要的帮助。" + SORRY, "stop", "refusal"),
        ("对不起，我不能回答这个问题。" + SORRY, "stop", "refusal"),
        ("作为一个AI语言模型，我没有感情。" + SORRY, "stop", "refusal"),
        ("I'm sorry, but I can't assist with that.", "stop", "refusal"),
        # what a counsellor may say
        ("很抱歉听到你的遭遇，我能感到你的难过。" + REPLY, "stop", None),
        (REPLY.replace("不寒碜", "不寒碜，有些事我们无法改变，我也不能替您回答"), "stop", None),
        ("作为AI我没有感情。" + SORRY, "stop", "refusal"),
        ("作为AI行业的从业者，你很拼。" + REPLY, "stop", None),
        ("作为一名人工智能专业的学生，你要求自己什么都会。" + REPLY, "stop", None),
        # what a client may have said, quoted or retold
        ("“我无法处理这个问题”，你这样写道。" + REPLY, "stop", None),
        ("你觉得自己无法处理这些情绪，也怕无法满足你的期待。" + REPLY, "stop", None),
        ("不能回答这道题，就说明我很笨——这句话值得停一停。" + REPLY, "stop", None),
        (REPLY + PROMPT.parts["rules"].split("\n")[2], "stop", "prompt repeated"),
        ("〈问题〉" + REPLY, "stop", "prompt repeated"),
        ("You are doing well and this is fine. " * 20, "stop", "wrong language"),
        ("！？……" * 100, "stop", "wrong language"),
        (REPLY[:150], "stop", "too short"),
        (REPLY * 3, "stop", "too long"),
    ],
)
def test_a_reply_that_cannot_enter_has_a_named_reason(text, finish_reason, reason):
    assert reply_checks.problem(text, finish_reason, PROMPT, RULES) == reason


def test_missing_components_are_named():
    text = "今天的天气预报说，北京晴，上海有雨，广州多云。" * 12
    assert reply_checks.problem(text, "stop", PROMPT, reply_checks.Rules(min_components=5)).startswith(
        "components missing: "
    )
    assert reply_checks.problem(text, "stop", PROMPT, reply_checks.Rules(min_components=0)) is None


def test_the_example_in_a_prompt_counts_as_the_prompt():
    prompt = prompts.with_example(PROMPT, "问", "述", REPLY)
    assert reply_checks.problem(REPLY, "stop", prompt, RULES) == "prompt repeated"
    assert reply_checks.problem(recording()[900002], "stop", prompt, RULES) is None


def test_shares_count_what_the_prompt_asks():
    table = reply_checks.shares({"reply": [REPLY, "好" * 500], "none": ["好"]}, 400, 650)
    assert table["row"].tolist()[:2] == ["reply: all five components", "reply: all five, in order"]
    assert table["value"].tolist() == [0.5, 0.5, 1.0, 0.0, 0.0, 0.0] and table["n"].tolist() == [2] * 3 + [1] * 3
    assert reply_checks.hanzi("一，a二 1") == 2


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
    assert reply_checks.flaws(reply, "怎么办？我睡不着，每天晚上都想着考试的事情，怎么办") == flaws


def test_quality_counts_by_system():
    def answer(system, reply, finish="stop"):
        return {"system": system, "questionID": 1, "reply": reply, "finish_reason": finish, "tokens": len(reply)}

    answers = [answer("b", "好" * 10, "length"), answer("b", "你好。"), answer("a", "")]
    table = reply_checks.quality(answers, {1: "怎么办"})
    assert table.to_dict("records") == [
        {"system": "b", "items": 2, "mean tokens": 6.5, "empty": 0, "loop": 1, "copy": 0, "cut off": 1},
        {"system": "a", "items": 1, "mean tokens": 0.0, "empty": 1, "loop": 0, "copy": 0, "cut off": 0},
    ]


def test_structure_by_system():
    """A recorded reply has the five components by construction; a reply that says nothing has none of the five."""
    reply = "".join(text for _, text in files.read_jsonl("data/sample/recorded_replies.jsonl")[0]["sections"])
    texts = {"full": [reply, ""], "none": [""], "twice": [reply + reply]}
    answers = [{"system": system, "reply": text} for system, some in texts.items() for text in some]
    table = reply_checks.structure(answers).set_index("system")
    assert table.loc["full", "validation"] == 0.5 and table.loc["none", "all five"] == 0
    assert table.loc["full", ["all five", "all five, in order"]].tolist() == [0.5, 0.5]
    assert table.loc["twice", ["all five", "all five, in order"]].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("reply", "share"),
    [("", 0), ("好的", 0), ("一二三四五", 0), ("好好好好好好", 2 / 3), ("慢慢来吧慢慢来吧", 1 / 5)],
)
def test_repetition_by_hand(reply, share):
    """好 x 6: three runs of four, one kind. 慢慢来吧 twice: five runs, the first one comes again."""
    assert sections.repetition(reply, 4) == pytest.approx(share)


def test_traits_by_hand():
    references = ["这是灾难化思维。", "你辛苦了。"]  # 8 + 5 characters; one names
    systems = {"same": ["你有灾难化。", "好。"], "other": ["这是读心术。", "这是读心术。"], "none": ["", ""]}
    found = reply_checks.traits(systems, references).set_index("system")
    assert list(found.index) == ["reference", "same", "other", "none"]
    assert found["length ratio"].tolist() == pytest.approx([1, 8 / 13, 12 / 13, 0])
    assert found["names a distortion"].tolist() == [0.5, 0.5, 1, 0]
    assert found["same distortion"].tolist() == [1, 1, 0, 0]
    assert reply_checks.traits({}, ["好。"])["same distortion"].isna().all()
