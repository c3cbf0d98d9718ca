"""Mentions of distortions: against the sample's annotations, and a table of traps."""

import pytest

from cbtllm_utils import distortions, files


@pytest.fixture(scope="module")
def replies():
    rows = files.read_jsonl("data/sample/recorded_replies.jsonl")
    return {row["questionID"]: "".join(text for _, text in row["sections"]) for row in rows}


def test_the_sample_is_read_as_it_was_marked(replies):
    truth = {row["questionID"]: set(row["labels"]) for row in files.read_jsonl("data/sample/reply_distortions.jsonl")}
    found = {number: set(distortions.labels(reply)) for number, reply in replies.items()}
    hits = sum(len(truth[n] & found[n]) for n in truth)
    wrong = sum(len(truth[n] ^ found[n]) for n in truth)
    assert 2 * hits / (2 * hits + wrong) >= 0.93
    both = sum(bool(truth[n] and found[n]) for n in truth)
    either = sum(bool(truth[n]) != bool(found[n]) for n in truth)
    assert 2 * both / (2 * both + either) >= 0.97


def test_mentions_stand_where_they_say(replies):
    for reply in replies.values():
        for mention in distortions.find(reply, "named"):
            assert reply[mention.start :].startswith(mention.text)


@pytest.mark.parametrize(
    "text, label, words",
    [
        ("这叫“全然或无”。", "all_or_nothing", "全然或无"),
        ("这里有非黑即白的思维。", "all_or_nothing", "非黑即白的思维"),
        ("有点非此即彼。", "all_or_nothing", "非此即彼"),
        ("这是二分法思维。", "all_or_nothing", "二分法思维"),
        ("这是過度概括。", "overgeneralization", "過度概括"),
        ("可能有一些以偏概全的影子。", "overgeneralization", "以偏概全"),
        ("这是情绪化推理。", "emotional_reasoning", "情绪化推理"),
        ("这是情緒推理。", "emotional_reasoning", "情緒推理"),
        ("你的“灾难化”思维很强。", "catastrophizing", "灾难化”思维"),
        ("這是災難化。", "catastrophizing", "災難化"),
        ("这就是“读心术”。", "mind_reading", "读心术"),
        ("你在预测未来。", "fortune_telling", "预测未来"),
        ("这是算命师错误。", "fortune_telling", "算命师错误"),
        ("这叫心理过滤。", "mental_filter", "心理过滤"),
        ("选择性注意让你只看见坏的。", "mental_filter", "选择性注意"),
        ("你在否定正面经验。", "disqualifying_positive", "否定正面经验"),
        ("这是双目镜把戏。", "magnification", "双目镜把戏"),
        ("这是“应该”思维。", "should_statements", "应该”思维"),
        ("这像应该陈述。", "should_statements", "应该陈述"),
        ("你给自己贴了张标签。", "labeling", "贴了张标签"),
        ("这叫個人化。", "personalization", "個人化"),
        ("这是归因错误。", "personalization", "归因错误"),
        ("你可能妄下结论了。", "jumping_to_conclusions", "妄下结论"),
        ("不是事实而是灾难化。", "catastrophizing", "灾难化"),
    ],
)
def test_named_of_the_client(text, label, words):
    (mention,) = distortions.find(text)
    assert (mention.label, mention.text) == (label, words)


@pytest.mark.parametrize(
    "text",
    [
        *("这不是灾难化。", "这并非以偏概全。", "这算不上过度概括。", "你的看法没有灾难化。", "谈不上非黑即白。"),
        *("平时要避免过度概括。", "学会识别灾难化。", "别给自己贴标签。", "所谓灾难化，谁都会有。"),
        *("读心术是指以为知道别人在想什么。", "他可能在给你贴标签。", "妈妈总是以偏概全。"),
    ],
)
def test_a_naming_that_is_not_of_the_client(text):
    assert distortions.find(text, "attributed") == []
    assert len(distortions.find(text, "named")) == 1


@pytest.mark.parametrize(
    "text",
    [
        *(
            "这个方案安全或无效。",
            "用二分法查找。",
            "模型过度泛化了。",
            "个性化的方案。",
            "应该早点睡。",
            "把照片放大。",
        ),
        *("商品的标签掉了。", "你很自责。", "谁也无法预测未来。", "他去算命。", "", "\n", "🙂" * 30),
    ],
)
def test_what_only_looks_like_a_name(text):
    assert distortions.find(text, "named") == []


def test_the_longest_name_counts():
    assert [m.text for m in distortions.find("这是灾难化思维和灾难化")] == ["灾难化思维", "灾难化"]


def test_an_unknown_mode_is_named():
    with pytest.raises(files.InputError, match=r"mode 'all': expected"):
        distortions.find("", "all")


def test_the_paper_rows_hold_every_class():
    rows = distortions.paper_rows(distortions.table(["这是灾难化，也是贴标签和心理过滤。"], "named"))
    assert rows.iloc[0].to_dict() == {
        **{"All-or-Nothing Thinking": False, "Overgeneralization": False, "Emotional Reasoning": False},
        **{"Catastrophizing": True, "Mind Reading": False, "Others": True},
    }


def test_expected_counts_by_hand():
    """4 replies, a in 2 of them, b in 2, both in 1: independence would have 2 · 2 / 4 = 1 of both."""
    named = distortions.table(["灾难化，读心术", "灾难化", "读心术", ""], "named")
    observed, expected = distortions.together(named)
    assert observed.loc["catastrophizing", "mind_reading"] == 1 == expected.loc["catastrophizing", "mind_reading"]
