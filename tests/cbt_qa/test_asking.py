"""One call for each job of notebooks 01 and 02: what is asked, what is said of it, what ends it."""

import json

import pytest
from provider import answered, bad, good

from cbtllm_utils import files
from cbtllm_utils.cbt_qa import asking, dataset
from cbtllm_utils.cbt_qa.settings import DatasetSettings, PromptSettings
from cbtllm_utils.data import prompts, psyqa
from cbtllm_utils.llm.errors import EndpointError

POSTS = psyqa.read("data/sample/psyqa_sample.json")[0]
RECORDED = files.read_jsonl("data/sample/recorded_replies.jsonl")
REPLY = "".join(text for _, text in RECORDED[0]["sections"])
PROMPT = prompts.read("params/prompts/cbt_prompt.zh.md")
PRICES = {"m": {"input": 1e3, "output": 2e3}, "m, batch": {"input": 5e2, "output": 1e3}}


@pytest.fixture
def given(server, tmp_path, monkeypatch):
    """Settings that ask the provider on the loopback."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.script = lambda body, call: good(body, REPLY)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return {"run": str(tmp_path), "endpoint": url, "model": "m", "max_retries": 0, "prices": PRICES}


def test_a_prompt_asked_of_posts_brings_answers_reasons_and_a_line_on_both(server, given):
    def script(body, call):
        refused = POSTS[1].question in body["messages"][-1]["content"]
        return bad(400, "blocked", "content_filter") if refused else good(body, f"<think>嗯。</think>\n{REPLY}")

    server.script = script
    found = asking.ask(POSTS[:3], PROMPT, PromptSettings(**given))
    assert [answer.id for answer in found.answers] == [POSTS[0].questionID, POSTS[2].questionID]
    assert {answer.text for answer in found.answers} == {REPLY}, "thinking is cleaned off"
    assert list(found.failures) == [POSTS[1].questionID]
    forum = asking.forum_answers(POSTS[:5], found)
    assert POSTS[1].answers and dict.fromkeys(post for post, _ in forum) == dict.fromkeys(
        post.questionID for post in (POSTS[0], POSTS[2]) if post.answers
    ), "of the posts that have a reply"
    assert found.account == (
        "cbt_prompt.zh: 2 answers by m-0613, 1 posts without an answer; "
        "cleaned off the replies: thinking block from 2 replies"
    )


def test_each_prompt_is_asked_of_the_same_posts_and_an_answer_that_is_missing_ends_it(server, given, tmp_path):
    shorter = prompts.without(PROMPT, "challenge")
    found = asking.ask_each(POSTS[:2], [PROMPT, shorter], PromptSettings(**given))
    assert {name: len(asked.answers) for name, asked in found.items()} == {PROMPT.name: 2, shorter.name: 2}
    server.script = lambda body, call: bad(500, "internal error")
    with pytest.raises(EndpointError, match=r"2 of 6 requests have no answer"):
        asking.ask_each(POSTS[:3], [PROMPT, shorter], PromptSettings(**given, allowed_missing=0.1))
    listed = files.read_csv(files.missing(tmp_path, asking.PROMPT_STEP))
    assert listed["id"].tolist() == [f"{POSTS[2].questionID} ({name})" for name in (PROMPT.name, shorter.name)]


def test_a_prototype_without_all_five_components_is_no_example(server, given):
    chosen = PromptSettings(**given, prototype_model="strong")
    assert asking.prototype(POSTS[0], PROMPT, chosen).text == REPLY
    assert [body["model"] for body in server.asked] == ["strong"]
    server.script = lambda body, call: good(body, RECORDED[0]["sections"][0][1])
    with pytest.raises(files.InputError, match=r"cannot serve as an example: .*; draw another `seed`"):
        asking.prototype(POSTS[1], PROMPT, chosen)


def test_the_bill_is_there_before_anything_is_asked(server, given):
    chosen = DatasetSettings(**given, reader_endpoint=given["endpoint"], reader_model="m")
    said, table = asking.bill(POSTS[:4], PROMPT, chosen)
    assert server.asked == []
    assert [line.partition(", about ")[0] for line in said] == [
        "replies: 4 requests to m",
        "second reader: 4 requests to m",
    ]
    lines = table.set_index(["asked for", "model"])
    assert lines.loc[[("replies", "m"), ("second reader", "m")], "requests"].tolist() == [4, 4]
    assert lines.loc[("replies", "m"), "cost"] == pytest.approx(2 * lines.loc[("replies", "m, batch"), "cost"])
    at_full_size = table["cost"] * 22327 / 4
    assert table["cost at the paper's size"].tolist() == pytest.approx(at_full_size.tolist())
    asking.replies(POSTS[:3], PROMPT, chosen)
    said, _ = asking.bill(POSTS[:4], PROMPT, chosen)
    assert said[0].startswith("replies: 1 request to m, about "), "what the cache holds is not paid for again"


@pytest.mark.parametrize(
    ("endpoint", "conditions", "told"),
    [
        ("provider", "demo scale: invented posts, recorded replies", True),
        ("provider", "invented posts, replies by m", False),
        ("recording", "demo scale: invented posts, recorded replies", False),
    ],
)
def test_conditions_that_still_speak_of_a_recording_are_told(server, given, capsys, endpoint, conditions, told):
    ours = given | {"conditions": conditions}
    if endpoint == "recording":
        ours |= {"endpoint": "replay:data/sample/recorded_replies.jsonl", "model": "recorded"}
    asking.bill(POSTS[:1], PROMPT, DatasetSettings(**ours, reader_endpoint=None))
    by_dataset = capsys.readouterr().err
    asking.prototype(POSTS[0], PROMPT, PromptSettings(**ours, prototype_model=ours["model"]))
    for said in (by_dataset, capsys.readouterr().err):
        assert ('note: `conditions` says "recorded replies"' in said) is told
        assert ('set `conditions` to what is true of this run, such as conditions="' in said) is told


def test_a_recording_costs_nothing(tmp_path):
    chosen = DatasetSettings(run=str(tmp_path))
    assert asking.bill(POSTS[:4], PROMPT, chosen)[0] == [
        "replies: recorded answers, nothing to pay",
        "second reader: recorded answers, nothing to pay",
    ]
    outcome = asking.replies(POSTS[:4], PROMPT, chosen)
    assert len(outcome.replies) == 4
    assert asking.paid(chosen) == "4 answers by recorded; nothing was paid"


@pytest.mark.parametrize("batch", [False, True])
def test_what_was_paid_is_counted_at_the_price_of_the_way_of_asking(server, given, batch):
    """1,000 and 500 tokens an answer: 3 x (1,000 x 1e3 + 500 x 2e3) / 1e6 = 6, in a batch half of it."""
    server.line = lambda call: answered(call["custom_id"], *good(call["body"], REPLY)[:2])
    chosen = DatasetSettings(**given, batch=batch, poll_seconds=0.01, budget=100.0)
    outcome = asking.replies(POSTS[:3], PROMPT, chosen)
    assert len(outcome.replies) == 3 and len(server.batches) == batch
    paid = asking.paid(chosen)
    assert paid.startswith("3 answers by m-0613, 3,000 tokens sent and 1,500 received; ")
    assert paid.endswith("3.00 paid" if batch else "6.00 paid")
    place = files.path(asking.reply_cache(chosen))
    first, *others = place.read_text(encoding="utf-8").splitlines()
    files.write_text(place, "\n".join([first.replace("m-0613", "n-1"), *others]) + "\n")
    assert asking.paid(chosen).endswith(f"{3 if batch else 6}.00 if all were paid at the price of m")


def test_posts_are_flagged_by_the_screen_and_by_a_reader(server, given):
    quiet = json.dumps({"findings": [], "severity": "none"})
    found = {"quote": POSTS[0].description[:5], "kind": "self_harm"}
    loud = json.dumps({"findings": [found], "severity": "active"}, ensure_ascii=False)
    server.script = lambda body, call: good(
        body, loud if POSTS[0].question in body["messages"][-1]["content"] else quiet
    )
    alone = asking.flags(POSTS[:2], DatasetSettings(**given, reader_endpoint=None))
    assert list(alone.by.values()) == [None, None] and alone.asked == 0 and server.asked == []
    assert alone.note == "no second reader was asked: the screen alone"
    both = asking.flags(POSTS[:2], DatasetSettings(**given, reader_endpoint=given["endpoint"], reader_model="r"))
    assert list(both.by.values()) == ["second reader", None] and both.asked == 2
    assert both.note == "second reader: the language model r, not a person; 2 read, 0 unread"


def test_what_is_left_out_has_a_list_with_the_posts_beyond_the_limit(given, tmp_path):
    chosen = DatasetSettings(**given, limit=2, reader_endpoint=None)
    outcome = asking.replies(POSTS[:2], PROMPT, chosen)
    dropped = asking.left_out(POSTS[:5], [], outcome, asking.flags(POSTS[:2], chosen), chosen)
    assert dropped["questionID"].tolist() == [post.questionID for post in POSTS[2:5]]
    assert set(dropped["kind"]) == {dataset.NOT_ASKED}
    assert len(files.read_csv(tmp_path / "cbt_qa/dropped.csv")) == 3


def test_posts_that_the_screen_flags_are_not_drawn(tmp_path):
    chosen = PromptSettings(run=str(tmp_path), measured=360)
    drawn = asking.draw(POSTS, chosen)
    assert 900027 not in {post.questionID for post in drawn}, "it speaks of a wish to die"
    assert len(drawn) > 300
    few = PromptSettings(run=str(tmp_path), measured=2)
    assert len(asking.draw(POSTS, few)) == 3 and asking.draw(POSTS, few) == asking.draw(POSTS, few)


def test_over_a_recording_one_prompt_is_asked_and_over_an_endpoint_every_variant(given, tmp_path):
    extended = prompts.with_example(PROMPT, "问", "述", REPLY)
    asked = {"run": str(tmp_path), "example": True}
    assert asking.variants(PROMPT, extended, PromptSettings(**asked)) == [extended]
    found = asking.variants(PROMPT, extended, PromptSettings(**given, compare=["params/prompts/cbt_prompt.en.md"]))
    assert len({prompt.hash for prompt in found}) == 1 + 1 + 5 + 1
    assert asking.bill_of(POSTS[:2], found, PromptSettings(**given)).startswith("16 requests to m, about ")


def test_failed_replies_are_counted_by_attempt_and_refusals_are_one_row():
    failed = [
        (1, 7, "cut off", "length"),
        (1, 8, "refused by the model", "抱歉"),
        (2, 8, "refused by the model", "不行"),
    ]
    columns = "attempt", "questionID", "kind", "reason"
    outcome = dataset.Outcome(failed=[dict(zip(columns, one, strict=True)) for one in failed])
    assert dataset.failures(outcome).to_dict("records") == [
        {"kind": "cut off", "reason": "length", "attempt 1": 1, "attempt 2": 0},
        {"kind": "refused by the model", "reason": "in its own words", "attempt 1": 1, "attempt 2": 1},
    ]
    assert dataset.failures(dataset.Outcome()).empty


def test_flagged_posts_without_advice_are_listed_and_figure_2_counts_both_sides():
    base = {"questionID": 1, "question": "问", "reply": "好", "model": "m", "split": "train"}
    items = [base | {"risk": True, "advice": False}, base | {"questionID": 2, "risk": True, "advice": True}]
    items += [base | {"questionID": 3, "risk": False, "advice": False, "split": "test"}]
    assert dataset.unadvised(items).to_dict("records") == [{"questionID": 1, "question": "问"}]
    assert dataset.advice(items).set_index("post")["replies"].to_dict() == {"flagged for risk": 2, "not flagged": 1}
    numbers = dataset.overview(items, 5, "p")
    assert (numbers["Forum questions"], numbers["CBT QA"], numbers["Training set"], numbers["Test set"]) == (5, 3, 2, 1)


def test_posts_are_counted_by_topic_the_most_frequent_first():
    topic_of = {str(POSTS[0].questionID): "情绪", str(POSTS[1].questionID): "家庭", str(POSTS[2].questionID): "家庭"}
    table = dataset.by_topic(POSTS[:4], topic_of)
    assert table.to_numpy().tolist() == [["family 家庭", 2], ["emotion 情绪", 1], ["no topic", 1]]
