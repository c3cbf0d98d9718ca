"""One client for chat completions: any OpenAI-compatible URL, or `replay:` and a recording; nothing paid is lost."""

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import httpx2
import openai
from tqdm import tqdm

from cbtllm_utils import files, response_cache
from cbtllm_utils import hashing as hashes
from cbtllm_utils.llm import run_async
from cbtllm_utils.llm.budget import Limiter, Purse, check, estimate
from cbtllm_utils.llm.completions import Completion, body, entry, gathered, request_hash, spent
from cbtllm_utils.llm.errors import MASKED, EndpointError, one_post, permanent, safe
from cbtllm_utils.llm.recorded import Recording

IN_VAIN = 20  # requests in a row without an answer, each retried, before asking is given up


def client(endpoint: str, max_retries: int, timeout: float, connections: int = 100) -> openai.AsyncOpenAI:
    """The OpenAI client for an endpoint: `replay:PATH`, `openai`, or a base URL. The key comes from OPENAI_API_KEY.

    `connections` are kept open: the client's own limit of 100 would close and open one for each request beyond.
    """
    if endpoint.startswith("replay:"):
        transport = Recording(endpoint.removeprefix("replay:"))
        http = httpx2.AsyncClient(transport=transport)
        return openai.AsyncOpenAI(
            api_key="none", base_url="http://recording/v1", http_client=http, max_retries=0, timeout=timeout
        )
    if endpoint != "openai" and not endpoint.startswith(("http://", "https://")):
        raise files.InputError(f"endpoint {endpoint!r}: expected openai, an http(s) URL, or replay:PATH")
    key = files.environment("OPENAI_API_KEY")
    if not key:
        raise files.InputError("OPENAI_API_KEY is not set; export it (any text for a server that asks for no key)")
    for handler in logging.getLogger().handlers:
        handler.addFilter(MASKED)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    options = {
        "max_retries": max_retries,
        "timeout": timeout,
        "http_client": openai.DefaultAsyncHttpxClient(limits=limits),
    }
    return openai.AsyncOpenAI(api_key=key, base_url=None if endpoint == "openai" else endpoint, **options)


def addressed(requests: list[dict], endpoint: str) -> list[dict]:
    """The requests as an endpoint's journal knows them: to a recording its content belongs, since another recording
    answers otherwise; a provider's URL does not, so that another may go on where one ended."""
    if not endpoint.startswith("replay:"):
        return requests
    place = endpoint.removeprefix("replay:")
    if not files.path(place).is_file():
        raise files.InputError(f"endpoint {endpoint!r}: no such recording")
    recording = hashes.sha256(place)[:16]
    return [request | {"recording": recording} for request in requests]


async def ask(to: openai.AsyncOpenAI, request: dict) -> dict:
    """The journal's entry for one answered request. ValueError for an answer that is none or holds no choice."""
    start = time.monotonic()
    route = to.completions if "prompt" in request else to.chat.completions
    raw = await route.with_raw_response.create(**body(request))
    took = {"latency": round(time.monotonic() - start, 3), "attempts": raw.retries_taken + 1}
    try:
        return entry(raw.parse(), request) | took
    except RecursionError:
        raise ValueError("the answer is nested too deeply to be read") from None


def complete(
    requests: list[dict],
    *,
    endpoint: str,
    journal_path: str | Path,
    concurrency: int = 8,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    price: dict | None = None,
    budget: float | None = None,
    max_retries: int = 6,
    timeout: float = 120.0,
) -> tuple[list[Completion], dict[str | int, str]]:
    """The answers in the requests' order, and id -> reason for requests that found none now (a rerun asks them again).

    A request is {"id", "model", "messages", …sampling}, or with "prompt" in place of messages a text to go on. Answers
    in the journal are not asked again; every new one is on disk before the next is counted. Passing faults (429, 5xx,
    time-outs, resets) are retried by the client with its back-off and the server's Retry-After, on top of what the
    limits let pass. EndpointError for a fault that will not pass, or when `budget` is reached.
    """
    check(price, budget)
    known, requests = response_cache.read(journal_path), addressed(requests, endpoint)
    hashes = [request_hash(request) for request in requests]
    waiting = {mark: r for mark, r in zip(hashes, requests, strict=True) if mark not in known}
    failed: dict[str, str] = {}
    if waiting:
        speed = (Limiter(requests_per_minute), Limiter(tokens_per_minute))
        to, purse = client(endpoint, max_retries, timeout, concurrency), Purse(price, budget, spent(known, price))
        failed = run_async.in_thread(lambda: ask_all(waiting, to, journal_path, concurrency, speed, purse))
        known = response_cache.read(journal_path)
    return gathered(requests, hashes, known, failed)


async def ask_all(
    waiting: dict[str, dict],
    to: openai.AsyncOpenAI,
    path: str | Path,
    concurrency: int,
    speed: tuple[Limiter, Limiter],
    purse: Purse,
) -> dict[str, str]:
    """hash -> reason for the requests that found no answer. Workers take requests from one queue; after a fault that
    will not pass they take no more, and those in flight, which are paid for, come home first."""
    queue, failed, stop = iter(waiting.items()), {}, []
    with (
        response_cache.appending(path) as file,
        ThreadPoolExecutor(1) as disk,  # answers go to disk one after another, and nothing waits for the disk
        tqdm(total=len(waiting), desc="asking", file=sys.stderr, mininterval=1) as bar,
    ):

        async def worker() -> None:
            while not stop and (item := next(queue, None)):
                try:
                    reason = await ask_one(item[1], to, functools.partial(keep, disk, file), speed, purse, stop)
                except EndpointError as error:
                    stop.append(error)
                else:
                    failed.update({item[0]: reason} if reason else {})
                    bar.update()
                    bar.set_postfix(cost=f"{purse.spent:.2f}", failed=len(failed), refresh=False)

        workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(waiting)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await to.close()
    if stop:
        raise stop[0]
    return failed


async def keep(disk: ThreadPoolExecutor, file: TextIO, entry: dict) -> None:
    """Nothing, once the entry is on disk."""
    await asyncio.get_running_loop().run_in_executor(disk, response_cache.append, file, entry)


async def in_time(to: openai.AsyncOpenAI, request: dict) -> dict:
    """The entry of `ask`, within twice the time that its tries may take: a time-out counts from the last byte, so that
    a server which drips would never end."""
    limit = 2 * to.timeout * (to.max_retries + 1)
    try:
        async with asyncio.timeout(limit):
            return await ask(to, request)
    except TimeoutError:
        raise openai.APIConnectionError(message=f"no whole answer in {limit:g} s", request=None) from None


async def ask_one(
    request: dict,
    to: openai.AsyncOpenAI,
    kept: Callable[[dict], Awaitable],
    speed: tuple[Limiter, Limiter],
    purse: Purse,
    stop: list[EndpointError],
) -> str | None:
    """None when the request's answer is in the journal, or the reason why there is none; EndpointError for a fault that
    will not pass."""
    expected = estimate([request], purse.price)
    purse.take(expected["cost"])
    entry, billed, refused = None, False, False
    try:
        await speed[0].wait()
        await speed[1].wait(expected["prompt_tokens"] + expected["completion_tokens"])
        if stop:
            return "not asked: the run had stopped"
        entry = await in_time(to, request)
        await kept(entry)
    except (openai.APIError, ValueError) as error:
        reason, billed = f"{type(error).__name__}: {safe(error)}", isinstance(error, ValueError)
        refused = one_post(error)
        if permanent(error):
            raise EndpointError(f"request {request['id']}: {reason}") from None
        if purse.in_vain + 1 >= IN_VAIN and not refused:
            raise EndpointError(f"{IN_VAIN} requests in a row found no answer; the last: {reason}") from None
        return reason
    finally:
        purse.settle(expected["cost"], entry, billed, refused)
    return None
