"""One client for chat completions: any OpenAI-compatible URL, or `replay:` and a recording; nothing paid is lost.

An answer is looked up by its request's hash (see exchange.py) in the response cache before the first request.
"""

import asyncio
import contextlib
import functools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx2
import openai
from tqdm import tqdm

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm.accepted import Accepted
from cbtllm_utils.llm.budget import Budget, check_price, cost_of, estimate
from cbtllm_utils.llm.endpoint import connect
from cbtllm_utils.llm.errors import (
    LIMITED,
    MOST_READ,
    STOP,
    WAIT,
    EndpointError,
    FieldsRefused,
    NothingListens,
    ProviderError,
    Streak,
    TooSlow,
    explain,
    judge,
)
from cbtllm_utils.llm.exchange import body, check_fields, entry, request_hash, with_recording
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED, Failure
from cbtllm_utils.llm.pacing import MOST_PATIENCE, Gate, Patience, backoff, stated_wait

MOST_TRIES = 50  # of one request, while others are answered
MOST_REFUSED = 3  # tries at an address of this machine where nothing listens and nobody was answered


@dataclass(frozen=True)
class Completion:
    """One answer: the request's id, the text, which model answered, why it ended, and what it took.

    `form` is how JSON was asked for where the server takes no schema (`schema.FORMS`), else "".
    `estimated`: the server did not count tokens. `token_ids`: of a server that was asked to return them.
    """

    id: str | int
    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int
    form: str = ""
    estimated: bool = False
    token_ids: list[int] | None = None


def complete(
    requests: list[dict],
    *,
    endpoint: str,
    cache_path: str | Path,
    concurrency: int = 8,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    price: dict | None = None,
    budget: float | None = None,
    max_retries: int = 6,
    timeout: float = 120.0,
    own_key: str | None = None,
) -> tuple[list[Completion], dict[str | int, Failure]]:
    """Answer requests, from the response cache or by asking; every new answer is on disk before it counts.

    Errors that pass (rate limits, overload, time-outs, resets) are tried again, after as long as the server asks, else
    twice as long each time. One that only asks to be slower lets everybody wait. A server that is slower than the
    time-out is waited for longer, with fewer requests in flight. Fields that it refuses by name are left out where that
    changes nothing (`accepted`). How many requests were asked again, and why, is told at the end.

    Args:
        requests: As in exchange.py; `attempt` makes a repeated request another one.
        endpoint: `openai`, a base URL, or `replay:` and a recording. The key is read from OPENAI_API_KEY.
        cache_path: The response cache.
        concurrency: Requests in flight at a time.
        requests_per_minute: The provider's limit, or None.
        tokens_per_minute: The provider's limit, or None.
        price: {"input": …, "output": …} per million tokens; needed for a budget.
        budget: Asking stops before it is exceeded; what the cache holds counts.
        max_retries: Tries of a request beyond the first; a refusal for the pace counts only while nobody is answered.
        timeout: Seconds for an answer before a try is given up, at first; up to `MOST_PATIENCE` times as many for a
            server that is slower.
        own_key: Of a server that this package started, in place of OPENAI_API_KEY.

    Returns:
        The answers in the requests' order, and id -> Failure for requests without one, which a rerun asks again.

    Raises:
        EndpointError: When the run cannot continue: key, quota, model, URL, budget, or a permanent error
            and on which several requests in a row agree; when nothing listens at a local URL from the beginning.
            What was answered is kept. An outage is not an error: when several in a row were asked in vain, the rest
            is returned as unanswered. So it is when an earlier run was answered: `allowed_missing` then decides about
            requests that never are.
    """
    check_price(price, budget)
    check_fields(requests)
    known, requests = response_cache.read(cache_path), with_recording(requests, endpoint)
    hashes = [request_hash(request) for request in requests]
    marked = list(zip(hashes, requests, strict=True))
    last = max((place for place, mark in enumerate(hashes) if mark in known), default=-1)
    # What has no answer before the last that has was asked in vain: it comes last and keeps no other from being asked.
    waiting = {mark: r for mark, r in marked[last + 1 :] + marked[: last + 1] if mark not in known}
    failed: dict[str, Failure] = {}
    if waiting:
        work = Work(
            connected=connect(endpoint, MOST_PATIENCE * timeout, concurrency, own_key=own_key),
            patience=Patience(timeout),
            gate=Gate(min(concurrency, len(waiting)), requests_per_minute, tokens_per_minute),
            budget=Budget(price, budget, spent(known, price)),
            max_retries=max_retries,
            resumed=last >= 0,
        )
        failed = run_async(ask_all(waiting, work, cache_path))
        known = response_cache.read(cache_path)
    return gathered(requests, hashes, known, failed)


def missing(requests: list[dict], *, endpoint: str, cache_path: str | Path) -> list[dict]:
    """Return the requests that the response cache does not answer yet."""
    answered = response_cache.read(cache_path)
    return [request for request in with_recording(requests, endpoint) if request_hash(request) not in answered]


def run_async(work: Coroutine) -> Any:
    """Return the result of a coroutine, run in its own thread because a notebook already has a running event loop.

    An interrupt (Ctrl-C, the notebook's stop button) cancels the work, waits for it to close its files, and passes on.
    """
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def main() -> Any:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await work

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(asyncio.run, main())
        try:
            return result.result()
        except KeyboardInterrupt:
            for loop, task in running:
                with contextlib.suppress(RuntimeError):  # the loop has just ended
                    loop.call_soon_threadsafe(task.cancel)
            raise


@dataclass
class Work:
    """What all workers share: the connection, rate limits, the budget, and the error or outage that ended asking."""

    connected: openai.AsyncOpenAI
    patience: Patience
    gate: Gate
    budget: Budget
    max_retries: int
    resumed: bool  # some were answered by an earlier run: what is wrong with the others is not wrong with all
    streak: Streak = field(default_factory=Streak)
    accepted: Accepted = field(default_factory=Accepted)
    again: Counter = field(default_factory=Counter)  # why requests were asked again
    retried: set = field(default_factory=set)  # their ids
    error: EndpointError | None = None
    outage: str | None = None
    show: Callable[[str], None] | None = None  # of the progress bar
    shown_at: float = 0.0

    def asks_again(self, request: dict, reason: str) -> None:
        """Count a request that is asked again, by the beginning of the reason, and show why asking waits."""
        self.retried.add(request["id"])
        self.again[re.split("[:;]", reason)[0]] += 1
        self.waits(reason)

    def retries(self, asked: int) -> str:
        """Return in words how many requests were asked again and why, and what differs from what was asked."""
        reasons = ", ".join(f"{reason} ({number})" for reason, number in self.again.most_common())
        said = [f"{len(self.retried)} of {asked} requests were asked again: {reasons}"] if self.again else []
        if self.patience.slowest > self.patience.timeout:
            said.append(
                f"the longest answer took {self.patience.slowest:.3g} s, longer than `timeout` = "
                f"{self.patience.timeout:g} s: raise it, or lower `concurrency`"
            )
        return "; ".join(filter(None, [*said, self.accepted.in_words()]))

    def adapt(self, error: FieldsRefused, request: dict, sent: dict) -> None:
        """Ask from now on as the server wants it; raise where that would change answers, with what to set."""
        if advice := self.accepted.adapt(error.fields, request, sent):
            kind = UNANSWERED if self.gate.answers else STOP  # whatever an earlier run asked, and was answered
            raise ProviderError(kind, error.reason, advice=advice) from None

    def slow_down(self, error: ProviderError, begun: float) -> int:
        """Ask more slowly after an error, where it says so; return how many refusals of the rate came in a row.

        Raises:
            TooSlow: The same error, when the server hangs.
        """
        if isinstance(error, TooSlow):
            if error.slower:
                self.gate.narrow(begun)
            if error.waited >= self.patience.longest and self.patience.exhausted():
                raise error
        return self.gate.slow_down(begun, error.seconds) if error.kind == LIMITED else 0

    def waits(self, reason: str) -> None:
        """Show why asking waits, at most every five seconds: a dead server looks like a slow one."""
        if self.show and time.monotonic() - self.shown_at > 5:
            self.shown_at = time.monotonic()
            self.show(f"waiting: {reason[:60]}")

    def stop(self, error: EndpointError | None = None, outage: str | None = None) -> None:
        """Let nothing begin any more; the first error counts."""
        self.error, self.outage = self.error or error, self.outage or outage
        self.gate.closed.set()


async def ask_all(waiting: dict[str, dict], work: Work, cache_path: str | Path) -> dict[str, Failure]:
    """Ask all requests (by hash) and return hash -> Failure for those without an answer.

    Workers take requests from one queue. When the run cannot go on they take no more, and the requests in flight, which
    are paid for, are waited for first. In an outage the rest has no answer either, and is not asked.
    """
    queue, failed = iter(waiting.items()), {}
    loop = asyncio.get_running_loop()
    with (
        response_cache.appending(cache_path) as file,
        ThreadPoolExecutor(1) as disk,  # writes answers one after another, so that the event loop never waits for it
        tqdm(total=len(waiting), desc="asking", file=sys.stderr, mininterval=1) as bar,
    ):
        work.show = bar.set_postfix_str
        store = functools.partial(loop.run_in_executor, disk, response_cache.append, file)

        async def worker() -> None:
            while not work.gate.closed.is_set() and (item := next(queue, None)):
                try:
                    failure = await ask_one(item[1], work, store)
                except EndpointError as error:
                    work.stop(error=error)
                else:
                    failed.update({item[0]: failure} if failure else {})
                    bar.update()
                    again = {"asked again": len(work.retried)} if work.retried else {}
                    bar.set_postfix(work.budget.shown | {"failed": len(failed)} | again, refresh=False)

        workers = [asyncio.create_task(worker()) for _ in range(work.gate.most)]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await work.connected.close()
    files.tell(work.retries(len(waiting)))
    if work.error:
        raise EndpointError(str(work.error), {waiting[mark]["id"]: failure for mark, failure in failed.items()})
    return failed | {mark: Failure(UNANSWERED, f"not asked: {work.outage}") for mark, _ in queue}


async def ask_one(request: dict, work: Work, store: Callable[[dict], Awaitable]) -> Failure | None:
    """Ask one request and store its answer; return None, or why it has no answer.

    Raises:
        EndpointError: When the run cannot continue, the budget is exhausted, or several requests in a row fail with
            the same permanent error.
    """
    expected = estimate([request], work.budget.price)
    found, billed = None, False
    work.budget.reserve(expected["cost"])
    try:
        found = await try_until_answered(request, work, expected["prompt_tokens"] + expected["completion_tokens"])
        await store(found)
        work.streak.end()
    except ProviderError as error:
        billed = error.billed
        if error.kind == STOP or (error.advice and not work.gate.answers and not work.resumed):
            ends = f"{error.advice}; answers so far are cached"
            raise EndpointError(f"request {request['id']}: {error.reason}; {ends}") from None
        line = work.streak.add(error.reason) if error.kind != REFUSED and not work.gate.closed.is_set() else None
        if line and error.kind == UNANSWERED and not work.resumed:
            raise EndpointError(f"{line}; answers so far are cached; run again") from None
        if line:
            work.stop(outage=line)
        return Failure(REFUSED if error.kind == REFUSED else UNANSWERED, error.reason)
    finally:
        work.budget.settle(expected["cost"], found, billed)
    return None


async def try_until_answered(request: dict, work: Work, tokens: float) -> dict:
    """Return the response cache's entry for one answered request; every try waits for its turn.

    An error that passes is tried again `max_retries` times. Refusals for the rate count only while no request is
    answered: otherwise this request's turn will come. A server of this machine that does not listen and has answered
    nobody is not waited for: it is not started.

    Raises:
        ProviderError: Of the last try.
    """
    gate, patience, failures, refusals, late, last = work.gate, work.patience, 0, 0, 0, None
    for attempt in range(1, MOST_TRIES + 1):
        async with gate.turn(tokens):
            if gate.closed.is_set():
                raise last or ProviderError(UNANSWERED, f"not asked: {work.outage or work.error}")
            begun, sent = time.monotonic(), work.accepted.fit(body(request))
            try:
                found = await ask(work, request, sent, late)
            except FieldsRefused as error:
                work.adapt(error, request, sent)
                last = error
            except ProviderError as error:
                if error.kind not in (WAIT, LIMITED):
                    raise
                last, failures, late = error, failures + (error.kind == WAIT), late + isinstance(error, TooSlow)
                refusals = work.slow_down(error, begun)
                if isinstance(error, NothingListens) and failures >= MOST_REFUSED and not gate.answers:
                    raise ProviderError(STOP, error.reason, advice=error.advice) from None
            else:
                gate.answered()
                patience.answered(begun)
                took = {"latency": round(time.monotonic() - begun, 3), "attempts": attempt}
                return found | took | work.accepted.answered(sent, body(request))
        if max(failures, refusals) > work.max_retries:
            break
        work.asks_again(request, last.again)
        if last.kind == WAIT:
            await gate.sleep(max(last.seconds or 0.0, backoff(failures)))
    raise last


async def ask(work: Work, request: dict, sent: dict, late: int) -> dict:
    """Return the response cache's entry for a request that is asked once.

    Args:
        work: The connection, how long an answer is waited for, and what the server takes.
        request: What is asked.
        sent: Its body, as this server takes it.
        late: How many tries of the request were given up before.

    Raises:
        ProviderError: For anything but an answer.
    """
    route = "/completions" if "prompt" in request else "/chat/completions"
    try:
        response = await in_time(work.connected.post(route, cast_to=httpx2.Response, body=sent), work.patience, late)
    except openai.APIStatusError as error:
        if fields := work.accepted.refused(error.response.status_code, error.response.text, sent):
            raise FieldsRefused(explain(error), fields) from None
        raise explain(error) from None
    except openai.APIError as error:
        raise explain(error) from None
    return read_answer(response, request)


async def in_time(work: Coroutine, patience: Patience, late: int) -> Any:
    """Return the result of a coroutine, or raise TooSlow after the time that others' time-outs may have made longer."""
    task, begun = asyncio.ensure_future(work), time.monotonic()
    try:
        while (left := begun + patience.limit(late) - time.monotonic()) > 0:
            done, _ = await asyncio.wait({task}, timeout=left)
            if done:
                return task.result()
        waited = patience.limit(late)
        raise TooSlow(waited, patience.given_up(begun))  # at once: others whose time is over as well then go on waiting
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def read_answer(response: httpx2.Response, request: dict) -> dict:
    """Return the response cache's entry for a response of status 200.

    Raises:
        ProviderError: Where it holds no answer: an error, a page, or anything else. With choices it is paid for.
    """
    answer = None
    try:
        answer = json.loads(response.content)
        return entry(answer, request)
    except RecursionError:
        raise ProviderError(UNANSWERED, "the answer is nested too deeply to be read", billed=True) from None
    except ValueError as error:
        said = judge(response.status_code, response.text, stated_wait(response.headers, response.text[:MOST_READ]))
        if said.kind == UNANSWERED and isinstance(answer, dict) and answer.get("choices"):
            raise ProviderError(UNANSWERED, str(error), billed=True) from None
        raise said from None


def spent(known: dict[str, dict], price: dict | None) -> float:
    """Return what the answers in a response cache cost."""
    return sum(cost_of(e["prompt_tokens"], e["completion_tokens"], price) for e in known.values())


def gathered(
    requests: list[dict], hashes: list[str], known: dict[str, dict], failed: dict[str, Failure]
) -> tuple[list[Completion], dict[str | int, Failure]]:
    """Return the cached answers in the requests' order, and id -> Failure for the others; `known` is by hash.

    The cache holds the model's name as the server reported it; no table shows the server's folders.
    """
    names = {own.name for own in fields(Completion)} - {"id"}
    marked = list(zip(hashes, requests, strict=True))
    completions = [
        Completion(
            id=request["id"],
            **{name: known[mark][name] for name in names & known[mark].keys()}
            | {"model": files.model_name(known[mark]["model"])},
        )
        for mark, request in marked
        if mark in known
    ]
    return completions, {request["id"]: failed[mark] for mark, request in marked if mark in failed}
