"""One client for chat completions: any OpenAI-compatible URL, or `replay:` and a recording; nothing paid is lost.

A request is a dict with id, model, messages (or prompt, a text to continue) and sampling. Its hash covers all of these
but the id, and an answer is looked up by that hash in the response cache before anything is asked.
"""

import asyncio
import contextlib
import functools
import hashlib
import json
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from openai.types import Completion as TextCompletion
from openai.types.chat import ChatCompletion
from tqdm import tqdm

from cbtllm_utils import files, hashing, response_cache
from cbtllm_utils.data.psyqa import SURROGATE
from cbtllm_utils.llm.budget import (
    TOKENS_PER_CHARACTER,
    Budget,
    Limiter,
    characters,
    check_price,
    cost_of,
    estimate,
)
from cbtllm_utils.llm.errors import (
    HIDE_KEY,
    REFUSED,
    UNANSWERED,
    EndpointError,
    Failure,
    message,
    permanent,
    printable,
    refuses_post,
    without_key,
)
from cbtllm_utils.llm.recorded import Recording

MOST_FAILURES = 20  # requests in a row without an answer, each retried, before asking is given up
NOT_SENT = ("id", "attempt", "recording", "served_by")  # of a request: ours alone


def json_schema(name: str, fields: dict) -> dict:
    """Return a request's `response_format`: an object with exactly these fields, for providers that enforce one."""
    answer = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": answer}}


@dataclass(frozen=True)
class Completion:
    """One answer: the request's id, the text, which model answered, why it ended, and what it took."""

    id: str | int
    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int


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
) -> tuple[list[Completion], dict[str | int, Failure]]:
    """Answer requests, from the response cache or by asking; every new answer is on disk before it counts.

    Errors that pass (429, 5xx, time-outs, resets) are retried by OpenAI's client with its back-off and the server's
    Retry-After.

    Args:
        requests: See above; `attempt` makes a repeated request another one.
        endpoint: `openai`, a base URL, or `replay:` and a recording. The key is read from OPENAI_API_KEY.
        cache_path: The response cache.
        concurrency: Requests in flight at a time.
        requests_per_minute: The provider's limit, or None.
        tokens_per_minute: The provider's limit, or None.
        price: {"input": …, "output": …} per million tokens; needed for a budget.
        budget: Asking stops before it is exceeded; what the cache holds counts.
        max_retries: Tries of a request beyond the first.
        timeout: Seconds without a byte before a try is given up.

    Returns:
        The answers in the requests' order, and id -> Failure for requests without one, which a rerun asks again.

    Raises:
        EndpointError: For an error that asking again cannot mend, or when the budget is reached.
    """
    check_price(price, budget)
    known, requests = response_cache.read(cache_path), with_recording(requests, endpoint)
    hashes = [request_hash(request) for request in requests]
    waiting = {mark: r for mark, r in zip(hashes, requests, strict=True) if mark not in known}
    failed: dict[str, Failure] = {}
    if waiting:
        limiters = (Limiter(requests_per_minute), Limiter(tokens_per_minute))
        connected = connect(endpoint, max_retries, timeout, concurrency)
        within = Budget(price, budget, spent(known, price))
        failed = run_async(ask_all(waiting, connected, cache_path, concurrency, limiters, within))
        known = response_cache.read(cache_path)
    return gathered(requests, hashes, known, failed)


def missing(requests: list[dict], *, endpoint: str, cache_path: str | Path) -> list[dict]:
    """Return the requests that the response cache does not answer yet."""
    answered = response_cache.read(cache_path)
    return [request for request in with_recording(requests, endpoint) if request_hash(request) not in answered]


def connect(endpoint: str, max_retries: int, timeout: float, connections: int = 100) -> openai.AsyncOpenAI:
    """Return OpenAI's client for an endpoint, with the key from OPENAI_API_KEY.

    `connections` stay open: with fewer than there are requests in flight, each request would open one of its own.

    Raises:
        InputError: For an unknown endpoint, a missing recording, or a missing key.
    """
    if endpoint.startswith("replay:"):
        transport = Recording(endpoint.removeprefix("replay:"))
        return openai.AsyncOpenAI(
            api_key="none",
            base_url="http://recording/v1",
            http_client=httpx2.AsyncClient(transport=transport),
            max_retries=0,
            timeout=timeout,
        )
    if endpoint != "openai" and not endpoint.startswith(("http://", "https://")):
        raise files.InputError(f"endpoint {endpoint!r}: expected openai, an http(s) URL, or replay:PATH")
    key = files.environment("OPENAI_API_KEY")
    if not key:
        raise files.InputError("OPENAI_API_KEY is not set; export it (any text for a server that asks for no key)")
    for handler in logging.getLogger().handlers:
        handler.addFilter(HIDE_KEY)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return openai.AsyncOpenAI(
        api_key=key,
        base_url=None if endpoint == "openai" else endpoint,
        max_retries=max_retries,
        timeout=timeout,
        http_client=openai.DefaultAsyncHttpxClient(limits=limits),
    )


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


async def ask_all(
    waiting: dict[str, dict],
    connected: openai.AsyncOpenAI,
    cache_path: str | Path,
    concurrency: int,
    limiters: tuple[Limiter, Limiter],
    budget: Budget,
) -> dict[str, Failure]:
    """Ask all requests (by hash) and return hash -> Failure for those without an answer.

    Workers take requests from one queue. After a permanent error they take no more, and the requests in flight, which
    are paid for, are waited for first.
    """
    queue, failed, stop = iter(waiting.items()), {}, []
    loop = asyncio.get_running_loop()
    with (
        response_cache.appending(cache_path) as file,
        ThreadPoolExecutor(1) as disk,  # writes answers one after another, so that the event loop never waits for it
        tqdm(total=len(waiting), desc="asking", file=sys.stderr, mininterval=1) as bar,
    ):
        store = functools.partial(loop.run_in_executor, disk, response_cache.append, file)

        async def worker() -> None:
            while not stop and (item := next(queue, None)):
                try:
                    failure = await ask_one(item[1], connected, store, limiters, budget, stop)
                except EndpointError as error:
                    stop.append(error)
                else:
                    failed.update({item[0]: failure} if failure else {})
                    bar.update()
                    bar.set_postfix(cost=f"{budget.spent:.2f}", failed=len(failed), refresh=False)

        workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(waiting)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await connected.close()
    if stop:
        raise stop[0]
    return failed


async def ask_one(
    request: dict,
    connected: openai.AsyncOpenAI,
    store: Callable[[dict], Awaitable],
    limiters: tuple[Limiter, Limiter],
    budget: Budget,
    stop: list[EndpointError],
) -> Failure | None:
    """Ask one request and store its answer; return None, or why it has no answer.

    Raises:
        EndpointError: For a permanent error, an exhausted budget, or too many failures in a row.
    """
    expected = estimate([request], budget.price)
    budget.reserve(expected["cost"])
    found, billed, refused = None, False, False
    try:
        await limiters[0].wait()
        await limiters[1].wait(expected["prompt_tokens"] + expected["completion_tokens"])
        if stop:
            return Failure(UNANSWERED, "not asked: the run had stopped")
        found = await ask(connected, request)
        await store(found)
    except (openai.APIError, ValueError) as error:
        reason, billed = f"{type(error).__name__}: {message(error)}", isinstance(error, ValueError)
        refused = refuses_post(error)
        if permanent(error):
            raise EndpointError(f"request {request['id']}: {reason}") from None
        if budget.failures + 1 >= MOST_FAILURES and not refused:
            raise EndpointError(f"{MOST_FAILURES} requests in a row found no answer; the last: {reason}") from None
        return Failure(REFUSED if refused else UNANSWERED, reason)
    finally:
        budget.settle(expected["cost"], found, billed, refused)
    return None


async def ask(connected: openai.AsyncOpenAI, request: dict) -> dict:
    """Return the response cache's entry for one answered request, within twice the time that all tries may take.

    A time-out counts from the last byte: without this limit, a server that sends a byte now and then would never end.

    Raises:
        ValueError: For a response that is not an answer or holds no choice.
    """
    start, limit = time.monotonic(), 2 * connected.timeout * (connected.max_retries + 1)
    route = connected.completions if "prompt" in request else connected.chat.completions
    try:
        async with asyncio.timeout(limit):
            raw = await route.with_raw_response.create(**body(request))
    except TimeoutError:
        raise openai.APIConnectionError(message=f"no whole answer in {limit:g} s", request=None) from None
    took = {"latency": round(time.monotonic() - start, 3), "attempts": raw.retries_taken + 1}
    try:
        return entry(raw.parse(), request) | took
    except RecursionError:
        raise ValueError("the answer is nested too deeply to be read") from None


def request_hash(request: dict) -> str:
    """Return the hash of all that decides an answer: model, messages, sampling, attempt; not the id."""
    asked = {key: value for key, value in request.items() if key != "id"}
    return hashlib.sha256(
        json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def with_recording(requests: list[dict], endpoint: str) -> list[dict]:
    """Return the requests with the recording's hash, where a recording answers; otherwise as they are.

    Another recording gives other answers. A provider's URL does not enter the hash, so that another provider may go on
    where one ended.
    """
    if not endpoint.startswith("replay:"):
        return requests
    place = endpoint.removeprefix("replay:")
    if not files.path(place).is_file():
        raise files.InputError(f"endpoint {endpoint!r}: no such recording")
    recording = hashing.sha256(place)[:16]
    return [request | {"recording": recording} for request in requests]


def body(request: dict) -> dict:
    """Return the part of a request that is sent."""
    return {key: value for key, value in request.items() if key not in NOT_SENT}


def entry(answer: ChatCompletion | TextCompletion, request: dict) -> dict:
    """Return an answer as the response cache holds it.

    Raises:
        ValueError: For a response that is not an answer or holds no choice.
    """
    text, choice = answer_text(answer), answer.choices[0]
    counts = token_counts(answer.usage)
    estimated = (round(length * TOKENS_PER_CHARACTER) for length in (characters(request), len(text)))
    prompt_tokens, completion_tokens = counts or estimated
    return {
        "hash": request_hash(request),
        "id": request["id"],
        "model": printable(answer.model or request["model"], 100),
        "text": SURROGATE.sub("�", without_key(text)),  # UTF-8, and so no file, can hold half of a surrogate pair
        "finish_reason": printable(choice.finish_reason or "unknown", 100),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "estimated": counts is None,  # a server that does not count must not look free
        "latency": None,
        "attempts": 1,
    }


def answer_text(answer: ChatCompletion | TextCompletion) -> str:
    """Return the text of an answer to a chat or to a prompt.

    Raises:
        ValueError: Where a message holds no usable answer: OpenAI's client accepts any JSON as an answer.
    """
    try:
        choice = answer.choices[0]
        reply = getattr(choice, "message", None)
        text = choice.text if reply is None else reply.content or ""
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError("the answer holds no choice") from None
    if not isinstance(text, str):
        raise ValueError(f"the answer is a {type(text).__name__}, expected text")
    return text


def token_counts(usage: object) -> tuple[int, int] | None:
    """Return the token counts of a response, or None when missing or implausible, such as -1, 1e999 or "many"."""
    counts = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    return counts if all(type(number) is int and number >= 0 for number in counts) else None


def spent(known: dict[str, dict], price: dict | None) -> float:
    """Return what the answers in a response cache cost."""
    return sum(cost_of(e["prompt_tokens"], e["completion_tokens"], price) for e in known.values())


def gathered(
    requests: list[dict], hashes: list[str], known: dict[str, dict], failed: dict[str, Failure]
) -> tuple[list[Completion], dict[str | int, Failure]]:
    """Return the cached answers in the requests' order, and id -> Failure for the others; `known` is by hash."""
    fields = Completion.__dataclass_fields__.keys() - {"id"}
    marked = list(zip(hashes, requests, strict=True))
    completions = [
        Completion(id=request["id"], **{name: known[mark][name] for name in fields})
        for mark, request in marked
        if mark in known
    ]
    return completions, {request["id"]: failed[mark] for mark, request in marked if mark in failed}
