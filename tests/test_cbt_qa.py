import json

import pytest

from cbtllm_utils import cbt_qa, files, prompts, published, questions, splits
from cbtllm_utils.endpoint import Completion

PROMPT = prompts.read("params/prompts/cbt_prompt.zh.md")
RULES = cbt_qa.Rules()
POSTS = [questions.Question(n, f"问{n}", f"述{n}") for n in (11, 12, 13)]


def recording():
    lines = files.path("data/sample/recorded_replies.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["questionID"]: "".join(text for _, text in row["sections"]) for row in map(json.loads, lines)}


REPLY = recording()[900001]


def answer(item, text=REPLY, finish_reason="stop"):
    return Completion(item, text, "m", finish_reason, 1, 1, 1)


def test_a_request_is_what_the_endpoint_takes():
    (request,) = cbt_qa.requests(POSTS[:1], PROMPT, "m", {"temperature": 1.0}, attempt=2)
    assert request == {
        "id": 11,
        "model": "m",
        "messages": prompts.messages(PROMPT, "问11", "述11"),
        "temperature": 1.0,
        "attempt": 2,
    }


@pytest.mark.parametrize("key", ["id", "messages", "model", "attempt", "stream", "n"])
def test_sampling_cannot_change_what_a_request_is(key):
    with pytest.raises(files.InputError, match=f"sampling: {key} cannot be set there"):
        cbt_qa.requests(POSTS, PROMPT, "m", {key: 1})


def test_every_recorded_reply_passes_and_all_are_in_the_prompts_language():
    faults = {item: cbt_qa.fault(text, "stop", PROMPT, RULES) for item, text in recording().items()}
    assert {item: reason for item, reason in faults.items() if reason} == {}


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
        (REPLY + PROMPT.parts["rules"].split("\n")[2], "stop", "prompt repeated"),
        ("〈问题〉" + REPLY, "stop", "prompt repeated"),
        ("You are doing well and this is fine. " * 20, "stop", "wrong language"),
        ("！？……" * 100, "stop", "wrong language"),
        (REPLY[:150], "stop", "too short"),
        (REPLY * 3, "stop", "too long"),
    ],
)
def test_a_reply_that_cannot_enter_has_a_named_reason(text, finish_reason, reason):
    assert cbt_qa.fault(text, finish_reason, PROMPT, RULES) == reason


def test_missing_parts_are_named():
    text = "今天的天气预报说，北京晴，上海有雨，广州多云。" * 12
    assert cbt_qa.fault(text, "stop", PROMPT, cbt_qa.Rules(min_parts=5)).startswith("parts missing: ")
    assert cbt_qa.fault(text, "stop", PROMPT, cbt_qa.Rules(min_parts=0)) is None


def test_the_example_in_a_prompt_counts_as_the_prompt():
    prompt = prompts.with_example(PROMPT, "问", "述", REPLY)
    assert cbt_qa.fault(REPLY, "stop", prompt, RULES) == "prompt repeated"
    assert cbt_qa.fault(recording()[900002], "stop", prompt, RULES) is None


def asking(script):
    """An `ask` that answers by `script`, {(questionID, attempt): text, or None for no answer}, and keeps what came."""
    calls = []

    def ask(requests):
        calls.append([(request["id"], request["attempt"]) for request in requests])
        texts = {request["id"]: script.get((request["id"], request["attempt"]), REPLY) for request in requests}
        answers = [answer(item, text) for item, text in texts.items() if text is not None]
        return answers, {item: "APITimeoutError: late" for item, text in texts.items() if text is None}

    return ask, calls


OPTIONS = {"model": "m", "sampling": {}, "rules": RULES}


def test_a_failed_reply_is_asked_again_and_then_dropped():
    ask, calls = asking({(11, 1): "短", (12, 1): "", (12, 2): "", (12, 3): "短", (13, 1): None})
    outcome = cbt_qa.generate(POSTS, PROMPT, ask, max_attempts=3, **OPTIONS)
    assert calls == [[(11, 1), (12, 1), (13, 1)], [(11, 2), (12, 2)], [(12, 3)]]
    assert list(outcome.replies) == [11]
    assert outcome.dropped == {12: "too short, 3 times asked", 13: "no answer: APITimeoutError: late"}
    assert [(f["attempt"], f["questionID"], f["reason"]) for f in outcome.failed] == [
        (1, 11, "too short"),
        (1, 12, "empty"),
        (2, 12, "empty"),
        (3, 12, "too short"),
    ]


def test_nothing_is_asked_twice_when_all_is_well():
    ask, calls = asking({})
    assert list(cbt_qa.generate(POSTS, PROMPT, ask, max_attempts=3, **OPTIONS).replies) == [11, 12, 13]
    assert len(calls) == 1


def test_everything_that_is_lost_is_listed_with_its_place_in_the_file(tmp_path):
    place = tmp_path / "psyqa.json"
    records = [{"question": "一", "questionID": 1}, {"question": ""}, {"question": "二", "questionID": 2}, 5]
    place.write_text(json.dumps([*records, {"question": "三", "questionID": 3}]), encoding="utf-8")
    posts, unread = questions.read(place)
    table = cbt_qa.drops(posts, unread, {3: "empty, 2 times asked"}, place)
    assert list(table.columns) == ["file", "index", "questionID", "reason"]
    assert table.to_numpy().tolist() == [
        ["psyqa.json", 1, 1, "question is missing or blank"],
        ["psyqa.json", 3, None, "a int where an object is expected"],
        ["psyqa.json", 4, 3, "empty, 2 times asked"],
    ]
    assert cbt_qa.drops(posts, [], {}, place).empty


def made(posts=POSTS, **replies):
    given = {post.questionID: answer(post.questionID) for post in posts}
    assigned = splits.assign([post.questionID for post in posts], [post.question for post in posts])
    return cbt_qa.rows(posts, given | replies, PROMPT, {"11": "家庭"}, assigned)


def test_a_row_holds_what_the_other_notebooks_read():
    names = "questionID question description reply topic risk advice split model prompt near_duplicate_of".split()
    risky = questions.Question(14, "我不想活了", "每天都想死")
    items = made([*POSTS, risky])
    assert all(list(item) == names for item in items) and [i["questionID"] for i in items] == [11, 12, 13, 14]
    assert [item["topic"] for item in items] == ["家庭", None, None, None]
    assert [item["risk"] for item in items] == [False, False, False, True]
    assert items[0]["prompt"] == PROMPT.hash and items[0]["reply"] == REPLY
    assert json.loads(json.dumps(items)) == items


def test_table_1_has_the_papers_rows_and_means_in_characters():
    items = made([questions.Question(1, "一二三四", "一"), questions.Question(2, "一二", "一二三")])
    items[1]["reply"] = "这是灾难化。"
    items[0]["reply"] = "好好休息"
    table = cbt_qa.table1(items)
    assert table.index.tolist() == published.table("Table 1").index.tolist()
    assert table["Statistics"].tolist() == [2, 2, 3.0, 2.0, 5.0, 50.0]


def test_topics_come_from_a_csv_or_not_at_all(tmp_path):
    assert len(cbt_qa.topics("data/sample/topics.csv")) == 360 and cbt_qa.topics(None) == {}
    (tmp_path / "t.csv").write_text("id,topic\n1,x\n", encoding="utf-8")
    with pytest.raises(files.InputError, match="needs the columns questionID and topic, has id, topic"):
        cbt_qa.topics(str(tmp_path / "t.csv"))
    with pytest.raises(files.InputError, match="no such file"):
        cbt_qa.topics("data/none.csv")


def test_figure_1_takes_a_post_without_risk_whose_forum_answer_has_least_structure():
    posts = [
        questions.Question(1, "我不想活了", "", [], ["哦"]),
        questions.Question(2, "怎么早睡", "", [], [REPLY]),
        questions.Question(3, "怎么早起", "", [], ["少看手机。" * 3]),
        questions.Question(4, "怎么午睡", ""),
    ]
    assert cbt_qa.plainest(posts, made(posts)).questionID == 3
    assert cbt_qa.plainest(posts, made(posts), 2).questionID == 2
    assert cbt_qa.plainest(posts, made(posts), 1).questionID == 1, "who names a post has seen it"
    with pytest.raises(files.InputError, match="no post without risk has a forum answer"):
        cbt_qa.plainest(posts[:1] + posts[3:], made(posts))
    for item in (4, 99):
        with pytest.raises(files.InputError, match=f"{item} is not in the data set or lacks a forum answer"):
            cbt_qa.plainest(posts, made(posts), item)


def test_conformity_counts_what_the_prompt_asks():
    table = cbt_qa.conformity({"reply": [REPLY, "好" * 500], "none": ["好"]}, 400, 650)
    assert table["row"].tolist()[:2] == ["reply: all five parts", "reply: all five, in order"]
    assert table["value"].tolist() == [0.5, 0.5, 1.0, 0.0, 0.0, 0.0] and table["n"].tolist() == [2] * 3 + [1] * 3
    assert cbt_qa.hanzi("一，a二 1") == 2
