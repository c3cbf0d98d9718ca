"""The client against a provider on the loopback: what is paid is stored, what fails has a reason."""

import asyncio
import os
import signal
import threading
import time

import pytest
from provider import KEY, bad, good

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import budget, client, errors, exchange, key
from cbtllm_utils.llm.budget import Budget


@pytest.fixture
def complete(server, tmp_path):
    """`client.complete` against the server, with a response cache."""

    def asking(requests, **options):
        url = f"http://127.0.0.1:{server.server_port}/v1"
        return client.complete(requests, endpoint=url, cache_path=tmp_path / "responses.jsonl", **options)

    return asking


def requests(*texts, **own):
    return [
        {"id": i, "model": "m", "messages": [{"role": "user", "content": t}], **own} for i, t in enumerate(texts, 1)
    ]


def test_answers_come_in_order_with_what_they_took(complete, server):
    answers, failed = complete(requests(*"abcdefgh", temperature=0.5, attempt=1), concurrency=3)
    assert failed == {} and [(a.id, a.text) for a in answers] == [(i, "答" + t) for i, t in enumerate("abcdefgh", 1)]
    assert answers[0] == client.Completion(1, "答a", "m-0613", "stop", 1000, 500, 1)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert all(body.keys() == {"model", "messages", "temperature"} for body in server.asked), "no id, no attempt"


@pytest.mark.parametrize("first", [bad(429), bad(500), bad(503), bad(408)])
def test_an_error_that_passes_is_tried_again(complete, server, first):
    server.script = lambda body, call: first if call == 1 else good(body)
    answers, failed = complete(requests("a"))
    assert failed == {} and answers[0].attempts == 2 and len(server.asked) == 2


def test_an_error_that_stays_leaves_its_request_for_a_rerun(complete, server):
    server.script = lambda body, call: bad(500, "down") if body["messages"][0]["content"] == "b" else good(body)
    answers, failed = complete(requests("a", "b", "c"), max_retries=1)
    assert [a.id for a in answers] == [1, 3] and failed == {2: (errors.UNANSWERED, "HTTP 500 t: down")}
    server.script, before = lambda body, call: good(body), len(server.asked)
    answers, failed = complete(requests("a", "b", "c"))
    assert [a.id for a in answers] == [1, 2, 3] and failed == {} and len(server.asked) == before + 1


def test_a_wrong_key_stops_at_once_with_one_line_and_without_the_key(complete, server):
    server.script = lambda body, call: bad(401, f"Incorrect API key provided: {KEY}.\nFind yours", "invalid_api_key")
    with pytest.raises(
        errors.EndpointError, match=r"request \d+: HTTP 401 invalid_api_key t: Incorrect.*; check OPENAI_API_KEY"
    ) as caught:
        complete(requests(*map(str, range(50))), concurrency=2)
    assert len(server.asked) <= 2 and "\n" not in str(caught.value)
    assert KEY not in str(caught.value) and KEY not in repr(caught.getrepr(chain=True))


@pytest.mark.parametrize(
    "answer, reason",
    [
        ((200, {"choices": []}, {}), 'HTTP 200: {"choices": []}'),
        ((200, {"object": "x"}, {}), 'HTTP 200: {"object": "x"}'),
        ((200, {"choices": [{"index": 0}]}, {}), "the answer holds no choice"),
        ((200, b'{"choices": [', {}), ""),
    ],
)
def test_a_response_that_is_not_an_answer_is_a_reason_and_not_a_crash(complete, server, answer, reason):
    server.script = lambda body, call: answer if body["messages"][0]["content"] == "a" else good(body)
    answers, failed = complete(requests("a", "b"), max_retries=0)
    assert [a.id for a in answers] == [2] and list(failed) == [1] and reason in failed[1].reason


def pieces(seconds, number=100):
    """A body that never seems to end: one space at a time, which JSON allows."""
    for _ in range(number):
        yield b" "
        time.sleep(seconds)


def reset():
    """A body whose connection breaks in its middle."""
    yield b'{"choices": [{"index": 0, "mess'
    raise ConnectionResetError


@pytest.mark.parametrize(
    "answer, reason",
    [
        (lambda: time.sleep(0.6) or good({"messages": [{"content": ""}]}), "no answer within 0.3 s; "),
        (lambda: (200, pieces(0.05), {}), "no answer within 0.3 s; "),
        (lambda: (200, reset(), {}), ""),
    ],
)
def test_a_hang_a_drip_and_a_reset_cost_their_own_request_alone(complete, server, answer, reason):
    server.script = lambda body, call: answer() if body["messages"][0]["content"] == "a" else good(body)
    answers, failed = complete(requests("a", "b"), max_retries=0, timeout=0.3)
    assert [a.id for a in answers] == [2] and failed[1].reason.startswith(reason)
    server.script = lambda body, call: good(body)
    answers, failed = complete(requests("a", "b"))
    assert len(answers) == 2 and failed == {}


def test_an_answer_cut_off_or_without_text_is_stored_as_it_came(complete, server):
    cut = good({"messages": [{"content": ""}]}, "半")[1]
    cut["choices"][0] |= {"finish_reason": "length"}
    none = good({"messages": [{"content": ""}]}, "x")[1]
    none["choices"][0]["message"]["content"] = None
    none.pop("usage")
    server.script = lambda body, call: (200, cut if body["messages"][0]["content"] == "a" else none, {})
    answers, _ = complete(requests("a", "b"))
    assert [(a.text, a.finish_reason, a.prompt_tokens) for a in answers] == [("半", "length", 1000), ("", "stop", 1)], (
        "1 character x 1.3"
    )


def test_a_refusal_in_a_field_of_its_own_is_the_text(complete, server):
    """As OpenAI's API refuses a request with a schema: content null, refusal the model's words."""
    refusal = good({"messages": [{"content": ""}]}, "x")[1]
    refusal["choices"][0]["message"] |= {"content": None, "refusal": "I'm sorry, I can't assist with that."}
    server.script = lambda body, call: (200, refusal, {})
    (answer,), _ = complete(requests("a"))
    assert answer.text == "I'm sorry, I can't assist with that."


def test_the_cache_answers_what_was_asked_before(complete, server, tmp_path):
    complete(requests("a", "b"))
    place = {"endpoint": "openai", "cache_path": tmp_path / "responses.jsonl"}
    assert client.missing(requests("a", "c"), **place) == requests("a", "c")[1:]
    answers, _ = complete(requests("a", "b", "c"))
    again, _ = complete(requests("a", "b", "c"))
    assert answers == again and len(server.asked) == 3
    complete(requests("a", attempt=2))
    complete(requests("a", temperature=1))
    assert len(server.asked) == 5, "another attempt or other sampling is another request"


def test_the_same_request_under_two_ids_is_paid_once(complete, server):
    answers, _ = complete(requests("a", "a"))
    assert [(a.id, a.text) for a in answers] == [(1, "答a"), (2, "答a")] and len(server.asked) == 1
    server.script = lambda body, call: bad(500)
    _, failed = complete(requests("b", "b"), max_retries=0)
    assert list(failed) == [1, 2]


@pytest.mark.parametrize(
    "change", [{"attempt": 2}, {"model": "n"}, {"temperature": 0.5}, {"messages": []}, {"recording": "x"}]
)
def test_a_request_is_known_by_all_that_decides_its_answer_and_not_by_its_id(change):
    (request,) = requests("a")
    request |= {"attempt": 1}
    mark = exchange.request_hash(request)
    assert exchange.request_hash(request | {"id": "other"}) == mark != exchange.request_hash(request | change)


def test_a_line_that_a_kill_cut_off_is_asked_again(complete, server, tmp_path):
    complete(requests("a", "b", "c"), concurrency=1)
    place = tmp_path / "responses.jsonl"
    place.write_bytes(place.read_bytes()[:-30])
    answers, _ = complete(requests("a", "b", "c"))
    assert len(answers) == 3 and [body["messages"][0]["content"] for body in server.asked] == list("abcc")
    lines = place.read_bytes().split(b"\n")
    place.write_bytes(b"\n".join([lines[0][:-30], *lines[1:]]))
    with pytest.raises(files.InputError, match=r"responses\.jsonl, line 1: damaged"):
        complete(requests("a"))


PRICE = {"input": 1.0, "output": 2.0}  # a request of the server's takes (1,000 x 1 + 500 x 2) / 1e6 = 0.002


def test_a_budget_stops_before_it_is_exceeded_and_keeps_what_was_paid(complete, server, tmp_path):
    # A request is expected to take 1 x 1.3 tokens in and 700 out: 0.0014013. Two are paid 0.004: as much as each of
    # these is set aside for a third, and 0.006 does not fit into 0.0055.
    with pytest.raises(errors.EndpointError, match=r"budget 0\.0055 would be exceeded after 0\.0040; raise `budget`"):
        complete(requests(*"abcde"), price=PRICE, budget=0.0055, concurrency=1)
    assert len(response_cache.read(tmp_path / "responses.jsonl")) == len(server.asked) == 2
    with pytest.raises(errors.EndpointError, match=r"budget 0\.005 would be exceeded after 0\.0040"):
        complete(requests(*"abcde"), price=PRICE, budget=0.005)
    answers, _ = complete(requests(*"abcde"), price=PRICE, budget=1.0)
    assert len(answers) == len(server.asked) == 5


def test_requests_in_flight_are_expected_to_cost_what_the_answers_so_far_took(complete, server, tmp_path):
    """Thirty at a time, each set aside as 0.0014 before any answer has come, and each 0.002 in truth."""
    with pytest.raises(errors.EndpointError, match=r"budget 0\.1 would be exceeded"):
        complete(requests(*map(str, range(100))), price=PRICE, budget=0.1, concurrency=30)
    assert 40 <= len(response_cache.read(tmp_path / "responses.jsonl")) <= 50  # 50 x 0.002 = 0.1


def test_requests_in_flight_count_against_the_budget():
    held = Budget(PRICE, 0.003)
    held.reserve(0.0014)
    held.reserve(0.0014)
    with pytest.raises(errors.EndpointError, match="budget"):
        held.reserve(0.0014)
    held.settle(0.0014, None)
    held.reserve(0.0014)


def test_a_budget_needs_a_price(complete):
    with pytest.raises(files.InputError, match="there is no price to count against it"):
        complete(requests("a"), budget=1.0)


def test_what_is_in_flight_when_the_run_stops_is_stored(complete, server, tmp_path):
    ready = threading.Event()

    def script(body, call):
        if body["messages"][0]["content"] == "a":
            ready.wait(5)
            return bad(401)
        ready.set()
        time.sleep(0.2)
        return good(body)

    server.script = script
    with pytest.raises(errors.EndpointError):
        complete(requests("a", "b", "c"), concurrency=2)
    assert [e["id"] for e in response_cache.read(tmp_path / "responses.jsonl").values()] == [2]


def test_an_interrupt_stops_asking_and_the_answers_so_far_are_stored(complete, server, tmp_path):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started without it

    def script(body, call):
        if call == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return good(body)

    server.script = script
    with pytest.raises(KeyboardInterrupt):
        complete(requests(*map(str, range(50))), concurrency=1)
    assert len(server.asked) == 4 and len(response_cache.read(tmp_path / "responses.jsonl")) == 3
    answers, _ = complete(requests(*map(str, range(50))))
    assert len(answers) == 50 and len(server.asked) == 4 + 47


@pytest.mark.parametrize(
    "name, message",
    [("opnai", r"endpoint 'opnai': expected openai, an http"), ("https://example.org/v1", "OPENAI_API_KEY is not set")],
)
def test_an_endpoint_that_cannot_be_asked_is_named(monkeypatch, tmp_path, name, message):
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    with pytest.raises(files.InputError, match=message):
        client.complete(requests("a"), endpoint=name, cache_path=tmp_path / "j")


def test_the_estimate_is_arithmetic():
    """2 requests of 1,000 characters: 2 x 1,000 x 1.3 = 2,600 tokens in, 2 x 700 out; (2,600 x 3 + 1,400 x 4) / 1e6."""
    found = budget.estimate(requests("字" * 1000, "字" * 1000), {"input": 3.0, "output": 4.0})
    assert found == {"prompt_tokens": 2600.0, "completion_tokens": 1400.0, "cost": pytest.approx(0.0134)}
    assert budget.estimate(requests("字"), None)["cost"] == 0


def test_a_model_without_a_price_is_not_announced_as_free():
    one = [{"id": 1, "model": "m", "messages": [{"role": "user", "content": "帖" * 1000}], "max_tokens": 1000}]
    price = {"input": 1000.0, "output": 2000.0}
    assert budget.in_words(one, price, "m") == "1 request to m, about 3.30 to pay", (
        "(1,300 x 1,000 + 1,000 x 2,000) / 1e6"
    )
    assert "no price is given for it" in budget.in_words(one, None, "m")
    assert budget.Budget(None, None).shown == {} and budget.Budget(price, None).shown == {"cost": "0.00"}


def test_a_server_that_does_not_count_does_not_look_free(complete, server):
    def script(body, call):
        status, answer, headers = good(body, "字" * 1000)
        answer.pop("usage")
        return status, answer, headers

    server.script = script
    with pytest.raises(errors.EndpointError, match="budget"):  # 1,000 x 1.3 tokens out are 0.0026 each
        complete(requests(*map(str, range(50))), price=PRICE, budget=0.02, concurrency=1)
    assert len(server.asked) == 7  # 7 x 0.0026 are 0.018, and another does not fit


def test_what_a_request_allows_its_reply_is_set_aside(complete, server):
    wanted = requests("a", max_tokens=10_000)  # 10,000 x 2 / 1e6 = 0.02
    assert budget.estimate(wanted, PRICE)["completion_tokens"] == 10_000
    with pytest.raises(errors.EndpointError, match=r"budget 0\.01"):
        complete(wanted, price=PRICE, budget=0.01)
    assert server.asked == []


def test_an_answer_that_cannot_be_used_was_paid_for():
    held = Budget(PRICE, 1.0)
    held.reserve(0.5)
    held.settle(0.5, None, billed=True)
    assert held.spent == 0.5 and held.in_flight == 0


def test_posts_that_a_filter_refuses_do_not_stop_the_run(complete, server):
    """Thirty refusals in a row, as posts about self-harm may meet: thirty reasons, and the run goes on."""
    server.script = lambda body, call: bad(400, "filtered", "content_filter")
    answers, failed = complete(requests(*map(str, range(30))), concurrency=2)
    assert answers == [] and len(failed) == 30


DEEP = b"[" * 200_000


def like(body, message="a", **own):
    """A good answer with other fields."""
    status, content, headers = good(body)
    content["choices"][0]["message"] = message if not isinstance(message, str) else {"content": message}
    return status, content | own, headers


@pytest.mark.parametrize(
    "answer, reason",
    [
        (lambda body: (200, DEEP, {}), "nested too deeply"),
        (lambda body: (200, b'{"choices": ' + DEEP + b"]" * 200_000 + b"}", {}), "nested too deeply"),
        *((lambda body, odd=odd: like(body, choices=odd), "no choice") for odd in ("abc", [1], [None], {"0": 1}, 5)),
        *((lambda body, odd=odd: like(body, odd), "no choice") for odd in (None, [], 5)),
        *(
            (lambda body, odd=odd: like(body, {"content": odd}), "expected text")
            for odd in ([{"text": "a"}], 5, {"a": 1})
        ),
        *((lambda body, odd=odd: (200, odd, {}), odd.decode()) for odd in (b"null", b"[1]", b"5", b'"text"', b"{oops")),
        (lambda body: (200, b"\xff", {}), "HTTP 200: �"),
        (lambda body: (200, b"xx", {"Content-Encoding": "gzip"}), "DecodingError"),
        (lambda body: (302, b"", {"Location": "file:///etc/passwd"}), "UnsupportedProtocol"),
        (lambda body: bad(400, {"a": ["b"]}, "content_filter"), "HTTP 400 content_filter"),
    ],
)
def test_an_unusable_answer_costs_its_own_request_alone(complete, server, answer, reason):
    server.script = lambda body, call: answer(body) if body["messages"][0]["content"] == "b" else good(body)
    answers, failed = complete(requests("a", "b", "c"), max_retries=0)
    assert [a.text for a in answers] == ["答a", "答c"] and failed.keys() == {2} and reason in failed[2].reason


@pytest.mark.parametrize(
    "usage",
    [
        *("x", None, {}, [1], {"prompt_tokens": None, "completion_tokens": 5}),
        *({"prompt_tokens": odd, "completion_tokens": 1} for odd in ("5", -(10**12), float("nan"), float("inf"), True)),
        *({"prompt_tokens": odd, "completion_tokens": 1} for odd in (0, 10**12, 1e12)),
        *({"prompt_tokens": 13, "completion_tokens": odd} for odd in (0, 10**12, "130", None)),
    ],
)
def test_an_implausible_count_is_estimated_so_that_a_budget_holds(complete, server, tmp_path, usage):
    server.script = lambda body, call: like(body, "答" * 100, usage=usage)
    complete(requests("问" * 10), price={"input": 1.0, "output": 1.0}, budget=1.0)
    (entry,) = response_cache.read(tmp_path / "responses.jsonl").values()
    assert (entry["prompt_tokens"], entry["completion_tokens"], entry["estimated"]) == (13, 130, True), (
        "1.3 a character"
    )


def test_what_a_provider_says_has_neither_the_key_nor_codes_for_a_terminal(complete, server, tmp_path):
    evil = f"\x1b[2J\x07\u202e {KEY}\ud83d"
    server.script = lambda body, call: (
        bad(400, evil, f"content_filter {KEY}") if call == 1 else like(body, f"答{evil}", model=evil, id=KEY)
    )
    answers, failed = complete(requests("a", "b"), concurrency=1)
    assert failed == {1: (errors.REFUSED, "HTTP 400 content_filter … t: �[2J�� …�")}
    assert (answers[0].text, answers[0].model) == ("答\x1b[2J\x07\u202e …�", "�[2J�� …�"), "a text stays as it is"
    assert KEY not in (tmp_path / "responses.jsonl").read_text()


def test_a_word_in_place_of_a_key_may_stand_in_a_text(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "EMPTY")
    assert key.without_key("an EMPTY room") == "an EMPTY room"


def test_a_coroutine_runs_inside_a_running_loop_as_in_a_notebook():
    async def work():
        await asyncio.sleep(0)
        return 7

    async def notebook():
        return client.run_async(work())

    assert asyncio.run(notebook()) == client.run_async(work()) == 7


def test_an_error_of_a_coroutine_is_passed_on():
    async def work():
        raise files.InputError("no")

    with pytest.raises(files.InputError, match="no"):
        client.run_async(work())
