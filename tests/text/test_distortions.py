"""Mentions of distortions: against the sample's annotations, and tables of what a name can mean in a text."""

import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cbtllm_utils import files, published
from cbtllm_utils.text import clauses, distortions

MARKS = "data/sample/reply_distortions.jsonl"
CLIENT = [  # said of the client: found in both modes
    ("这是典型的全或无思维。", "all_or_nothing"),
    (
        "你可能有一些认知扭曲，例如“全然或无”，即认为没有很多朋友就意味着完全没有社交能力。还有“过度概括”，即基于过去的经验预测未来的社交情况。",
        "all_or_nothing overgeneralization",
    ),
    ("这种二分法思维让你只看到两个极端。", "all_or_nothing"),
    ("你把全部责任揽到自己身上，这可能是个人化。", "personalization_or_blame"),
    ("这不是事实，而是灾难化的想法。", "catastrophizing"),
    ("这不就是灾难化吗？", "catastrophizing"),
    ("这不仅是灾难化，还有点读心术。", "catastrophizing mind_reading"),
    ("是不是有点灾难化了呢？", "catastrophizing"),
    ("这里可能有一些过度概括的影子。", "overgeneralization"),
    ("从“应该”思维里松一松绑，你会好受些。这就是“应该”思维。", "should_statements"),
    ("这种“灾难化”思维让你整夜睡不着。", "catastrophizing"),
    ("你的「災難化」思維讓你睡不著。", "catastrophizing"),
    ("這有點像讀心術。", "mind_reading"),
    ("你陷入了過度概括。", "overgeneralization"),
    ("这是情绪化推理，把心慌当成证据。", "emotional_reasoning"),
    ("这是情绪推理。", "emotional_reasoning"),
    ("你给自己贴上了“废物”的标签。", "labeling"),
    ("这像是在预测未来，把担心当成定局。", "fortune_telling"),
    ("这里有读心术和预测未来的味道。", "mind_reading fortune_telling"),
    ("一句是全有全无，一句是糟糕至极。", "all_or_nothing catastrophizing"),
    ("两种常见的坑你都踩了：绝对化要求，和过早下结论。", "should_statements jumping_to_conclusions"),
    ("这很像算命师错误：事情还没发生，你就认定会失败。", "fortune_telling"),
    ("这属于选择性注意，只看见那道错题。", "mental_filter"),
    ("这是放大和缩小，把缺点看大，优点看小。", "magnification"),
    ("我们来看看这里面是否存在灾难化：从一次迟到想到被开除。", "catastrophizing"),
    ("这一步有点以偏概全了。", "overgeneralization"),
    ("你并没有错，只是有些过度概括。", "overgeneralization"),
    ("不难看出，这里有非黑即白的影子。", "all_or_nothing"),
    ("你不是不努力，你只是陷入了全或无的思维。", "all_or_nothing"),
    ("试着避免过度概括，把“总是”换成“这一次”。", "overgeneralization"),
    ("提醒自己不要灾难化。", "catastrophizing"),
    ("归因错误也在里头：一件由许多原因造成的事，你只怪自己。", "personalization_or_blame"),
    ("你把中性的表情读成了嫌弃，这就是“读心”。", "mind_reading"),
    ("全或无—这就是卡住你的想法。", "all_or_nothing"),
    ("这让你掉进了“黑白思维”的陷阱。", "all_or_nothing"),
    ("“非黑即白”的想法让你很累。", "all_or_nothing"),
    ("这叫“全然或无”。", "all_or_nothing"),
    ("有点非此即彼。", "all_or_nothing"),
    ("这是要么全有要么全无的想法。", "all_or_nothing"),
    ("这就是两极化思维。", "all_or_nothing"),
    ("这里有点过于概括。", "overgeneralization"),
    ("这是感情推理。", "emotional_reasoning"),
    ("你这是在测心术式地揣摩。", "mind_reading"),
    ("这像心灵阅读。", "mind_reading"),
    ("这是先知错误。", "fortune_telling"),
    ("这叫心理过滤。", "mental_filter"),
    ("你在否定正面经验。", "disqualifying_positive"),
    ("这是优势打折。", "disqualifying_positive"),
    ("这是双目镜把戏。", "magnification"),
    ("这像應該陳述。", "should_statements"),
    ("里面还有个很严的“应该”。", "should_statements"),
    ("这叫個人化。", "personalization_or_blame"),
    ("有一点罪责归己的意思。", "personalization_or_blame"),
    ("你可能有些妄下结论。", "jumping_to_conclusions"),
    ("这是任意推断。", "jumping_to_conclusions"),
    ("你也可能是在给整个人贴标签。", "labeling"),
    ("不是满分就是零分的全或无思维困住了你。", "all_or_nothing"),
    ("你把还没有发生的事灾难化了。", "catastrophizing"),
    ("从老魏一个人推到所有的人，这叫“过度概括”。", "overgeneralization"),
]
NAMED = [  # denied, said of people in general or of somebody else, or explained: named, not attributed
    ("这不是灾难化，你的担心有根据。", "catastrophizing"),
    ("这并非以偏概全，而是你观察了很久的结论。", "overgeneralization"),
    ("你的判断算不上读心术，他确实说过。", "mind_reading"),
    ("我没有看出什么灾难化的倾向。", "catastrophizing"),
    ("你的担心和灾难化思维没有关系。", "catastrophizing"),
    ("这谈不上非黑即白，也谈不上过度概括。", "all_or_nothing overgeneralization"),
    ("所谓“灾难化”，是指把事情想到最坏。", "catastrophizing"),
    ("什么是读心术？书上说它是一种认知扭曲。", "mind_reading"),
    ("很多人都会灾难化，这很常见。", "catastrophizing"),
    ("常见的认知扭曲有灾难化、读心术和以偏概全。", "catastrophizing mind_reading overgeneralization"),
    ("你妈妈可能有非黑即白的思维。", "all_or_nothing"),
    ("他总是贴标签。", "labeling"),
    ("这并不意味着你在灾难化。", "catastrophizing"),
    ("我不觉得这是过度概括。", "overgeneralization"),
    ("这种想法未必是灾难化，也可能是合理的担心。", "catastrophizing"),
    ("不是灾难化、读心术或者以偏概全，而是真实的难处。", "catastrophizing mind_reading overgeneralization"),
    ("老板以偏概全，说你们都不努力。", "overgeneralization"),
    ("请辨认一下这些念头各属于哪一种，例如读心术。", "mind_reading"),
]
NAMED += [  # case D1
    ("你妈妈的想法有些非黑即白", "all_or_nothing"),
    ("老师说你“非黑即白”，可是我不同意", "all_or_nothing"),
    ("例如“非黑即白”“读心术”都是常见的认知扭曲", "all_or_nothing mind_reading"),
    ("请标注下面是哪种扭曲，如灾难化、读心术", "catastrophizing mind_reading"),
]
PLAIN = [  # looks like a name and is not
    "先确认现在的住处安全或无效的争吵是否还在继续。",
    "他完全或无法控制自己。",
    "可以用二分法查找，把清单一半一半地缩小。",
    "模型在这批数据上过度泛化，效果变差。",
    "学校提供个性化辅导。",
    "学校提供个人化的学习方案。",
    "你应该先休息一下，别把小事放大，也不必自责。",
    "衣服上的标签写着尺码。",
    "谢谢你帮我贴了那么多标签，箱子好找多了。",
    "没有人能预测未来。",
    "我报了读心理学的课程。",
    "他在读心理系。",
    "妈妈带我去算命，先生说我命不好。",
    "",
    "过度\n概括",
    "他在黑白照片里笑着。",
    "这条规则市场部正在过度推广。",
]


@pytest.fixture(scope="module")
def replies() -> dict[int, str]:
    rows = files.read_jsonl("data/sample/recorded_replies.jsonl")
    return {row["questionID"]: "".join(text for _, text in row["sections"]) for row in rows}


def f1(truth: list[set], found: list[set]) -> float:
    hits = sum(len(a & b) for a, b in zip(truth, found, strict=True))
    return 2 * hits / sum(len(a) + len(b) for a, b in zip(truth, found, strict=True))


def test_the_sample_is_read_as_it_was_marked(replies):
    marks = files.read_jsonl(MARKS)
    truth = [set(row["labels"]) for row in marks]
    found = [set(distortions.labels(replies[row["questionID"]])) for row in marks]
    assert f1(truth, found) >= 0.97
    assert f1([{"any"} if row else set() for row in truth], [{"any"} if row else set() for row in found]) >= 0.97


def test_names_are_found_where_they_were_marked(replies):
    marked = [(row["questionID"], words) for row in files.read_jsonl(MARKS) for words in row["mentions"]]
    met = 0
    for number, words in marked:
        place = replies[number].index(words)
        spans = [(m.start, m.start + len(m.text)) for m in distortions.find(replies[number])]
        met += any(start < place + len(words) and stop > place for start, stop in spans)
    assert met / len(marked) >= 0.95


def test_mentions_are_where_they_say(replies):
    for reply in replies.values():
        named, attributed = distortions.find(reply, "named"), distortions.find(reply)
        assert set(attributed) <= set(named)
        assert all(reply.startswith(mention.text, mention.start) for mention in named)
        assert all(a.start + len(a.text) <= b.start for a, b in zip(named, named[1:], strict=False))  # noqa: RUF007


@pytest.mark.parametrize("mode", ["named", "attributed"])
@pytest.mark.parametrize("text, labels", CLIENT)
def test_said_of_the_client(text, labels, mode):
    assert set(distortions.labels(text, mode)) == set(labels.split())


@pytest.mark.parametrize("text, labels", NAMED)
def test_named_but_not_said_of_the_client(text, labels):
    assert set(distortions.labels(text, "named")) == set(labels.split())
    assert distortions.find(text, "attributed") == []


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_looks_like_a_name(text):
    assert distortions.find(text, "named") == distortions.find(text, "attributed") == []


@pytest.mark.parametrize(
    "text, words, start",
    [
        ("😀 这是災難化思維。", "災難化思維", 4),
        ("你的“灾难化”思维很强。", "灾难化”思维", 3),
        ("㍿①…这是“应该”思维。", "应该”思维", 6),
        ("这里有非黑即白的思维。", "非黑即白的思维", 3),
        ("ｃｂｔ里叫情绪化推理。", "情绪化推理", 5),
    ],
)
def test_positions_are_those_of_the_original_text(text, words, start):
    """Full-width, traditional and composed characters count as one each, whatever they are compared as."""
    (mention,) = distortions.find(text)
    assert (mention.text, mention.start) == (words, start)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("灾难化思维读心术不是你他有“”，。\n🙂㍿"), max_size=60))
def test_any_text_can_be_read(text):
    for mention in distortions.find(text, "named"):
        assert text[mention.start : mention.start + len(mention.text)] == mention.text


def one_by_one(plain, mode):
    """The spans that `find` finds, by its rules as stated: each name compared with all others, the slow way."""
    found = [(*hit.span(), everyday) for _, everyday, pattern in distortions.names() for hit in pattern.finditer(plain)]
    taken, hits = [hit.span() for hit in distortions.patterns()["look_alike"].finditer(plain)], []
    for start, end, everyday in sorted(found, key=lambda hit: (hit[0] - hit[1], hit[0])):
        if all(end <= other or start >= stop for other, stop in taken):
            taken.append((start, end))
            hits.append((start, end, everyday))
    spans = []
    for start, end, everyday in sorted(hits):
        begin = max(plain.rfind(mark, 0, start) for mark in "。!?\n") + 1
        names = {i for first, stop, _ in hits if begin <= first < start for i in range(first, stop)}
        before = "".join(plain[i] for i in range(begin, start) if i not in names)
        after = re.split(r"[。!?\n]", plain[end:])[0]
        gaps = [plain[stop:start] for _, stop, _ in hits if stop <= start] + [
            plain[end:n] for n, *_ in hits if n >= end
        ]
        counts = not everyday or distortions.introduced(plain, start, end) or any(map(distortions.joins, gaps))
        if counts and (mode == "named" or distortions.attributed(before, after)):
            spans.append((start, end))
    return spans


WORDS = "灾难化 读心术 算命 预言未来 应该句式 绝对化 贴标签 不是 并非 而是 是不是 他 你 妈妈 很多人 所谓 叫 陷入 看看这属于哪一种 是指 无关 安 全或无 效 和 还有 我 了"
WORDS = [*WORDS.split(), *"，、。；！？\n“”「」"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=60).map("".join), st.sampled_from(["named", "attributed"]))
def test_names_are_read_together_as_each_would_be_alone(text, mode):
    found = [(m.start, m.start + len(m.text)) for m in distortions.find(text, mode)]
    assert found == one_by_one(clauses.plain(text), mode)


def test_an_unknown_mode_is_named():
    with pytest.raises(files.InputError, match=r"mode 'all': expected"):
        distortions.find("", "all")


def test_every_class_has_a_row_of_table_2_and_every_alias_its_class():
    taxonomy = distortions.taxonomy()
    assert set(taxonomy["row"]) == set(published.table("Table 2").index)
    assert {label for row in files.read_jsonl(MARKS) for label in row["labels"]} <= set(taxonomy["label"])
    for _, row in taxonomy.iterrows():
        for name in filter(str.isalnum, row["terms"].split()):
            assert distortions.labels(f"这是{name}。") == [row["label"]], name


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
    assert observed["catastrophizing"].isna().sum() == 1 and isinstance(expected, pd.DataFrame)


def test_a_class_that_holds_blame_of_oneself_and_of_others_says_so():
    [label] = {distortions.find(text)[0].label for text in ("这有点责备他人的思维。", "这叫个人化。")}
    row = distortions.taxonomy().set_index("label").loc[label]
    for name in (label, row["english"], row["definition"]):
        assert "personalization" in name and "blame" in name
    assert "个人化" in row["chinese"] and "怪罪他人" in row["chinese"]


def test_what_is_found_is_shown_in_its_words():
    table = distortions.in_context("你可能陷入了全或无思维，\n也有些过度概括。")
    assert table["class"].tolist() == ["all-or-nothing thinking", "overgeneralization"]
    assert table["named as"].tolist() == ["全或无思维", "过度概括"]
    assert not table["in the reply"].str.contains("\n").any()


def test_table_2_beside_ours_has_shares_of_the_replies_that_name_a_distortion():
    """The paper's shares by hand: 7115 / 12136; of two replies that name one, both name the same."""
    replies = ["你可能陷入了全或无思维。", "这是全或无思维，也是过度概括。", "你好。"]
    named = distortions.table(replies, "named")
    table = distortions.beside_table2(named, named).set_index("row")
    first = table.loc["All-or-Nothing Thinking"]
    assert (first["paper"], first["here"], first["here, share"]) == (7115, 2, 1.0)
    assert first["paper, share"] == pytest.approx(7115 / 12136) and first["95% CI low"] < 1
    assert distortions.percentages(table.reset_index())["here"].tolist()[:2] == [100, 50]
    column = "here, attributed to the client"
    assert column not in table, "the same in every row"
    fewer = distortions.beside_table2(named, named & (named.index == 0)[:, None]).set_index("row")
    assert fewer.loc["All-or-Nothing Thinking", column] == 1


def test_two_classes_are_tested_by_fishers_exact_test():
    """In 8 replies that name both or neither the odds are infinite, and p = 2 / C(8, 4)."""
    named = pd.DataFrame({"a": [True] * 4 + [False] * 4, "b": [True] * 4 + [False] * 4})
    values = distortions.pair(named, "a", "b").set_index("measure")["here"]
    assert values["replies that name both"] == "4" and values["expected by chance among all replies"] == "2.0"
    assert values["p (Fisher's exact test)"] == f"{2 / 70:.2f}" and values["odds ratio"].startswith("none: ")
    many = pd.concat([named] * 9, ignore_index=True)
    assert distortions.pair(many, "a", "b").set_index("measure").loc["p (Fisher's exact test)", "here"] == "< 0.01"


def test_shares_of_groups_have_their_n():
    table = distortions.share_by(pd.Series([True, False, True]), ["x", "x", "y"]).set_index("row")
    assert table.loc["x", ["n", "value"]].tolist() == [2, 0.5] and table.loc["y", "value"] == 1
