"""Asking a provider that takes a second per answer: our client, a plain loop, OpenAI's client with a semaphore."""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import openai

from benchmarks.table import Row
from cbtllm_utils.llm import client

MEAN, SPREAD, IN_FLIGHT = 1.0, 0.5, 200  # seconds per answer; requests at a time
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
REPLY = "听得出来，这段时间你很不容易。" * 35  # 525 characters; the paper's replies have 522.8 on average (Table 1)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection, each after a random time."""
    choice = {"index": 0, "message": {"role": "assistant", "content": REPLY}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 900, "completion_tokens": 700, "total_tokens": 1600}
    answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "slow", "choices": [choice]}
    body = json.dumps(answer | {"usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    draw = random.Random(writer.get_extra_info("peername")[1])
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            asked = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(asked.split(b"content-length:")[1].split(b"\r\n")[0]))
            await asyncio.sleep(draw.uniform(MEAN - SPREAD, MEAN + SPREAD))
            writer.write(head + body)
            await writer.drain()
    writer.close()


async def server() -> None:
    """Print the port and serve until the process is ended."""
    running = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(running.sockets[0].getsockname()[1], flush=True)
    await running.serve_forever()


def requests(number: int) -> list[dict]:
    """Return requests of the study's size: a prompt of 474 characters, posts of 190."""
    prompt = {"role": "system", "content": "提示" * 237}
    posts = [{"role": "user", "content": f"帖{i}" + "述" * 185} for i in range(number)]
    return [{"id": i, "model": "slow", "messages": [prompt, post]} for i, post in enumerate(posts)]


def ours(url: str, number: int, path: Path) -> None:
    """Ask through `client.complete`: retried, cached, on disk before an answer counts."""
    answers, failed = client.complete(requests(number), endpoint=url, cache_path=path, concurrency=IN_FLIGHT)
    assert len(answers) == number and not failed


def loop(url: str, number: int, path: Path) -> None:
    """Ask one after another with OpenAI's client, and append a line after each answer."""
    asking = openai.OpenAI(api_key="none", base_url=url)
    with path.open("a", encoding="utf-8") as file:
        for request in requests(number):
            file.write(asking.chat.completions.create(**client.body(request)).model_dump_json() + "\n")


def semaphore(url: str, number: int, path: Path) -> None:
    """Ask with OpenAI's asynchronous client and as many requests in flight, and append a line after each answer."""

    async def main() -> None:
        free = asyncio.Semaphore(IN_FLIGHT)
        with path.open("a", encoding="utf-8") as file:
            async with openai.AsyncOpenAI(api_key="none", base_url=url) as asking:

                async def ask(request: dict) -> None:
                    async with free:
                        answer = await asking.chat.completions.create(**client.body(request))
                        file.write(answer.model_dump_json() + "\n")

                await asyncio.gather(*map(ask, requests(number)))

    asyncio.run(main())


def rate(ask: Callable[[str, int, Path], None], number: int) -> float:
    """Return requests per second, against a server in a process of its own."""
    os.environ["OPENAI_API_KEY"] = "none"
    for name in PROXIES:
        os.environ.pop(name, None)
    command = [sys.executable, "-m", "benchmarks.asking"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running,
        tempfile.TemporaryDirectory() as folder,
    ):
        try:
            url = f"http://127.0.0.1:{int(running.stdout.readline())}/v1"
            start = time.monotonic()
            ask(url, number, Path(folder) / "responses.jsonl")
            return number / (time.monotonic() - start)
        finally:
            running.kill()


def rows() -> Iterator[Row]:
    """Yield requests per second beside a plain loop, a semaphore, and what latency allows."""
    mine = rate(ours, 4000)
    name = f"requests per second, {MEAN:g} s ± {SPREAD:g} s each, {IN_FLIGHT} at a time"
    ideal = IN_FLIGHT / MEAN
    yield Row(name, mine, "bound by latency alone", ideal, "at least 0.9 of it", mine >= 0.9 * ideal)
    yield Row("… the same", mine, "OpenAI's client with a semaphore", rate(semaphore, 4000))
    yield Row("… the same", mine, "a loop, one after another (20 requests)", rate(loop, 20))


if __name__ == "__main__":
    asyncio.run(server())
