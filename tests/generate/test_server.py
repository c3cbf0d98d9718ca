"""Answers of a server look like local ones, are asked in the form of the training, and are not asked twice."""

import pytest
from provider import bad, good, text_completion

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import record
from cbtllm_utils.generate import server as served
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import errors, exchange
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.text import reply_checks

ROWS = [{"questionID": i, "question": f"怎么办{i}", "description": "睡不着。"} for i in (7, 3, 5)]
PROMPTS = [prompt_forms.prompt(row, "card") for row in ROWS]
DECODING = {"max_new_tokens": 64, "temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": 42}


def replies(*arguments, **options):
    """The rows of an answering server that refuses nothing."""
    rows, failed, _ = served.answer(*arguments, **options)
    assert failed == {}
    return rows


@pytest.fixture
def asking(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    where = {"endpoint": f"http://127.0.0.1:{server.server_port}/v1", "path": tmp_path / "responses.jsonl"}
    return where | {"model": "cbt", "route": "completions", "decoding": DECODING}


def test_rows_are_those_of_a_local_answer_and_the_prompt_is_the_trained_one(server, asking):
    server.script = lambda body, call: text_completion(body, f"答{body['prompt'][-30:]} ")
    found = replies(ROWS, PROMPTS, "baichuan-7b", **asking)
    assert [row["questionID"] for row in found] == [7, 3, 5]
    assert found[0] == {
        "system": "baichuan-7b",
        "questionID": 7,
        "reply": f"答{PROMPTS[0][-30:]}".strip(),
        "finish_reason": "length",
        "tokens": 4,
    }
    body = next(body for body in server.asked if body["prompt"] == PROMPTS[0])
    expected = {"model": "cbt", "max_tokens": 64, "temperature": 0.95, "top_p": 0.7, "top_k": 50, "seed": 42}
    assert body == expected | {"prompt": PROMPTS[0]}


def test_all_tokens_are_asked_for_by_a_number_as_a_server_has_a_default_of_its_own():
    """50 of `transformers serve`, 40 of llama.cpp; null leaves it to the server, and greedy decoding draws nothing."""
    one = (ROWS[:1], PROMPTS[:1], "m", "completions")
    (every,) = served.requests(*one, **DECODING | {"top_k": 0})
    (theirs,) = served.requests(*one, **DECODING | {"top_k": 0}, sampling={"extra_body": {"top_k": None}})
    (greedy,) = served.requests(*one, **DECODING | {"top_k": 0, "temperature": 0})
    assert exchange.body(every)["top_k"] == 0
    assert not {"top_k"} & (exchange.body(theirs).keys() | exchange.body(greedy).keys())


def test_what_was_answered_is_not_asked_again(server, asking):
    server.script = lambda body, call: text_completion(body)
    replies(ROWS[:2], PROMPTS[:2], "a", **asking)
    first = replies(ROWS, PROMPTS, "a", **asking)
    assert len(server.asked) == 3 and replies(ROWS, PROMPTS, "a", **asking) == first
    replies(ROWS, PROMPTS, "a", **asking | {"model": "base"})
    assert len(server.asked) == 6, "another model is another system"


def test_after_another_training_or_on_another_server_it_is_asked_again(server, asking, tmp_path):
    """The name on the server, and so the request, is the same; what an answer is known by is not sent."""
    server.script = lambda body, call: text_completion(body)
    weights = tmp_path / "adapter/adapter_model.safetensors"
    known = []
    for content in (b"one", b"one", b"two"):
        files.write_text(weights, content.decode())
        known.append(served.identity(asking["endpoint"], weights.parent))
    known.append(served.identity("http://elsewhere:8000/v1", weights.parent))
    for by, number in zip(known, (1, 1, 2, 3), strict=True):
        served.answer(ROWS[:1], PROMPTS[:1], "a", **asking | {"decoding": DECODING | {"served_by": by}})
        assert len(server.asked) == number
    before = served.identity("http://host/v1", weights.parent)
    files.write_json(weights.with_name("adapter_config.json"), {"r": 8, "lora_alpha": 64})
    assert served.identity("http://host/v1", weights.parent) != before, "another scale is another adapter"
    assert served.identity("http://someone:secret@host/v1") == {"endpoint": "http://host/v1", "adapter": None}
    assert "served_by" not in server.asked[0]


def test_greedy_sends_no_sampling(server, asking):
    server.script = lambda body, call: text_completion(body)
    replies(ROWS[:1], PROMPTS[:1], "a", **asking | {"decoding": DECODING | {"temperature": 0}})
    assert server.asked[0].keys() == {"model", "prompt", "max_tokens", "temperature", "seed"}


def test_a_prompt_that_holds_its_first_token_gets_no_second(server, asking):
    server.script = lambda body, call: text_completion(body)
    replies(ROWS[:1], ["<|begin_of_text|>你好"], "a", **asking | {"decoding": DECODING | {"begun": True}})
    assert server.asked[0]["add_special_tokens"] is False and server.asked[0]["top_k"] == 50


def test_a_server_is_told_which_tokens_end_a_reply(server, asking):
    server.script = lambda body, call: text_completion(body)
    replies(ROWS[:1], PROMPTS[:1], "a", **asking | {"decoding": DECODING | {"stops": [151645, 151643]}})
    assert server.asked[0]["stop_token_ids"] == [151645, 151643]


def test_a_chat_gets_instruction_and_post(server, asking):
    server.script = lambda body, call: good(body)
    found = replies(ROWS[:1], PROMPTS[:1], "gpt", **asking | {"route": "chat"})
    assert found[0]["reply"] == "答怎么办7?睡不着。" and found[0]["tokens"] == 500
    assert [m["role"] for m in server.asked[0]["messages"]] == ["system", "user"]
    assert server.asked[0]["messages"][0]["content"] == prompt_forms.INSTRUCTION and "top_k" not in server.asked[0]


def test_the_prompted_system_is_the_same_model_with_another_request(server, asking):
    """By the chat as notebook 02 asks a provider: the CBT prompt as system message, the post enclosed."""
    server.script = lambda body, call: good(body)
    cbt = prompts.read("params/prompts/cbt_prompt.zh.md")
    replies(ROWS[:1], PROMPTS[:1], "a", **asking | {"route": "chat", "decoding": DECODING | {"cbt": cbt}})
    assert server.asked[0]["messages"] == prompts.messages(cbt, "怎么办7", "睡不着。")


def test_a_server_does_not_word_the_prompts_of_an_adapter_that_was_trained_in_another_form(tmp_path):
    files.write_json(tmp_path / "training.json", {"settings": {"template": "card"}})
    served.check_route("completions", tmp_path)
    with pytest.raises(files.InputError, match=r"route = chat .* was trained with card; set route = completions"):
        served.check_route("chat", tmp_path)
    with pytest.raises(files.InputError, match=r"Hongbin37/CBT-LLM was trained with card"):
        served.check_route("chat", "Hongbin37/CBT-LLM")
    files.write_json(tmp_path / "training.json", {"settings": {"template": "chat"}})
    served.check_route("chat", tmp_path)
    served.check_route("chat", tmp_path / "from elsewhere")


def test_an_adapter_without_the_record_of_a_training_is_named_in_the_output_and_beside_the_answers(tmp_path, capsys):
    chosen = AnswerSettings(run=str(tmp_path), backbone="qwen-7b", template="card")
    said = "from elsewhere, without training.json; the form of its prompts is not known"
    files.write_json(tmp_path / "adapters/qwen-7b" / adapters.CONFIG, {"peft_type": "LORA"})
    served.check_form(chosen, None)
    assert capsys.readouterr().out == f"adapter: {said}\n"
    assert record.complete({}, chosen, "worded")["adapter_origin"] == said
    untuned = chosen.model_copy(update={"kinds": ["untuned"]})
    served.check_form(untuned, None)
    assert "adapter_origin" not in record.complete({}, untuned, "worded")
    files.write_json(tmp_path / "adapters/qwen-7b/training.json", {"settings": {"template": "card"}})
    served.check_form(chosen, None)
    assert "adapter_origin" not in record.complete({}, chosen, "worded") and capsys.readouterr().out == ""


def test_an_item_without_a_reply_keeps_a_row_that_says_why_and_is_asked_again(server, asking):
    long = "This model's maximum context length is 2048 tokens"
    server.script = lambda body, call: (
        bad(400, long, "context_length_exceeded") if "怎么办3" in body["prompt"] else text_completion(body)
    )
    rows, failed, _ = served.answer(ROWS, PROMPTS, "a", **asking)
    assert [(row["questionID"], row["finish_reason"]) for row in rows] == [
        *((7, "length"), (3, errors.REFUSED), (5, "length"))
    ]
    assert rows[1] == {"system": "a", "questionID": 3, "reply": "", "finish_reason": errors.REFUSED, "tokens": 0}
    assert list(failed) == [3] and long in failed[3].reason
    assert [row["questionID"] for row in reply_checks.answered(rows)] == [7, 5]
    server.script = lambda body, call: text_completion(body)
    before = len(server.asked)
    assert len(replies(ROWS, PROMPTS, "a", **asking)) == 3 and len(server.asked) == before + 1


def test_without_a_single_reply_the_reason_is_said(server, asking):
    server.script = lambda body, call: bad(400, "maximum context length is 9 tokens", "context_length_exceeded")
    with pytest.raises(files.InputError, match=r"answers of a: none of 3 prompts has a reply; refused by .* 9 tokens"):
        served.answer(ROWS, PROMPTS, "a", **asking)


def test_replies_are_cleaned_and_what_is_not_whole_says_so(server, asking):
    """A6 and A7: a thinking block and a control token go; a cut in mid-sentence and a tag within are named."""
    texts = {7: "<think>想</think>慢慢来。<|im_end|>", 3: "慢慢来，我们", 5: "慢慢来<think>嗯</think>。"}
    server.script = lambda body, call: text_completion(
        body, next(text for item, text in texts.items() if f"怎么办{item}" in body["prompt"]), "stop"
    )
    rows, failed, removed = served.answer(ROWS, PROMPTS, "a", **asking)
    assert failed == {} and removed == {"thinking block": 1, "control token": 1}
    assert [(row["reply"], row["finish_reason"]) for row in rows] == [
        ("慢慢来。", "stop"),
        ("慢慢来，我们", "in mid-sentence"),
        ("慢慢来<think>嗯</think>。", "holds <think>"),
    ]
    posts = {row["questionID"]: row["question"] for row in ROWS}
    assert reply_checks.quality(rows, posts)["cut off"].tolist() == [2]


def test_a_profile_switches_thinking_off_on_both_routes(server, asking):
    """A6: what `sampling` holds is sent, beside top_k on the route that takes it."""
    server.script = lambda body, call: good(body, "好。") if "messages" in body else text_completion(body)
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    decoding = DECODING | {"sampling": {"extra_body": off}}
    for route in ("completions", "chat"):
        replies(ROWS[:1], PROMPTS[:1], "a", **asking | {"route": route, "decoding": decoding})
    assert [body["chat_template_kwargs"] for body in server.asked] == [off["chat_template_kwargs"]] * 2
    assert [body.get("top_k") for body in server.asked] == [50, None]


def test_asking_stops_before_the_budget_is_exceeded_and_both_systems_share_it(server, asking):
    """An answer takes 9 + 4 tokens at a million a million: 13. Before it, 64 tokens and the prompt's are set aside."""
    server.script = lambda body, call: text_completion(body)
    paid = {"price": {"input": 1e6, "output": 1e6}, "concurrency": 1}
    aside = 64 + len(PROMPTS[0]) * 1.3  # of each prompt; all are as long
    assert len({len(prompt) for prompt in PROMPTS}) == 1
    with pytest.raises(errors.EndpointError, match=r"budget .* would be exceeded after 26\.0000"):
        replies(ROWS, PROMPTS, "a", **asking, **paid, budget=aside + 20)
    assert len(server.asked) == 2
    with pytest.raises(errors.EndpointError, match=r"would be exceeded after 39\.0000"):
        replies(ROWS, PROMPTS, "b", **asking | {"model": "base"}, **paid, budget=aside + 30)
    assert len(server.asked) == 3 and len(replies(ROWS, PROMPTS, "a", **asking, **paid, budget=aside + 99)) == 3
    with pytest.raises(files.InputError, match="no price to count against it"):
        replies(ROWS, PROMPTS, "a", **asking, budget=1.0)


def test_systems_are_named_as_local_ones():
    all_three = {"tuned": "cbt", "untuned": "base", "prompted": "base"}
    names = {"qwen-7b-untuned": "base", "qwen-7b-prompted": "base", "qwen-7b": "cbt"}
    assert served.systems(all_three, "qwen-7b") == names
    assert served.systems(all_three, "qwen-7b", ["tuned", "untuned"]) == {"qwen-7b-untuned": "base", "qwen-7b": "cbt"}
    assert served.systems({"untuned": "gpt-4o"}, "gpt-4o") == {"gpt-4o-untuned": "gpt-4o"}
    for wrong in ({}, {"tunes": "cbt"}):
        with pytest.raises(files.InputError, match=r"served = .*untuned or prompted or tuned"):
            served.systems(wrong, "qwen-7b")
