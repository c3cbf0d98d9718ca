"""The Batch API, the cheap way to ask: uploaded, waited for, collected; found again after a restart, paid for once."""

import asyncio
import secrets
import sys
from pathlib import Path

import openai
from openai.types import Batch
from tqdm import tqdm

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import run_async
from cbtllm_utils.llm.batch_files import MOST_REQUESTS, answer, lines, parts
from cbtllm_utils.llm.budget import check, estimate
from cbtllm_utils.llm.client import IN_VAIN, client
from cbtllm_utils.llm.completions import Completion, gathered, request_hash, spent
from cbtllm_utils.llm.errors import ONE_POST, EndpointError, permanent, safe, told

ENDED = ("completed", "expired", "cancelled", "failed")
GONE = "no line came back for it"


def complete(
    requests: list[dict],
    *,
    endpoint: str,
    journal_path: str | Path,
    price: dict | None = None,
    budget: float | None = None,
    poll_seconds: float = 60.0,
    rounds: int = 3,
    most_requests: int = MOST_REQUESTS,
    max_retries: int = 6,
    timeout: float = 120.0,
) -> tuple[list[Completion], dict[str | int, str]]:
    """What `endpoint.complete` returns, by way of batches: the answers in order, and id -> reason for the others.

    The batches' ids are kept beside the journal, so that a restart waits for those under way and collects them before
    it asks for what is still missing; a line that failed is asked again in the next of `rounds`, but for posts that the
    provider refuses. `price` is that of batches, where it differs; `most_requests` cuts batches to what an account may
    have waiting. EndpointError for a batch that the provider refuses, a budget that does not hold the next
    one, or a batch of many without a single answer.
    """
    if endpoint.startswith("replay:"):
        raise files.InputError("batch: a recording answers at once and takes no batches; set `batch: false`")
    check(price, budget)
    hashes = [request_hash(request) for request in requests]
    wanted = dict(zip(hashes, requests, strict=True))
    failed: dict[str, str] = {}
    if wanted.keys() - response_cache.read(journal_path).keys():

        async def work() -> dict[str, str]:
            async with client(endpoint, max_retries, timeout) as to:
                return await all_rounds(
                    to, wanted, Path(journal_path), price, budget, poll_seconds, rounds, most_requests
                )

        failed = run_async.in_thread(work)
    return gathered(requests, hashes, response_cache.read(journal_path), failed)


async def all_rounds(
    to: openai.AsyncOpenAI,
    wanted: dict[str, dict],
    path: Path,
    price: dict | None,
    budget: float | None,
    poll_seconds: float,
    rounds: int,
    most_requests: int,
) -> dict[str, str]:
    """hash -> reason for what found no answer, after what was under way was collected and the rest asked for."""
    state = State(path)
    failed = await collect(to, state, wanted, await state.under_way(to), poll_seconds)
    for _ in range(rounds):
        known = response_cache.read(path)
        refused = {mark for mark, reason in failed.items() if ONE_POST.search(reason)}
        missing = {mark: request for mark, request in wanted.items() if mark not in known and mark not in refused}
        if not missing:
            break
        cost, paid = estimate(list(missing.values()), price)["cost"], spent(known, price)
        if budget is not None and paid + cost > budget:
            raise EndpointError(
                f"budget {budget:g}: a batch of {len(missing)} may cost {cost:.2f} after {paid:.2f}; "
                "raise `budget`, or lower `limit`"
            )
        sent = [await submit(to, state, part) for part in parts(missing, most_requests)]
        failed |= await collect(to, state, wanted, sent, poll_seconds)
        new = {reason for mark, reason in failed.items() if mark in missing and not ONE_POST.search(reason)}
        if len(missing) >= IN_VAIN and new and not response_cache.read(path).keys() - known.keys():
            raise EndpointError(f"no line of the batch was answered; the first: {min(new)}")
    known = response_cache.read(path)
    return {mark: failed.get(mark, GONE) for mark in wanted if mark not in known}


class State:
    """Which batches are ours and which were collected, in a file beside the journal.

    Every batch carries our name in its metadata: one that was made and not yet written down when a kill came is found
    in the provider's list.
    """

    def __init__(self, path: Path) -> None:
        self.journal, self.path = path, path.with_suffix(".batches.json")
        found = files.read_json(self.path) if files.path(self.path).exists() else {}
        self.name, self.batches = found.get("name", secrets.token_hex(8)), dict(found.get("batches", {}))

    def note(self, batch: str, what: str) -> None:
        """Nothing, after the batch was written down as "sent" or "collected"."""
        self.batches[batch] = what
        self.write()

    def write(self) -> None:
        """Nothing, after the state is on disk."""
        files.write_json(self.path, {"name": self.name, "batches": self.batches})

    async def under_way(self, to: openai.AsyncOpenAI) -> list[str]:
        """The ids of our batches that were not collected yet."""
        if not files.path(self.path).exists():
            return []
        try:
            theirs = [b.id async for b in to.batches.list(limit=100) if (b.metadata or {}).get("cbtllm") == self.name]
        except openai.APIError as error:
            raise EndpointError(f"the provider's list of batches: {type(error).__name__}: {safe(error)}") from None
        return [b for b in dict.fromkeys([*self.batches, *reversed(theirs)]) if self.batches.get(b) != "collected"]


async def submit(to: openai.AsyncOpenAI, state: State, part: bytes) -> str:
    """The id of a new batch, written down."""
    state.write()  # the name must be known before a batch bears it
    try:
        file = await to.files.create(file=("requests.jsonl", part), purpose="batch")
        batch = await to.with_options(max_retries=0).batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"cbtllm": state.name},
        )  # not retried: a second batch would be paid for; a rerun finds the first in the list
    except openai.APIError as error:
        raise EndpointError(f"a batch was not taken: {type(error).__name__}: {safe(error)}; run again") from None
    if told(batch.id) != batch.id:  # it would stand in files and on the terminal
        raise EndpointError(f"a batch was given an id that no file may hold: {told(batch.id)}; ask another endpoint")
    state.note(batch.id, "sent")
    return batch.id


async def collect(
    to: openai.AsyncOpenAI, state: State, wanted: dict[str, dict], ids: list[str], poll_seconds: float
) -> dict[str, str]:
    """hash -> reason for the lines without an answer, after the answers of ended batches are in the journal."""
    failed: dict[str, str] = {}
    for batch in [await ended(to, name, poll_seconds) for name in ids]:
        found = [line for file in (batch.output_file_id, batch.error_file_id) if file for line in await read(to, file)]
        known = response_cache.read(state.journal)
        with response_cache.appending(state.journal) as file:
            for line in found:
                mark = line["custom_id"]
                got = answer(line, wanted.get(mark, {"id": None, "model": batch.model}))
                if isinstance(got, str):
                    failed[mark] = got
                elif mark not in known:
                    response_cache.append(file, got)
        state.note(batch.id, "collected")
        if batch.status == "cancelled":
            raise EndpointError(
                f"batch {batch.id} was cancelled; what it answered is kept, run again to ask for the rest"
            )
        if batch.status == "failed":
            errors = batch.errors.data if batch.errors and batch.errors.data else []
            reason = next((f"{e.code}: {e.message}" for e in errors), "the provider does not say why")
            raise EndpointError(f"batch {batch.id} failed: {told(reason)}")
    return failed


async def ended(to: openai.AsyncOpenAI, name: str, poll_seconds: float) -> Batch:
    """The batch, once it has ended. A provider that is away for a while is asked again at the next beat."""
    with tqdm(desc=f"batch {name}", file=sys.stderr, mininterval=1) as bar:
        while True:
            try:
                batch = await to.batches.retrieve(name)
            except openai.APIError as error:
                if permanent(error):
                    advice = "if it is another provider's, remove the journal's .batches.json"
                    raise EndpointError(f"batch {name}: {type(error).__name__}: {safe(error)}; {advice}") from None
                bar.set_postfix_str(f"{type(error).__name__}, asking again")
            else:
                counts = batch.request_counts
                bar.total, bar.n = (counts.total, counts.completed + counts.failed) if counts else (None, 0)
                bar.set_postfix_str(told(batch.status, 40))
                if batch.status in ENDED:
                    return batch
            await asyncio.sleep(poll_seconds)


async def read(to: openai.AsyncOpenAI, file: str) -> list[dict]:
    """The lines of a provider's file."""
    try:
        return lines((await to.files.content(file)).content)
    except openai.APIError as error:
        raise EndpointError(f"file {file}: {type(error).__name__}: {safe(error)}; run again") from None
