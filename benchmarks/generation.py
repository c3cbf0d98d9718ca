"""Asking a provider that takes a second an answer: our client beside what a user would write."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import openai
import psutil

from benchmarks.table import Row
from cbtllm_utils import published
from cbtllm_utils.llm import client as endpoint
from cbtllm_utils.llm import completions

MEAN, SPREAD, IN_FLIGHT = 1.0, 0.5, 200  # seconds an answer, requests at a time
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@contextlib.contextmanager
def provider() -> Iterator[str]:
    """The base URL of a slow server, in a process of its own."""
    os.environ["OPENAI_API_KEY"] = "none"
    for name in PROXIES:
        os.environ.pop(name, None)
    command = [sys.executable, str(Path(__file__).with_name("slow_server.py")), str(MEAN), str(SPREAD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        finally:
            server.kill()


def requests(number: int) -> list[dict]:
    """Requests of the study's size: a prompt of 474 characters, posts of 190."""
    prompt = {"role": "system", "content": "提示" * 237}
    return [
        {"id": i, "model": "slow", "messages": [prompt, {"role": "user", "content": f"帖{i}" + "述" * 185}]}
        for i in range(number)
    ]


def ours(url: str, number: int, path: Path) -> None:
    """Through `endpoint.complete`, with its journal."""
    answers, failed = endpoint.complete(requests(number), endpoint=url, cache_path=path, concurrency=IN_FLIGHT)
    assert len(answers) == number and not failed


def one_by_one(url: str, number: int, path: Path) -> None:
    """A loop over the OpenAI client, a line appended after each answer."""
    client = openai.OpenAI(api_key="none", base_url=url)
    with path.open("a", encoding="utf-8") as file:
        for request in requests(number):
            answer = client.chat.completions.create(**completions.body(request))
            file.write(answer.model_dump_json() + "\n")


def paced(url: str, number: int, path: Path) -> None:
    """As parallel scripts do: tasks started at the pace of the rate limit, each retried, each answer appended."""

    async def call(client: httpx.AsyncClient, request: dict) -> None:
        for attempt in range(5):
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.post(f"{url}/chat/completions", json=completions.body(request), timeout=60)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([request, answer.json()]) + "\n")
                return
            await asyncio.sleep(2**attempt)

    async def main() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(limits=limits) as client:
            tasks, pause = [], MEAN / IN_FLIGHT  # 200 requests a second leave 200 in flight
            start = time.monotonic()
            for place, request in enumerate(requests(number)):
                tasks.append(asyncio.create_task(call(client, request)))
                await asyncio.sleep(max(0.0, start + (place + 1) * pause - time.monotonic()))
            await asyncio.gather(*tasks)

    asyncio.run(main())


def measured(work: Callable, number: int) -> tuple[float, float, float, float]:
    """Seconds, and the process's memory in MiB at a tenth and at nine tenths of the way, and at most, when all answers
    are handed over."""
    sizes, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            sizes.append(psutil.Process().memory_info().rss / 2**20)

    with provider() as url, tempfile.TemporaryDirectory() as folder:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        start = time.monotonic()
        work(url, number, Path(folder) / "answers.jsonl")
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    return seconds, sizes[len(sizes) // 10], sizes[len(sizes) * 9 // 10], max(sizes)


def resumed(number: int) -> tuple[float, float]:
    """Seconds to find that nothing is missing in a journal of so many answers, and for json alone to read its lines."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.jsonl"
        text = "听得出来，这段时间你很不容易。" * 35
        with path.open("w", encoding="utf-8") as file:
            for request in requests(number):
                entry = {"hash": completions.request_hash(request), "id": request["id"], "model": "slow", "text": text}
                entry |= {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "attempts": 1}
                file.write(json.dumps(entry) + "\n")
        asked = requests(number)
        start = time.monotonic()
        answers, _ = endpoint.complete(asked, endpoint="http://127.0.0.1:9/v1", cache_path=path)
        ours_took = time.monotonic() - start
        assert len(answers) == number
        start = time.monotonic()
        found = [json.loads(line) for line in path.open(encoding="utf-8")]
        assert len(found) == number
        return ours_took, time.monotonic() - start


def rows() -> Iterator[Row]:
    """The paper's number of questions against the ideal and against scripts; a journal of that size read again."""
    number = int(published.value("text", "items", "value"))
    ideal = number * MEAN / IN_FLIGHT
    seconds, early, late, peak = measured(ours, number)
    name = f"{number:,} requests, {MEAN:g} s ± {SPREAD:g} s each, {IN_FLIGHT} at a time"
    yield Row(name, seconds, "bound by latency alone", ideal, "at least 0.95 of the ideal", ideal / seconds >= 0.95)
    yield Row("… memory at nine tenths, MiB", late, "at a tenth", early, "flat, within 5 %", late < 1.05 * early)
    yield Row("… memory at most, MiB, with all answers", peak, "at a tenth", early, "< 300", peak < 300)
    fewer = 2000
    seconds, paced_took = measured(ours, fewer)[0], measured(paced, fewer)[0]
    yield Row(f"{fewer:,} such requests", seconds, "paced tasks, append, retry, no resume", paced_took)
    single = measured(one_by_one, 20)[0] / 20
    yield Row("… a request", seconds / fewer, "one after another (of 20)", single)
    again, plain = resumed(number)
    yield Row(
        f"a journal of {number:,} answers: nothing is missing",
        again,
        "json.loads of its lines",
        plain,
        "< 3 s",
        again < 3,
    )
