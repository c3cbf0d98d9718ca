"""List the requests without an answer, and fail when there are too many."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cbtllm_utils import files, safe_spreadsheets
from cbtllm_utils.llm import client
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.errors import EndpointError
from cbtllm_utils.llm.failure import UNANSWERED, Failure

SHOWN = 3  # requests that a message names
Answered = tuple[list[Completion], dict[str | int, Failure]]


def ask(
    requests: list[dict],
    run: str | Path,
    step: str,
    complete: Callable[..., Answered] = client.complete,
    **asking: Any,
) -> Answered:
    """Ask as `client.complete` does, and list the requests without an answer when asking ends before all were asked.

    Args:
        requests: As `client.complete` takes them.
        run: The run, below which they are listed.
        step: The task's name, such as 05_answer_generation-qwen-7b.
        complete: `client.complete` or `batch_api.complete`.
        asking: What it takes, with `endpoint` and `cache_path`.
    """
    place = {name: asking[name] for name in ("endpoint", "cache_path")}
    with listing(requests, run, step, **place):
        return complete(requests, **asking)


@contextmanager
def listing(
    requests: list[dict], run: str | Path, step: str, *, endpoint: str, cache_path: str | Path
) -> Iterator[None]:
    """List the requests that found no answer when asking ends before all were asked: key, quota, budget, an outage.

    One that had failed before has its own kind and reason there, all others have the error that ended asking.
    """
    try:
        yield
    except EndpointError as error:
        unanswered = client.missing(requests, endpoint=endpoint, cache_path=cache_path)
        if not unanswered:
            raise
        reasons = {request["id"]: str(error.failures.get(request["id"], error)) for request in unanswered}
        listed = write(reasons, run, step)
        raise EndpointError(
            f"{error}; {len(unanswered)} of {len(requests)} requests have no answer, all are in {files.shown(listed)}"
        ) from None


def write(missing: Mapping[object, str], run: str | Path, step: str) -> Path:
    """Write which requests have no answer, and why; return the list's path."""
    table = pd.DataFrame([(str(name), reason) for name, reason in missing.items()], columns=["id", "reason"])
    return files.write_text(files.missing(run, step), safe_spreadsheets.csv(table))


def require(failures: Mapping[object, Failure], asked: int, allowed: float, run: str | Path, step: str) -> str:
    """List the requests that found no answer, and raise when they are more than the allowed share.

    Each step that asks calls it after all its answers are on disk. Refused requests do not count. The terminal is told
    how many are missing.

    Args:
        failures: Why requests have no answer, by what names them.
        asked: How many requests there were.
        allowed: Share of them that may lack an answer.
        step: The task's name, such as 05_answer_generation-qwen-7b.

    Returns:
        How many are missing, in words.

    Raises:
        EndpointError: With how many are missing, the first of them, and the file that lists all.
    """
    missing = {str(name): failure.reason for name, failure in failures.items() if failure.kind == UNANSWERED}
    listed = files.missing(run, step)
    if not missing:
        listed.unlink(missing_ok=True)
        if not asked:
            return "nobody was asked"
        return f"all of {asked} requests have an answer or were refused by the provider"
    write(missing, run, step)
    found = f"{len(missing)} of {asked} requests have no answer"
    if len(missing) > allowed * asked + 1e-9:  # 0.29 x 100 is a little less than 29
        first = ", ".join(list(missing)[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        raise EndpointError(
            f"{found} ({first}; the first: {next(iter(missing.values()))}), more than allowed_missing = {allowed:g}; "
            f"all are in {files.shown(listed)}; the answers are cached; run again to ask for the rest"
        )
    said = f"{found}, listed in {files.shown(listed)}; the next run asks for them again"
    files.tell(said)
    return said
