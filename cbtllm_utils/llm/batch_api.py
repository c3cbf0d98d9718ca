"""The Batch API, the cheap way to ask: batches are uploaded, waited for and collected, and paid for once.

A file beside the response cache lists our batches, so that a restart finds those under way.
"""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
from openai.types import Batch
from tqdm import tqdm

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm.budget import check_price, estimate
from cbtllm_utils.llm.client import (
    Completion,
    gathered,
    run_async,
    spent,
)
from cbtllm_utils.llm.endpoint import connect
from cbtllm_utils.llm.errors import LIMITED, SEVERAL, WAIT, EndpointError, explain, judge
from cbtllm_utils.llm.exchange import body, check_fields, entry, request_hash
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED, Failure
from cbtllm_utils.llm.key import printable
from cbtllm_utils.llm.recorded import is_recording

ENDED = ("completed", "expired", "cancelled", "failed")
ROUNDS = 3  # how often a line that failed is sent
HASH = re.compile("[0-9a-f]{64}")  # of a request: its custom_id in a batch
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000  # of one input file (OpenAI)


def complete(
    requests: list[dict],
    *,
    endpoint: str,
    cache_path: str | Path,
    price: dict | None = None,
    budget: float | None = None,
    poll_seconds: float = 60.0,
    most_requests: int = MOST_REQUESTS,
    max_retries: int = 6,
    timeout: float = 120.0,
) -> tuple[list[Completion], dict[str | int, Failure]]:
    """Answer requests as `client.complete` does, by way of batches.

    Batches under way are waited for and collected before anything is sent. A line that failed is sent again in the next
    round, unless the provider refuses the post.

    Args:
        price: Of batches, per million tokens.
        budget: A batch that it does not hold is not sent.
        poll_seconds: Seconds between two looks at a batch.
        most_requests: In one batch: what an account may have waiting. The next is sent when it has ended.
        max_retries: Tries of an upload or a look beyond the first.

    Raises:
        EndpointError: When the provider refuses a batch, the budget does not hold the next one, or a batch of many
            requests has no answer at all.
    """
    if is_recording(endpoint):
        raise files.InputError("batch: a recording answers at once and takes no batches; set `batch: false`")
    check_price(price, budget)
    check_fields(requests)
    hashes = [request_hash(request) for request in requests]
    wanted = dict(zip(hashes, requests, strict=True))
    failed: dict[str, Failure] = {}
    if wanted.keys() - response_cache.read(cache_path).keys():
        state = State(Path(cache_path))
        connected = connect(endpoint, timeout, max_retries=max_retries)
        failed = run_async(all_rounds(connected, state, wanted, price, budget, poll_seconds, most_requests))
    return gathered(requests, hashes, response_cache.read(cache_path), failed)


async def all_rounds(
    connected: openai.AsyncOpenAI,
    state: "State",
    wanted: dict[str, dict],
    price: dict | None,
    budget: float | None,
    poll_seconds: float,
    most_requests: int,
) -> dict[str, Failure]:
    """Collect what is under way, send the rest, and return hash -> Failure for what found no answer."""
    cache = state.cache_path
    async with connected:
        failed = await collect(connected, state, wanted, await state.under_way(connected), poll_seconds)
        for _ in range(ROUNDS):
            known = response_cache.read(cache)
            refused = {mark for mark, failure in failed.items() if failure.kind == REFUSED}
            missing = {mark: request for mark, request in wanted.items() if mark not in known and mark not in refused}
            if not missing:
                break
            cost, paid = estimate(list(missing.values()), price)["cost"], spent(known, price)
            if budget is not None and paid + cost > budget:
                raise EndpointError(
                    f"budget {budget:g}: a batch of {len(missing)} may cost {cost:.2f} after {paid:.2f}; "
                    "raise `budget`, or lower `limit`"
                )
            for content in input_files(missing, most_requests):
                sent = await submit(connected, state, content)
                failed |= await collect(connected, state, wanted, [sent], poll_seconds)
            new = {f.reason for mark, f in failed.items() if mark in missing and f.kind == UNANSWERED}
            if len(missing) >= SEVERAL and new and not response_cache.read(cache).keys() - known.keys():
                if known.keys() & wanted.keys():  # others were answered: what is wrong with these is not wrong with all
                    break
                raise EndpointError(f"no line of the batch was answered; the first: {min(new)}")
    known = response_cache.read(cache)
    return {
        mark: failed.get(mark, Failure(UNANSWERED, "the batch returned no line for it"))
        for mark in wanted
        if mark not in known
    }


class State:
    """Which batches are ours and which were collected, in a file beside the response cache.

    Every batch carries our name in its metadata: one that was made but not yet noted when a kill came is found in the
    provider's list.
    """

    def __init__(self, cache_path: Path) -> None:
        self.cache_path, self.path = cache_path, cache_path.with_suffix(".batches.json")
        found = files.read_json(self.path) if files.path(self.path).exists() else {}
        self.name, self.batches = found.get("name", secrets.token_hex(8)), dict(found.get("batches", {}))

    def note(self, batch: str, what: str) -> None:
        """Note on disk that a batch was "sent" or "collected"."""
        self.batches[batch] = what
        self.write()

    def write(self) -> None:
        """Write the state to disk."""
        files.write_json(self.path, {"name": self.name, "batches": self.batches})

    async def under_way(self, connected: openai.AsyncOpenAI) -> list[str]:
        """Return the IDs of our batches that were not collected yet."""
        if not files.path(self.path).exists():
            return []
        try:
            listed = connected.batches.list(limit=100)
            theirs = [b.id async for b in listed if (b.metadata or {}).get("cbtllm") == self.name]
        except openai.APIError as error:
            raise EndpointError(f"the provider's list of batches: {explain(error).reason}") from None
        return [b for b in dict.fromkeys([*self.batches, *reversed(theirs)]) if self.batches.get(b) != "collected"]


async def submit(connected: openai.AsyncOpenAI, state: State, content: bytes) -> str:
    """Send a batch, note it, and return its ID."""
    state.write()  # the name must be on disk before a batch carries it
    try:
        file = await connected.files.create(file=("requests.jsonl", content), purpose="batch")
        batch = await connected.with_options(max_retries=0).batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"cbtllm": state.name},
        )  # not retried: a second batch would be paid for; a rerun finds the first in the list
    except openai.APIError as error:
        raise EndpointError(f"the provider did not accept a batch: {explain(error).reason}; run again") from None
    if printable(batch.id) != batch.id:  # it would be written to files and to the terminal
        raise EndpointError(
            f"a batch has an ID that cannot be part of a file name: {printable(batch.id)}; ask another endpoint"
        )
    state.note(batch.id, "sent")
    return batch.id


async def collect(
    connected: openai.AsyncOpenAI, state: State, wanted: dict[str, dict], ids: list[str], poll_seconds: float
) -> dict[str, Failure]:
    """Wait for batches, store their answers, and return hash -> Failure for the lines without one."""
    failed: dict[str, Failure] = {}
    for batch in [await ended(connected, name, poll_seconds) for name in ids]:
        outputs = [file for file in (batch.output_file_id, batch.error_file_id) if file]
        found = [line for file in outputs for line in await read(connected, file)]
        known = response_cache.read(state.cache_path)
        with response_cache.appending(state.cache_path) as file:
            for line in found:
                mark = line["custom_id"]
                answer = line_entry(line, wanted.get(mark, {"id": None, "model": batch.model}))
                if isinstance(answer, Failure):
                    failed[mark] = answer
                elif mark not in known:
                    response_cache.append(file, answer)
        state.note(batch.id, "collected")
        if batch.status == "cancelled":
            raise EndpointError(f"batch {batch.id} was canceled; its answers are cached; run again to ask for the rest")
        if batch.status == "failed":
            errors = batch.errors.data if batch.errors and batch.errors.data else []
            reason = next((f"{e.code}: {e.message}" for e in errors), "the provider does not say why")
            raise EndpointError(f"batch {batch.id} failed: {printable(reason)}")
    return failed


async def ended(connected: openai.AsyncOpenAI, name: str, poll_seconds: float) -> Batch:
    """Wait for a batch to end and return it; ask again if the provider is away for a while."""
    with tqdm(desc=f"batch {name}", file=sys.stderr, mininterval=1) as bar:
        while True:
            try:
                batch = await connected.batches.retrieve(name)
            except openai.APIError as error:
                told = explain(error)
                if told.kind not in (WAIT, LIMITED):
                    advice = "if it is another provider's, remove the response cache's .batches.json"
                    raise EndpointError(f"batch {name}: {told.reason}; {advice}") from None
                bar.set_postfix_str(f"{type(error).__name__}, asking again")
            else:
                counts = batch.request_counts
                bar.total, bar.n = (counts.total, counts.completed + counts.failed) if counts else (None, 0)
                bar.set_postfix_str(printable(batch.status, 40))
                if batch.status in ENDED:
                    return batch
            await asyncio.sleep(poll_seconds)


async def read(connected: openai.AsyncOpenAI, file: str) -> list[dict]:
    """Return the lines of a provider's file."""
    try:
        return whole_lines((await connected.files.content(file)).content)
    except openai.APIError as error:
        raise EndpointError(f"file {file}: {explain(error).reason}; run again") from None


def input_files(missing: dict[str, dict], most_requests: int = MOST_REQUESTS) -> Iterator[bytes]:
    """Yield input files, one request a line under its hash, each within the provider's and the account's limits."""
    held: list[bytes] = []
    size = 0
    for mark, request in missing.items():
        call = {"custom_id": mark, "method": "POST", "url": "/v1/chat/completions", "body": body(request)}
        line = (json.dumps(call) + "\n").encode()
        if size + len(line) > MOST_BYTES or len(held) == min(most_requests, MOST_REQUESTS):
            yield b"".join(held)
            held, size = [], 0
        held.append(line)
        size += len(line)
    yield b"".join(held)


def whole_lines(content: bytes) -> list[dict]:
    """Return the whole lines of an output or error file; the request of a damaged line is sent again."""
    found = []
    for line in content.split(b"\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and HASH.fullmatch(str(value.get("custom_id"))):
            found.append(value)
    return found


def line_entry(line: dict, request: dict) -> dict | Failure:
    """Return the response cache's entry for a line of a batch's output, or why it holds no answer."""
    response = fields(line.get("response"))
    content = line.get("error") or response.get("body")
    try:
        return entry(content, request) | {"hash": line["custom_id"]}
    except (ValueError, AttributeError) as error:
        status = response.get("status_code")
        said = content if isinstance(content, str) else json.dumps(content)
        told = judge(status if type(status) is int else 0, said if content else f"no answer: {error}")
        return Failure(REFUSED if told.kind == REFUSED else UNANSWERED, told.reason)


def fields(value: object) -> dict:
    """Return an object's fields; {} for anything else that a provider sends in its place."""
    return value if isinstance(value, dict) else {}
