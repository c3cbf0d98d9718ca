"""How fast a provider is asked: its limits are kept, and what it asks to wait is obeyed by all."""

import asyncio
import itertools
import re
import threading
import time

import httpx2
import pytest
import yaml
from provider import bad, good

from cbtllm_utils import files
from cbtllm_utils.llm import client, errors, pacing
from cbtllm_utils.llm.pacing import Gate, Limiter, stated_wait
from cbtllm_utils.llm.settings import ProviderSettings

DATES = {"Date": "Wed, 21 Oct 2026 07:28:00 GMT", "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT"}


@pytest.mark.parametrize(
    ("headers", "content", "seconds"),
    [
        ({"Retry-After": "7"}, "", 7),
        ({"retry-after-ms": "250", "retry-after": "1"}, "", 0.25),
        (DATES, "", 30),
        (DATES | {"Retry-After": "Wed, 21 Oct 2026 07:27:00 GMT"}, "", 0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-3"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after-ms": "inf", "retry-after": "2"}, "", 2),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}, "", 0.12),
        (
            {"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}
            | {"x-ratelimit-remaining-requests": "9", "x-ratelimit-remaining-tokens": "0"},
            "",
            360,
        ),
        (DATES | {"Retry-After": "", "X-RateLimit-Reset": "1792567740000"}, "", 60),  # 07:29:00 in milliseconds
        ({}, "Rate limit reached. Please try again in 644ms.", 0.644),
        ({"x-ratelimit-reset-requests": "120ms"}, "Limit 30000, Used 29990. Please try again in 20s.", 20),
        ({}, "Please try again in 7m12s. Visit https://platform.openai.com/account/rate-limits", 432),
        ({}, "Please retry after 38 seconds.", 38),
        ({}, "request reached max organization concurrency: 3, please try again after 1 seconds", 1),
        ({}, "Please retry in 22.9s.", 22.9),
        ({}, "请求过于频繁，请在 30 秒后重试", 30),
        ({}, "请30分钟后再试", 1800),
        ({}, "please try again later", None),
        ({}, "Limit 30000, Used 14567, Requested 24754.", None),
    ],
)
def test_how_long_a_response_asks_to_wait(headers, content, seconds):

    assert stated_wait(httpx2.Headers(headers), content) == (None if seconds is None else pytest.approx(seconds))


@pytest.fixture
def waits(monkeypatch):
    """The seconds that `Gate` would sleep, without sleeping."""
    slept = []

    async def noting(self, seconds):
        slept.append(seconds)
        self.resume_at = 0.0

    monkeypatch.setattr(Gate, "sleep", noting)
    return slept


@pytest.fixture
def complete(server, tmp_path):
    def asking(number, **options):
        wanted = [{"id": i, "model": "m", "messages": [{"role": "user", "content": f"帖{i}"}]} for i in range(number)]
        url = f"http://127.0.0.1:{server.server_port}/v1"
        return client.complete(wanted, endpoint=url, cache_path=tmp_path / "responses.jsonl", **options)

    return asking


def test_a_wait_doubles_where_the_server_does_not_say(complete, server, waits, monkeypatch):
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 1.0)
    server.script = lambda body, call: bad(500, "down") if call <= 3 else good(body)
    answers, failed = complete(1)
    asked = [wait for wait in waits if wait > 0.5]
    assert failed == {} and answers[0].attempts == 4
    assert [round(wait / 2**i) for i, wait in enumerate(asked)] == [1, 1, 1], "within a quarter of 1, 2 and 4 seconds"


def test_the_waits_outlast_a_limit_per_minute_that_does_not_say_how_long(monkeypatch):
    monkeypatch.setattr(pacing.random, "uniform", lambda low, high: low)
    assert sum(pacing.backoff(n) for n in range(1, ProviderSettings().max_retries + 1)) > 60


def test_what_a_server_says_of_its_limits_does_not_shorten_the_waits_of_an_outage(complete, server, waits, monkeypatch):
    """OpenAI's headers of limits are on every response, those of an error of its own among them."""
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 1.0)
    down = bad(500, "down", x_ratelimit_reset_requests="120ms")
    server.script = lambda body, call: down if call <= 3 else good(body)
    complete(1)
    assert [round(wait / 2**i) for i, wait in enumerate(w for w in waits if w > 0)] == [1, 1, 1]


def test_six_hours_are_not_waited_for(complete, server):
    server.script = lambda body, call: bad(429, "slow down", retry_after="21600") if call == 2 else good(body)
    with pytest.raises(
        errors.EndpointError, match=r"slow down; the provider asks us to wait 6\.0 hours; answers so far"
    ):
        complete(3, concurrency=1)
    assert len(server.asked) == 2


def test_a_wait_is_as_long_as_the_server_says(complete, server, waits):
    server.script = lambda body, call: bad(429, retry_after="7") if call == 1 else good(body)
    answers, failed = complete(1)
    assert failed == {} and answers[0].attempts == 2 and max(waits) == pytest.approx(7, abs=1)


def test_nobody_begins_while_one_refusal_asks_to_wait():
    async def work():
        gate = Gate(4)
        gate.slow_down(begun=0.0, seconds=600)

        async def begin():
            async with gate.turn(1):
                pass

        turns = [asyncio.create_task(begin()) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert not any(turn.done() for turn in turns)
        gate.closed.set()  # asking has ended: nobody sleeps on
        await asyncio.gather(*turns)

    asyncio.run(work())


def test_a_run_that_stops_does_not_wait_for_its_pauses(complete, server):
    """One worker is told to wait for ten minutes; another's wrong key ends the run at once."""
    told = threading.Event()

    def script(body, call):
        if call == 1:
            told.set()
            return bad(429, "slow down", retry_after="600")
        told.wait(5)
        time.sleep(0.1)
        return bad(401, "wrong key")

    server.script = script
    begun = time.monotonic()
    with pytest.raises(errors.EndpointError, match="wrong key"):
        complete(2, concurrency=2)
    assert time.monotonic() - begun < 60


class Bucket:
    """A provider's limit of tokens per minute, `faster` times as fast, that says how long to wait as Azure does."""

    def __init__(self, per_minute, faster):
        self.most = self.left = per_minute
        self.rate, self.at, self.refused, self.lock = per_minute / 60 * faster, time.monotonic(), 0, threading.Lock()

    def __call__(self, body, call):
        tokens = len(body["messages"][0]["content"]) * 1.3 + 700
        with self.lock:
            now = time.monotonic()
            self.left, self.at = min(self.most, self.left + (now - self.at) * self.rate), now
            if self.left < tokens:
                self.refused += 1
                wait = (tokens - self.left) / self.rate * 1000
                return bad(
                    429, "Rate limit reached on tokens per min (TPM)", "rate_limit_exceeded", retry_after_ms=wait
                )
            self.left -= tokens
        return good(body)


PROFILE = yaml.safe_load(files.read_text("params/paper.yaml"))["02_dataset_generation"]


@pytest.mark.parametrize("stated", [True, False], ids=["with the profile's limits", "without any limit"])
def test_a_provider_of_200_000_tokens_a_minute_answers_every_request(complete, server, stated):
    """300 requests as the profile asks them, and all 60 times as fast: 50 at a time, 500 a minute, its tokens."""

    names = ("requests_per_minute", "tokens_per_minute")
    limits = {name: PROFILE[name] * 60 for name in names} if stated else {}
    server.script = bucket = Bucket(200_000, 60)
    answers, failed = complete(300, concurrency=PROFILE["concurrency"], **limits)
    assert len(answers) == 300 and failed == {}
    assert sum(answer.attempts for answer in answers) == len(server.asked) == 300 + bucket.refused
    assert bucket.refused == 0 if stated else bucket.refused < 300


class OneAtATime:
    """A local server: it answers one request after the other, and computes on for clients that hung up."""

    def __init__(self, seconds):
        self.seconds, self.at_work = seconds, threading.Lock()

    def __call__(self, body, call):
        with self.at_work:
            time.sleep(self.seconds)
        return good(body)


def test_a_server_slower_than_the_timeout_answers_all_and_few_are_asked_again(complete, server, monkeypatch, capsys):
    """Eight at a time wait for eight answers, twice the time-out and more: it was 29 of 36 that were asked three times.

    Each time-out doubles the wait of all in flight, so that one request is asked again for each doubling.
    """
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.1)
    server.script = OneAtATime(0.1)
    answers, failed = complete(36, concurrency=8, timeout=0.25)
    assert len(answers) == 36 and failed == {}
    again = [answer for answer in answers if answer.attempts > 1]
    assert 1 <= len(again) <= 6 and len(server.asked) <= 36 + 8
    said = capsys.readouterr().err
    assert re.search(rf"{len(again)} of 36 requests were asked again: .*no answer within 0.25 s \(\d+\)", said)
    longest = float(re.search(r"the longest answer took ([\d.]+) s, longer than `timeout` = 0.25 s", said)[1])
    assert 0.25 < longest < pacing.MOST_PATIENCE * 0.25 and "asked again=" in said


def test_a_request_that_hangs_alone_makes_no_other_wait_longer(complete, server, monkeypatch, capsys):
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.1)
    server.script = lambda body, call: time.sleep(1.0 if call == 1 else 0.05) or good(body)
    answers, failed = complete(20, concurrency=2, timeout=0.5)
    assert failed == {} and len(server.asked) == 21 and sorted(a.attempts for a in answers)[-2:] == [1, 2]
    assert "longer than `timeout`" not in capsys.readouterr().err


def test_a_request_that_hangs_beside_quick_ones_that_began_with_it_hangs_alone(complete, server, monkeypatch, capsys):
    """All begin at once, so that none overtakes it: the others' durations tell."""
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.05)
    narrowed = []
    monkeypatch.setattr(pacing.Gate, "narrow", lambda gate, begun: narrowed.append(begun))
    hung = threading.Event()

    def script(body, call):
        if body["messages"][0]["content"] == "帖3":
            hung.wait(20)
        return good(body)

    server.script = script
    answers, failed = complete(8, concurrency=8, timeout=0.2)
    hung.set()
    assert len(answers) == 7 and len(failed) == 1 and narrowed == []
    said = capsys.readouterr().err
    assert "1 of 8 requests were asked again" in said and "longer than `timeout`" not in said


def test_a_server_that_hangs_is_given_up_after_the_longest_wait(complete, server, monkeypatch):
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.05)
    hung = threading.Event()
    server.script = lambda body, call: hung.wait(20) and good(body)
    begun = time.monotonic()
    answers, failed = complete(100, concurrency=8, timeout=0.1)
    hung.set()
    assert answers == [] and len(failed) == 100 and time.monotonic() - begun < 10
    assert "5 requests in a row got no answer; the last: no answer within 0.8 s" in str(failed[99])


def test_a_limit_spaces_requests_evenly(monkeypatch):
    """1,200 per minute are one every 0.05 seconds; with a clock that stands still, each waits 0.05 longer.

    That of the calendar jumps by ten years all the while.
    """
    jumps = itertools.cycle((1.4e9, 2.1e9))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    limiter = Limiter(1200)
    assert [limiter.reserve() for _ in range(4)] == pytest.approx([0, 0.05, 0.1, 0.15])
    assert limiter.reserve(2) == pytest.approx(0.2) and limiter.free_at == pytest.approx(100.3)
    assert [Limiter(None).reserve() for _ in range(3)] == [0, 0, 0]


def test_fewer_are_under_way_after_a_refusal_and_more_with_each_round_that_is_answered():
    async def work():
        gate = Gate(16)
        gate.slow_down(begun=1.0, seconds=0)
        gate.slow_down(begun=1.0, seconds=0)  # had begun before the first refusal
        assert gate.window == 8
        for _ in range(8):
            gate.answered()
        assert 8.8 < gate.window < 9
        for _ in range(1000):
            gate.answered()
        assert gate.window == 16

    asyncio.run(work())
