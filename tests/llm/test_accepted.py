"""What servers refuse by name (refused_fields.json), and what follows, by a real server.

Each refusal has its source: a thread that quotes it, the server's own source, or a measurement. `sent` is what might
have been asked, `fields` what the refusal names. Those with `seen` false were collected after the code was written: it
read 35 of these 36 as they are meant.

refusals_by_others.json was written by somebody who did not know the code, which at first read 37 of its 40 as they are
meant, and 20 of 25 verdicts on leaving the field out. The verdicts that it does not share say why (`other`).
"""

import json
import time

import pytest
from provider import bad, good

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import accepted, client, errors, exchange, schema

CASES = files.read_json("tests/llm/refused_fields.json")
OF_OTHERS = files.read_json("tests/llm/refusals_by_others.json")
FIELDS = {"score": {"type": "integer"}}
SCHEMA = schema.json_schema("rating", FIELDS)


def content(case):
    body = case["body"]
    return body if isinstance(body, str) else json.dumps(body)


@pytest.mark.parametrize("case", CASES, ids=[f"{n}-{case['server']}" for n, case in enumerate(CASES)])
def test_a_refusal_names_its_fields(case):
    assert sorted(accepted.named(case["status"], content(case), case["sent"])) == sorted(case["fields"])


@pytest.mark.parametrize("case", OF_OTHERS, ids=[f"{n}-{case['server']}" for n, case in enumerate(OF_OTHERS)])
def test_a_refusal_that_others_wrote_names_its_field_and_whether_it_decides(case):
    field, sent = case["field"], case["sent"]
    assert accepted.named(case["status"], content(case), sent) == ([field] if field else [])
    if field:
        same = accepted.changes_nothing(field, sent, sent) == case["leaving_out_changes_nothing"]
        assert same is ("other" not in case)


@pytest.fixture
def complete(server, tmp_path):
    def asking(each=6, sampling=None, **options):
        """So many requests with the same fields, or one for each of a list."""
        fields = each if isinstance(each, list) else [sampling or {}] * each
        system = {"role": "system", "content": "评分"}
        chats = [[system, {"role": "user", "content": f"帖{i}"}] for i in range(len(fields))]
        wanted = [
            {"id": i, "model": "m", "messages": chat, **own}
            for i, (chat, own) in enumerate(zip(chats, fields, strict=True))
        ]
        url = f"http://127.0.0.1:{server.server_port}/v1"
        limits = {"concurrency": 2} | options
        return client.complete(wanted, endpoint=url, cache_path=tmp_path / "responses.jsonl", **limits)

    return asking


def refusing(*names):
    """A server that takes no such fields, and says so as `transformers serve` does."""
    return lambda body, call: (
        (422, {"detail": f"Unexpected fields in the request: {set(names) & body.keys()}"}, {})
        if set(names) & body.keys()
        else good(body)
    )


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0, "top_k": 50, "seed": 1},
        {"temperature": 0, "extra_body": {"top_k": 50}, "seed": 1},
        {"temperature": 0.9, "user": "me", "presence_penalty": 0},
        {"temperature": 1.0, "stop_token_ids": [], "stop": []},
        {"temperature": 0.95, "extra_body": {"stop_token_ids": [2]}, "known_stops": [2]},
    ],
)
def test_what_changes_nothing_is_left_out_and_noted(complete, server, tmp_path, capsys, sampling):
    server.script = refusing("top_k", "seed", "user", "stop_token_ids", "stop", "presence_penalty")
    answers, failed = complete(sampling=sampling)
    assert len(answers) == 6 and failed == {} and len(server.asked) <= 6 + 2
    assert server.asked[-1].keys() - {"model", "messages"} == {"temperature"}
    (entry, *_) = response_cache.read(tmp_path / "responses.jsonl").values()
    assert set(entry["left_out"]) == set(server.asked[0]) - set(server.asked[-1]) != set()
    assert "left out, which changes no answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (
            {"temperature": 0.95, "extra_body": {"top_k": 50}},
            r"top_k = 50, which decides answers: leave it to .*\{extra_body: \{top_k: null",
        ),
        (
            {"temperature": 0.9, "top_k": 0},
            r"top_k = 0, .*\{top_k: null\}",
        ),  # 50 of transformers serve, 40 of llama.cpp
        ({"temperature": 0.9, "top_p": 1}, r"top_p = 1, .*\{top_p: null\}"),
        ({"temperature": 0.9, "min_p": 0}, r"min_p = 0, "),  # 0.05 of llama.cpp
        ({"temperature": 0, "repetition_penalty": 1}, r"repetition_penalty = 1, "),  # a generation_config's, greedy too
        ({"temperature": 0.95, "seed": 7}, r"seed = 7, .*\{seed: null\}"),
        ({"temperature": 0, "stop_token_ids": [5, 6]}, r"stop_token_ids = \[5, 6\], .*generation_config\.json"),
    ],
)
def test_what_would_change_answers_stops_the_run_at_once_and_null_asks_without_it(complete, server, sampling, said):
    server.script = refusing("top_k", "top_p", "min_p", "repetition_penalty", "seed", "stop_token_ids")
    with pytest.raises(
        errors.EndpointError, match=rf"HTTP 422.*; the server refuses {said}.*answers so far are cached"
    ):
        complete(100, sampling=sampling)
    assert len(server.asked) <= 2, "those in flight"
    without = {name: None for name in sampling if name != "temperature"} | {"temperature": sampling["temperature"]}
    without |= {"extra_body": dict.fromkeys(sampling["extra_body"])} if "extra_body" in sampling else {}
    answers, failed = complete(sampling=without)
    assert len(answers) == 6 and failed == {} and server.asked[-1].keys() == {"model", "messages", "temperature"}


def test_a_field_that_a_server_refuses_for_one_post_costs_that_post_alone(complete, server):
    """After others were answered with the same fields, the refusal is about the post."""
    refused = bad(400, "Invalid value for 'seed'", "invalid_value")
    server.script = lambda body, call: refused if call == 3 else good(body)
    answers, failed = complete(sampling={"seed": 7, "temperature": 1})
    assert len(answers) == 5 and "Invalid value for 'seed'" in next(iter(failed.values())).reason


@pytest.mark.parametrize("takes", ["json_object", "text"])
def test_json_is_asked_for_in_the_strongest_form_that_a_server_takes(complete, server, tmp_path, takes):
    """Once per server, not per request; and the answer says which."""
    (llama,) = [case for case in CASES if case["server"].startswith("llama-cpp") and "response_format" in case["sent"]]

    def script(body, call):
        if schema.FORMS.index(schema.form(body)) < schema.FORMS.index(takes):
            return llama["status"], json.dumps(llama["body"]).encode(), {}
        return good(body, '{"score": 1}')

    server.script = script
    answers, failed = complete(sampling={"response_format": SCHEMA, "temperature": 0})
    refused = 2 * schema.FORMS.index(takes)  # two are in flight
    assert failed == {} and {answer.form for answer in answers} == {takes} and len(server.asked) <= 6 + refused
    last = server.asked[-1]
    assert last.get("response_format", {"type": "text"}) == {"type": takes}
    told = last["messages"][0]["content"]
    assert told.startswith("评分\n\n") and json.loads(told[told.index("{") :]) == schema.json_object(FIELDS)
    assert last["messages"][1]["content"].startswith("帖")
    entries = response_cache.read(tmp_path / "responses.jsonl").values()
    assert {entry["form"] for entry in entries} == {takes}
    asked = len(server.asked)
    answers, _ = complete(sampling={"response_format": SCHEMA, "temperature": 0})
    assert {answer.form for answer in answers} == {takes} and len(server.asked) == asked


def test_a_server_that_answered_by_schema_is_not_asked_by_a_weaker_form(complete, server):
    """One answer of which the grammar fails is asked again as it was."""
    failed_once = bad(500, "Internal error: grammar rejected tokens, terminating request")
    server.script = lambda body, call: failed_once if call == 4 else good(body)
    _, failed = complete(sampling={"response_format": SCHEMA})
    assert failed == {} and all(body["response_format"] == SCHEMA for body in server.asked) and len(server.asked) == 7


def test_requests_in_flight_when_a_schema_is_refused_are_asked_by_the_weaker_form(complete, server):
    """One is refused and answered by json_object before the refusals of the three beside it come."""

    def script(body, call):
        if schema.form(body) == "json_schema":
            time.sleep(0 if body["messages"][1]["content"] == "帖0" else 0.5)
            return bad(400, "response_format type json_schema is not supported")
        return good(body, '{"score": 1}')

    server.script = script
    answers, failed = complete(4, concurrency=4, sampling={"response_format": SCHEMA})
    assert failed == {} and [answer.form for answer in answers] == ["json_object"] * 4 and len(server.asked) == 8


def test_a_value_that_was_answered_says_nothing_of_another():
    """Each request may have its own: one that the server takes does not make the refusal of another its own."""
    one = {"model": "m", "messages": [], "temperature": 0}
    accepted_so_far = accepted.Accepted()
    accepted_so_far.answered(one | {"seed": 0}, one | {"seed": 0})
    assert accepted_so_far.refused(400, "Invalid value for 'seed'", one | {"seed": 1}) == ["seed"]
    assert accepted_so_far.refused(400, "Invalid value for 'seed'", one | {"seed": 0}) == []


def test_one_grammar_that_fails_on_the_first_answer_is_asked_again_by_schema(complete, server):
    """As vLLM reports it; the server takes schemas all the same."""
    failed_once = bad(500, "Internal error: grammar rejected tokens, terminating request")
    server.script = lambda body, call: failed_once if call == 1 else good(body)
    answers, failed = complete(sampling={"response_format": SCHEMA})
    assert failed == {} and {answer.form for answer in answers} == {""} and len(server.asked) == 7


def test_grammars_that_always_fail_are_a_refusal_of_the_schema(complete, server):
    always = bad(500, "Internal error: grammar rejected tokens, terminating request")
    server.script = lambda body, call: always if schema.form(body) == "json_schema" else good(body)
    answers, failed = complete(sampling={"response_format": SCHEMA})
    assert failed == {} and {answer.form for answer in answers} == {"json_object"}


def test_what_to_set_is_said_in_a_run_that_continues_another(complete, server):
    """The first run asked without the field; none of this one is answered."""
    plain, with_field = ({"temperature": 0.9}, {"temperature": 0.9, "top_k": 50})
    complete([plain])
    server.script = refusing("top_k")
    with pytest.raises(errors.EndpointError, match=r"top_k = 50, which decides .*\{top_k: null\}"):
        complete([plain, *[with_field] * 11])


def test_a_server_that_takes_a_schema_is_asked_by_it(complete, server):
    answers, _ = complete(sampling={"response_format": SCHEMA})
    assert all(body["response_format"] == SCHEMA for body in server.asked) and {a.form for a in answers} == {""}


def test_null_leaves_a_field_out():
    asked = {"id": 1, "model": "m", "messages": [], "seed": None, "extra_body": {"top_k": None, "min_p": 0}}
    assert exchange.body(asked) == {"model": "m", "messages": [], "min_p": 0}
