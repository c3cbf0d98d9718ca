"""A reply enters the data set or has a named reason; shares, flaws and traits of many replies."""

import json

import pytest

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.llm import failure
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
        ("", "stop", "failed the check: empty"),
        (" \n", "stop", "failed the check: empty"),
        ("", "content_filter", "cut off: content_filter"),
        (REPLY, "length", "cut off: length"),
        # what gpt-3.5-turbo is known to have said to posts about suicide
        ("很抱歉，我无法提供你所需的帮助。" + SORRY, "stop", "refused by the model"),
        ("非常抱歉听到你这样的感受，但我无法提供你所需要的帮助。" + SORRY, "stop", "refused by the model"),
        ("对不起，我不能回答这个问题。" + SORRY, "stop", "refused by the model"),
        ("作为一个AI语言模型，我没有感情。" + SORRY, "stop", "refused by the model"),
        ("I'm sorry, but I can't assist with that.", "stop", "refused by the model"),
        # what a counsellor may say
        ("很抱歉听到你的遭遇，我能感到你的难过。" + REPLY, "stop", None),
        (REPLY.replace("不寒碜", "不寒碜，有些事我们无法改变，我也不能替您回答"), "stop", None),
        ("作为AI我没有感情。" + SORRY, "stop", "refused by the model"),
        ("作为AI行业的从业者，你很拼。" + REPLY, "stop", None),
        ("作为一名人工智能专业的学生，你要求自己什么都会。" + REPLY, "stop", None),
        # what a client may have said, quoted or retold
        ("“我无法处理这个问题”，你这样写道。" + REPLY, "stop", None),
        ("你觉得自己无法处理这些情绪，也怕无法满足你的期待。" + REPLY, "stop", None),
        ("不能回答这道题，就说明我很笨——这句话值得停一停。" + REPLY, "stop", None),
        (REPLY + PROMPT.parts["rules"].split("\n")[2], "stop", "failed the check: prompt repeated"),
        ("〈问题〉" + REPLY, "stop", "failed the check: prompt repeated"),
        ("You are doing well and this is fine. " * 20, "stop", "failed the check: wrong language"),
        ("！？……" * 100, "stop", "failed the check: wrong language"),
        (REPLY[:150], "stop", "cut off: in mid-sentence"),
        (REPLY[:150] + "。", "stop", "failed the check: too short"),
        (REPLY[: len(REPLY) * 4 // 5], None, "cut off: in mid-sentence"),
        (REPLY * 3, "stop", "failed the check: too long"),
    ],
)
def test_a_reply_that_cannot_enter_has_a_named_reason(text, finish_reason, reason):
    found = reply_checks.problem(text, finish_reason, PROMPT, RULES)
    shown = found and (found.kind if found.kind == reply_checks.REFUSED_BY_MODEL else str(found))
    assert shown == reason


REFUSALS = """很抱歉，这个话题我帮不了你
对不起，我无法回答这个问题。
我不能继续这个话题。
抱歉，我没办法就这个问题给你建议。
这个问题我不方便回答
不好意思，这超出了我的能力范围。
我们换个话题吧。
很遗憾，我不能为您提供所需的帮助。
你好，这个问题我暂时无法回答，让我们换个话题再聊聊吧。
抱歉，您的问题涉及敏感内容，我无法作答。
我理解你的痛苦，但我不是专业人士，无法给出建议，请联系当地的心理援助热线。
恕我无法对此提供意见。
请原谅，我不能讨论自杀相关的话题。
抱歉，该内容不符合我们的使用政策。
我爱莫能助，请您寻求专业帮助。
对于你的问题，我选择不回应。
抱歉，恕难从命。
很抱歉听到你的遭遇，但我不适合就此发表看法。
这不是我能够回答的问题。
I cannot help you with this request.
I'm really sorry that you're feeling this way, but I'm unable to provide the help that you need.
I must decline to answer.
This goes against my guidelines.
I’m sorry, I can’t continue with this conversation.
Unfortunately, I am not in a position to discuss this topic.
I apologize, but I cannot fulfill this request.
As an AI language model, I do not have feelings.""".split("\n")
LONG_REFUSALS = (  # with a hotline and good wishes: long enough, but no answer
    "很抱歉听到你现在的感受，我能感受到你的痛苦。但是，作为一个人工智能，我无法为你提供你所需要的帮助。请你一定要和身边可以信任的人谈一谈，"
    "比如家人、朋友或者老师。你也可以拨打心理援助热线12356，那里有专业的咨询师守候，他们会认真听你说。如果情况紧急，请立即拨打120或者前往最近的"
    "医院急诊科。请记住，你并不孤单，很多人都关心你，愿意陪你走过这段艰难的日子。请好好照顾自己，给自己一点时间，一切都会慢慢好起来的。祝愿你早日"
    "走出阴霾。",
    "对不起，这个话题我帮不了你。我不是心理咨询师，没有资格对你的情况做判断，也不能替你做任何决定。建议你尽快到当地正规医院的心理科就诊，由医生"
    "面对面评估你的状况，并制定合适的方案。如果你是学生，可以先联系学校的心理中心；如果你已经工作，可以看看单位有没有员工援助计划。你也可以和家人"
    "朋友说说心里话，听听音乐，出去走走，适当运动，保持规律的作息，避免饮酒和熬夜。再次为不能回答你的问题感到抱歉，希望你能理解。祝你早日康复，"
    "每一天都充满阳光。",
)
DISCLAIMERS = (
    "作为人工智能，我无法替代专业治疗，但我愿意陪你一起看看。",
    "对不起，我不能提供医疗建议，不过我们可以一起想一想。",
    "抱歉，我没办法替你做决定，这超出了我的能力范围。",
    "我只是一个语言模型，不能代替咨询师。",
)


@pytest.mark.parametrize("text", [*REFUSALS, *LONG_REFUSALS])
def test_a_reply_that_only_refuses_is_refused_by_the_model(text):
    found = reply_checks.problem(text, "stop", PROMPT, RULES)
    assert found.kind == "refused by the model" and found.reason in text


def test_a_reply_that_goes_on_to_answer_is_an_answer_wherever_its_disclaimer_is():
    """A10: before, between its components and after, in replies of the sample."""
    for row in files.read_jsonl("data/sample/recorded_replies.jsonl")[::12]:
        parts = [text for _, text in row["sections"]]
        for disclaimer in DISCLAIMERS:
            for place in (0, 2, len(parts)):
                reply = "".join([*parts[:place], disclaimer, *parts[place:]])
                assert reply_checks.problem(reply, "stop", PROMPT, RULES) is None, (
                    row["questionID"],
                    disclaimer,
                    place,
                )


def test_the_end_that_a_server_states_comes_first():
    assert reply_checks.problem(REPLY, "refusal", PROMPT, RULES).kind == "refused by the model"
    assert reply_checks.problem("很抱歉，我无法回答。", "sensitive", PROMPT, RULES) == ("cut off", "sensitive")
    thinking = reply_checks.problem(f"<think>用户{REPLY}", "stop", PROMPT, RULES)
    assert thinking == ("failed the check", "holds <think>")
    in_english = reply_checks.problem("<think>The user is sad. I can't diagnose.", "stop", PROMPT, RULES)
    assert in_english == ("failed the check", "holds <think>"), "thinking that was left over refuses nothing"


def test_missing_components_are_named():
    text = "今天的天气预报说，北京晴，上海有雨，广州多云。" * 12
    assert reply_checks.problem(text, "stop", PROMPT, reply_checks.Rules(min_components=5)).reason.startswith(
        "components missing: "
    )
    assert reply_checks.problem(text, "stop", PROMPT, reply_checks.Rules(min_components=0)) is None


def test_the_example_in_a_prompt_counts_as_the_prompt():
    prompt = prompts.with_example(PROMPT, "问", "述", REPLY)
    assert reply_checks.problem(REPLY, "stop", prompt, RULES).reason == "prompt repeated"
    assert reply_checks.problem(recording()[900002], "stop", prompt, RULES) is None


def test_shares_count_what_the_prompt_asks():
    texts = {"reply": [(900001, REPLY), (900002, "好" * 500)], "none": [(None, "好")]}
    table = reply_checks.shares(texts, 400, 650)
    assert table["row"].tolist()[:2] == ["reply: all five components", "reply: all five, in order"]
    assert table["value"].tolist() == [0.5, 0.5, 1.0, 0.0, 0.0, 0.0] and table["n"].tolist() == [2] * 3 + [1] * 3
    assert table["share"].tolist() == ["1 of 2"] * 2 + ["2 of 2"] + ["0 of 1"] * 3
    wide = reply_checks.demands_met(table)
    assert wide.columns.tolist() == [
        *("texts", "all five components", "all five, in order"),
        "400 to 650 characters",
    ]
    assert wide.to_numpy().tolist() == [["reply", "1 of 2", "1 of 2", "2 of 2"], ["none", *["0 of 1"] * 3]]
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
    answers += [answer("a", "", kind) for kind in (failure.REFUSED, failure.UNANSWERED)]  # not replies
    table = reply_checks.quality(answers, {1: "怎么办"})
    assert table.to_dict("records") == [
        {"system": "b", "items": 2, "mean tokens": 6.5, "empty": 0, "loop": 1, "copy": 0, "cut off": 1},
        {"system": "a", "items": 1, "mean tokens": 0.0, "empty": 1, "loop": 0, "copy": 0, "cut off": 0},
    ]


def test_structure_by_system():
    """A recorded reply has the five components by construction; a reply that says nothing has none of the five."""
    reply = "".join(text for _, text in files.read_jsonl("data/sample/recorded_replies.jsonl")[0]["sections"])
    texts = {"full": [reply] * 3 + [""] * 3, "none": [""], "twice": [reply + reply]}
    said = [(system, text) for system, some in texts.items() for text in some]
    counts = reply_checks.structure([{"system": s, "questionID": 900001, "reply": text} for s, text in said])
    table = counts.set_index("system")
    assert table["replies"].tolist() == [6, 1, 1]
    assert table.loc["full", "validation"] == 3 and table.loc["none", "all five"] == 0
    assert table.loc["full", ["all five", "all five, in order"]].tolist() == [3, 3]
    assert table.loc["twice", ["all five", "all five, in order"]].tolist() == [1, 0]
    shares = reply_checks.structure_shares(counts).set_index("system")
    assert list(shares.columns) == list(table.columns)[1:]
    assert shares["all five"].tolist() == ["3 of 6 (19–81 %)", "0 of 1", "1 of 1"]  # Wilson's: .1876 to .8124


def test_replies_to_posts_of_the_sample_are_judged_by_a_model_that_has_not_learned_from_them(judged_otherwise):
    strict = reply_checks.Rules(min_components=5)
    for post, reply in judged_otherwise.items():
        unseen = sections.structure(reply, sections.model_for(post))
        [row] = reply_checks.structure([{"system": "x", "questionID": post, "reply": reply}]).to_dict("records")
        assert {name for name in sections.NAMES if row[name]} == set(unseen.present)
        assert row["all five, in order"] == unseen.complete
        table = reply_checks.shares({"x": [(post, reply)]}, 400, 650)
        assert table["value"].tolist()[:2] == [set(unseen.present) == set(sections.NAMES), unseen.complete]
        missing = [name for name in sections.NAMES if name not in unseen.present]
        found = reply_checks.problem(reply, "stop", PROMPT, strict, post)
        assert (found and found.reason) == (f"components missing: {', '.join(missing)}" if missing else None)


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
    assert found["names a distortion"].tolist() == ["1 of 2", "1 of 2", "2 of 2", "0 of 2"]
    assert found["same distortion"].tolist() == ["–", "1 of 1", "0 of 1", "0 of 1"]
    assert reply_checks.traits({"none": ["好。"]}, ["好。"])["same distortion"].tolist() == ["–", "–"]


def test_referrals_are_counted_by_target_with_those_that_advise_against_help():
    """Rows of the case table: D4 refers, D3 does not."""
    refers = [
        "去急诊，叫上姐姐",
        "打110，让闺蜜陪你",
        "拨危机干预专线，告诉一位同事",
        "现在就拨１２３５６",
        "请打 400 161 9995",
    ]
    table = reply_checks.referrals({"D4": refers, "D3": ["先别打12356", "医院不会帮你的"], "none": []}, "case")
    columns = ["replies", "advise resource and person", "hotline", "emergency", "clinic", "police", "trusted person"]
    columns += ["no advice found", "advise against a resource"]
    counts = table.set_index("case")[columns].T.to_dict("list")
    assert counts["D4"] == [5, 3, 3, 1, 0, 1, 3, 0, 0] and counts["D3"] == [2, 0, 0, 0, 0, 0, 0, 2, 1]
    assert counts["none"] == [0] * 9 and table["share of both"].tolist() == ["3 of 5 (23–88 %)", "0 of 2", "–"]
