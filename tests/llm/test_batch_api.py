"""The Batch API against a provider on the loopback: every answer once, whatever happens between."""

import json

import pytest
from provider import KEY, answered, bad, good

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import batch_api, client, errors, exchange


def requests(number):
    return [
        {"id": i, "model": "m", "messages": [{"role": "user", "content": f"帖{i}"}], "attempt": 1}
        for i in range(number)
    ]


@pytest.fixture
def complete(server, tmp_path):
    def asking(wanted, **options):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options = {"poll_seconds": 0.01} | options
        return batch_api.complete(wanted, endpoint=url, cache_path=tmp_path / "responses.jsonl", **options)

    return asking


def sent(server):
    """How often each request was sent in a batch that the provider took."""
    calls = [server.files[batch["input_file_id"]] for batch, _ in server.batches.values()]
    return [len(content.splitlines()) for content in calls]


def test_answers_come_in_order_and_are_stored_as_the_client_would(complete, server, tmp_path):
    answers, failed = complete(requests(3))
    assert failed == {} and [(a.id, a.text) for a in answers] == [(i, f"答帖{i}") for i in range(3)]
    assert (answers[0].model, answers[0].prompt_tokens, answers[0].finish_reason) == ("m-0613", 1000, "stop")
    again, _ = client.complete(
        requests(3),
        endpoint=f"http://127.0.0.1:{server.server_port}/v1",
        cache_path=tmp_path / "responses.jsonl",
    )
    assert again == answers and server.asked == [], "the response cache is the same for both ways"


def test_a_line_that_failed_is_asked_again_in_the_next_batch(complete, server):
    seen = []

    def line(call):
        seen.append(call["body"]["messages"][0]["content"])
        first = seen.count("帖1") == 1 and seen[-1] == "帖1"
        return answered(call["custom_id"], *(bad(500, "down") if first else good(call["body"]))[:2])

    server.line = line
    answers, failed = complete(requests(3))
    assert len(answers) == 3 and failed == {} and sent(server) == [3, 1]


def test_a_line_that_never_succeeds_is_named_with_its_reason(complete, server):
    def line(call):
        wrong = call["body"]["messages"][0]["content"] == "帖1"
        return answered(call["custom_id"], *(bad(400, "content filter", "c") if wrong else good(call["body"]))[:2])

    server.line = line
    answers, failed = complete(requests(2))
    assert [a.id for a in answers] == [0] and failed == {1: (errors.REFUSED, "HTTP 400 c t: content filter")}
    assert sent(server) == [2], "a refusal is not asked again in the same run"


def test_posts_that_a_filter_refuses_do_not_stop_the_others(complete, server):
    def line(call):
        wrong = int(call["body"]["messages"][0]["content"][1:]) >= 75
        return answered(call["custom_id"], *(bad(400, "content filter", "c") if wrong else good(call["body"]))[:2])

    server.line = line
    for _ in range(2):  # a rerun asks for the refused alone, and ends as well
        answers, failed = complete(requests(100))
        assert len(answers) == 75 and sorted(failed) == list(range(75, 100))


def test_lines_that_are_never_answered_are_returned_when_others_were(complete, server):
    def line(call):
        wrong = int(call["body"]["messages"][0]["content"][1:]) >= 10
        return answered(call["custom_id"], *(bad(400, "no") if wrong else good(call["body"]))[:2])

    server.line = line
    for _ in range(2):
        answers, failed = complete(requests(20))
        assert len(answers) == 10 and {f.kind for f in failed.values()} == {errors.UNANSWERED} and len(failed) == 10


def test_a_line_that_never_comes_back_has_a_reason(complete, server):
    server.line = lambda call: None if "帖1" in str(call) else answered(call["custom_id"], *good(call["body"])[:2])
    answers, failed = complete(requests(2))
    assert [a.id for a in answers] == [0] and failed == {1: (errors.UNANSWERED, "the batch returned no line for it")}


def test_a_cancelled_batch_stores_what_it_answered_and_sends_no_other(complete, server):
    server.end = "cancelled"
    server.line = lambda call: None if "帖1" in str(call) else answered(call["custom_id"], *good(call["body"])[:2])
    with pytest.raises(errors.EndpointError, match="batch_0 was canceled; its answers are cached"):
        complete(requests(2))
    assert len(server.batches) == 1
    server.end, server.line = "completed", lambda call: answered(call["custom_id"], *good(call["body"])[:2])
    assert len(complete(requests(2))[0]) == 2 and sent(server) == [2, 1]


def test_batches_are_as_large_as_an_account_allows_and_never_two_wait_at_once(complete, server, monkeypatch):
    take = server.taken

    def taken(path, content):
        assert all(batch["status"] == "completed" for batch, _ in server.batches.values())
        return take(path, content)

    monkeypatch.setattr(server, "taken", taken)
    assert len(complete(requests(5), most_requests=2)[0]) == 5 and sent(server) == [2, 2, 1]


def test_twenty_lines_without_a_single_answer_stop_the_run(complete, server):
    server.line = lambda call: answered(call["custom_id"], *bad(404, "no such model", "model_not_found")[:2])
    with pytest.raises(errors.EndpointError, match=r"no line of the batch was answered; .* no such model"):
        complete(requests(20))
    assert sent(server) == [20]


def test_an_expired_batch_gives_what_it_has(complete, server):
    def line(call):
        if len(server.batches) == 1 and call["body"]["messages"][0]["content"] != "帖0":
            error = {"code": "batch_expired", "message": "not in 24 hours"}
            return {"id": "r", "custom_id": call["custom_id"], "response": None, "error": error}
        return answered(call["custom_id"], *good(call["body"])[:2])

    server.line, server.end = line, "expired"
    assert len(complete(requests(3))[0]) == 3 and sent(server) == [3, 2]


def test_a_kill_while_a_batch_is_under_way_pays_nothing_twice(complete, server, monkeypatch):
    """Gone after the batch was made: before its id was written down, and while it is waited for."""
    for where in ("note", "ended"):
        before = len(server.batches)
        with monkeypatch.context() as patch:
            owner = batch_api.State if where == "note" else batch_api

            def die(*_, **__):
                raise KeyboardInterrupt

            patch.setattr(owner, where, die)
            with pytest.raises(KeyboardInterrupt):
                complete(requests(3 + before))
        answers, failed = complete(requests(3 + before))
        assert len(answers) == 3 + before and failed == {} and len(server.batches) == before + 1


def test_a_refused_batch_stops_with_the_providers_reason_and_can_be_tried_again(complete, server, monkeypatch):
    def failed(name):
        batch = dict(server.batches[name][0])
        error = {"code": "invalid_model", "message": "no such model"}
        return batch | {"status": "failed", "errors": {"object": "list", "data": [error]}}

    with monkeypatch.context() as patch:
        patch.setattr(server, "looked_at", failed)
        with pytest.raises(errors.EndpointError, match=r"batch batch_0 failed: invalid_model: no such model"):
            complete(requests(2))
    assert len(complete(requests(2))[0]) == 2


def test_a_provider_that_is_away_for_a_while_is_asked_again(complete, server, monkeypatch):
    looks, real = [], server.looked_at

    def flaky(name):
        looks.append(name)
        if len(looks) < 3:
            raise ConnectionResetError  # the handler dies, the client sees a broken connection
        return real(name)

    monkeypatch.setattr(server, "looked_at", flaky)
    monkeypatch.setattr(server, "handle_error", lambda *_: None)
    assert len(complete(requests(2), max_retries=0)[0]) == 2 and len(looks) >= 3


def test_a_budget_is_kept_before_a_batch_is_sent(complete, server):
    price = {"input": 3.0, "output": 4.0}  # 1,000 tokens in and 500 out: 0.005 each; estimated 700 out: 0.0028 each
    with pytest.raises(errors.EndpointError, match=r"budget 0.01: a batch of 10 may cost 0.03 after 0.00"):
        complete(requests(10), price=price, budget=0.01)
    assert server.batches == {}
    assert len(complete(requests(10), price=price, budget=0.1)[0]) == 10
    with pytest.raises(files.InputError, match="there is no price to count against it"):
        complete(requests(11), budget=0.1)


def test_a_recording_takes_no_batches(tmp_path):
    with pytest.raises(files.InputError, match="set `batch: false`"):
        batch_api.complete([], endpoint="replay:x", cache_path=tmp_path / "j")


def test_input_files_keep_to_the_limits(monkeypatch):
    wanted = {exchange.request_hash(r): r for r in requests(7)}
    size = len(next(batch_api.input_files(wanted)).splitlines()[0]) + 1
    for name, limit, expected in (("MOST_REQUESTS", 3, [3, 3, 1]), ("MOST_BYTES", 2 * size, [2, 2, 2, 1])):
        with monkeypatch.context() as patch:
            patch.setattr(batch_api, name, limit)
            assert [len(part.splitlines()) for part in batch_api.input_files(wanted)] == expected
    line = json.loads(next(batch_api.input_files(wanted)).splitlines()[0])
    assert line["custom_id"] == next(iter(wanted)) and len(line["custom_id"]) <= 64
    assert line["body"].keys() == {"model", "messages"}, "no id, no attempt"


@pytest.mark.parametrize(
    "line, said",
    [
        ({"response": {"status_code": 200, "body": {"choices": []}}}, 'HTTP 200: {"choices": []}'),
        ({"response": {"status_code": 200, "body": None}}, "HTTP 200: no answer: the answer holds no choice"),
        ({"response": {"status_code": 503, "body": {"error": "overloaded"}}}, "HTTP 503: overloaded"),
        ({"response": {"status_code": 502, "body": "<html>Bad Gateway"}}, "HTTP 502: Bad Gateway"),
        ({"response": "odd"}, "no answer: the answer holds no choice"),
        ({"response": None, "error": "expired"}, "expired"),
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}}, "batch_expired: late"),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow\ndown"}}}}, "HTTP 429: slow down"),
        ({"response": "text"}, "no answer: the answer holds no choice"),
        ({"response": {"body": [1]}}, "[1]"),
        ({"error": "late"}, "late"),
        ({"response": {"status_code": 400, "body": {"error": {"message": f"\x1b[2J {KEY}"}}}}, "HTTP 400: �[2J …"),
        ({"response": {"status_code": 200, "body": {"choices": KEY}}}, 'HTTP 200: {"choices": "…"}'),
    ],
)
def test_a_line_without_an_answer_has_a_reason(line, said, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    kind, reason = batch_api.line_entry(line | {"custom_id": "h"}, requests(1)[0])
    assert kind == errors.UNANSWERED and reason.startswith(said) and KEY not in reason


def test_a_damaged_line_is_not_an_answer():
    mark = b"a" * 64
    whole = b'{"custom_id": "' + mark + b'"}'
    broken = [b'{"cust', b"[1]", b'{"custom_id": 3}', b'{"custom_id": "not ours"}', b"[" * 200_000, b"\xff"]
    assert batch_api.whole_lines(b"\n".join([whole, *broken])) == [{"custom_id": mark.decode()}]


def test_what_was_collected_is_not_collected_again(complete, server, tmp_path):
    complete(requests(2))
    complete(requests(3))
    assert sent(server) == [2, 1] and len(response_cache.read(tmp_path / "responses.jsonl")) == 3
    state = files.read_json(tmp_path / "responses.batches.json")
    assert set(state["batches"].values()) == {"collected"}


def test_an_unknown_finish_reason_is_stored_as_it_came():
    body = good({"messages": [{"content": "帖"}]})[1]
    body["choices"][0]["finish_reason"] = "abort"
    found = batch_api.line_entry(answered("h", 200, body), requests(1)[0])
    assert (found["finish_reason"], found["text"], found["hash"]) == ("abort", "答帖", "h")
