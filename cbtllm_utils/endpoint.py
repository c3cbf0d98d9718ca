"""One client for chat completions: any OpenAI-compatible URL, or `replay:` and a recording; nothing paid is lost."""

import asyncio
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
from tqdm import tqdm

from cbtllm_utils import files, journal
from cbtllm_utils.replay import Recording

TOKENS_PER_CHARACTER = 1.3  # of Chinese in a provider's tokenizer, for estimates before the first request


class EndpointError(files.InputError):
    """A fault that will not pass by asking again: a bad key, an unknown model, no quota, no budget."""


@dataclass(frozen=True)
class Completion:
    """One answer: the request's id, the text, who answered, why it ended, and what it took."""

    id: str
    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int


def request_hash(request: dict) -> str:
    """The hash of all that decides an answer: model, messages, sampling, and the number of the attempt; not the id."""
    asked = {key: value for key, value in request.items() if key != "id"}
    return hashlib.sha256(
        json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def estimate(requests: list[dict], price: dict | None, reply_tokens: int = 700) -> dict[str, float]:
    """Tokens and money that these requests will take: prompt_tokens, completion_tokens, cost (0 without a price).

    `price` is {"input": …, "output": …} for a million tokens, in any currency.
    """
    characters = sum(len(message["content"]) for request in requests for message in request["messages"])
    prompt, completion = characters * TOKENS_PER_CHARACTER, len(requests) * float(reply_tokens)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "cost": money(prompt, completion, price)}


def money(prompt_tokens: float, completion_tokens: float, price: dict | None) -> float:
    """What so many tokens cost."""
    return (prompt_tokens * price["input"] + completion_tokens * price["output"]) / 1e6 if price else 0.0


def missing(requests: list[dict], path: str | Path) -> list[dict]:
    """The requests that the journal does not answer yet."""
    answered = journal.read(path)
    return [request for request in requests if request_hash(request) not in answered]


class Limiter:
    """Lets at most so many units a minute pass, evenly; None lets all pass."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval, self.free_at = 60 / per_minute if per_minute else 0.0, 0.0

    async def wait(self, units: float = 1) -> None:
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + units * self.interval
        if start > now:
            await asyncio.sleep(start - now)


def client(endpoint: str, max_retries: int, timeout: float) -> openai.AsyncOpenAI:
    """The OpenAI client for an endpoint: `replay:PATH`, `openai`, or a base URL. The key comes from OPENAI_API_KEY."""
    options = {"max_retries": max_retries, "timeout": timeout}
    if endpoint.startswith("replay:"):
        transport = Recording(endpoint.removeprefix("replay:"))
        http = httpx.AsyncClient(transport=transport)
        return openai.AsyncOpenAI(api_key="none", base_url="http://recording/v1", http_client=http, max_retries=0)
    if endpoint != "openai" and not endpoint.startswith(("http://", "https://")):
        raise files.InputError(f"endpoint {endpoint!r}: expected openai, an http(s) URL, or replay:PATH")
    key = files.environment("OPENAI_API_KEY")
    if not key:
        raise files.InputError("OPENAI_API_KEY is not set; export it (any text for a server that asks for no key)")
    return openai.AsyncOpenAI(api_key=key, base_url=None if endpoint == "openai" else endpoint, **options)


PERMANENT = (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError, openai.BadRequestError)


def permanent(error: Exception) -> bool:
    """Whether asking again cannot help."""
    return isinstance(error, PERMANENT) or getattr(error, "code", None) in (
        "insufficient_quota",
        "billing_hard_limit_reached",
    )


def safe(error: Exception) -> str:
    """An error's text on one line, without the key that a provider may echo."""
    text = " ".join(str(getattr(error, "message", error)).split())[:300]
    key = files.environment("OPENAI_API_KEY")
    return text.replace(key, "…") if key else text


async def ask(to: openai.AsyncOpenAI, request: dict) -> dict:
    """The journal's entry for one answered request. ValueError for an answer without a choice."""
    start = time.monotonic()
    body = {key: value for key, value in request.items() if key not in ("id", "attempt")}
    raw = await to.chat.completions.with_raw_response.create(**body)
    answer = raw.parse()
    if not answer.choices:
        raise ValueError("the answer holds no choice")
    choice, usage = answer.choices[0], answer.usage
    return {
        "hash": request_hash(request),
        "id": request["id"],
        "model": answer.model,
        "text": choice.message.content or "",
        "finish_reason": choice.finish_reason or "unknown",
        "prompt_tokens": usage.prompt_tokens if usage else 0,
        "completion_tokens": usage.completion_tokens if usage else 0,
        "latency": round(time.monotonic() - start, 3),
        "attempts": raw.retries_taken + 1,
    }


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
) -> tuple[list[Completion], dict[str, str]]:
    """The answers in the requests' order, and id -> reason for requests that found none now (a rerun asks them again).

    A request is {"id", "model", "messages", …sampling}. Answers in the journal are not asked again; every new one is on
    disk before the next is counted. Passing faults (429, 5xx, time-outs, resets) are retried by the client with its
    back-off and the server's Retry-After. EndpointError for a fault that will not pass, or when `budget` is reached.
    """
    known = journal.read(journal_path)
    waiting = list({request_hash(r): r for r in requests if request_hash(r) not in known}.values())
    failed: dict[str, str] = {}
    if waiting:
        speed = (Limiter(requests_per_minute), Limiter(tokens_per_minute))
        purse = {"spent": sum(money(e["prompt_tokens"], e["completion_tokens"], price) for e in known.values())}
        to = client(endpoint, max_retries, timeout)
        failed = in_thread(lambda: ask_all(waiting, to, Path(journal_path), concurrency, speed, price, budget, purse))
        known = journal.read(journal_path)
    answered = [known[request_hash(r)] | {"id": r["id"]} for r in requests if request_hash(r) in known]
    fields = Completion.__dataclass_fields__
    return [Completion(**{name: entry[name] for name in fields}) for entry in answered], failed


async def ask_all(
    waiting: list[dict],
    to: openai.AsyncOpenAI,
    path: Path,
    concurrency: int,
    speed: tuple[Limiter, Limiter],
    price: dict | None,
    budget: float | None,
    purse: dict[str, float],
) -> dict[str, str]:
    """id -> reason for the requests that found no answer. Workers take requests from one queue; a fault that will not
    pass stops them all."""
    queue, failed = iter(waiting), {}
    with (
        journal.appending(path) as file,
        tqdm(total=len(waiting), desc="asking", file=sys.stderr, mininterval=1) as bar,
    ):

        async def worker() -> None:
            for request in queue:
                cost = estimate([request], price)
                if budget is not None and purse["spent"] + cost["cost"] > budget:
                    raise EndpointError(
                        f"budget {budget:g} would be exceeded after {purse['spent']:.4f}; raise `budget` and run again"
                    )
                await speed[0].wait()
                await speed[1].wait(cost["prompt_tokens"] + cost["completion_tokens"])
                try:
                    entry = await ask(to, request)
                except (openai.APIError, ValueError) as error:
                    if permanent(error):
                        raise EndpointError(f"{request['id']}: {type(error).__name__}: {safe(error)}") from None
                    failed[request["id"]] = f"{type(error).__name__}: {safe(error)}"
                else:
                    journal.append(file, entry)
                    purse["spent"] += money(entry["prompt_tokens"], entry["completion_tokens"], price)
                bar.update()
                bar.set_postfix(cost=f"{purse['spent']:.2f}", failed=len(failed), refresh=False)

        workers = [asyncio.create_task(worker()) for _ in range(min(concurrency, len(waiting)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await to.close()
    return failed


def in_thread(work: Callable[[], Coroutine]) -> dict:
    """The result of a coroutine, run in a thread of its own: a notebook has a running loop already."""
    outcome: dict[str, object] = {}

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(work())
        except BaseException as error:  # handed over to the caller's thread
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
