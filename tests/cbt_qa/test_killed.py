"""kill -9 at twenty random moments of one run: nothing paid is lost, nothing is asked twice but what was in flight."""

import collections
import multiprocessing
import os
import random
import signal
import time

import killed
from provider import good

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import client
from cbtllm_utils.llm.failure import Failure

POSTS, KILLS = 300, 20
REPLY = "".join(text for _, text in files.read_jsonl("data/sample/recorded_replies.jsonl")[0]["sections"])


def test_kill_nine_at_twenty_moments(server, tmp_path, monkeypatch):
    path, draw, served = tmp_path / "responses.jsonl", random.Random(0), collections.Counter()
    url = f"http://127.0.0.1:{server.server_port}/v1"

    def script(body, call):
        post = body["messages"][-1]["content"]
        time.sleep(draw.uniform(0.005, 0.03))
        with server.lock:
            served[post] += 1
        return good(body, "短。" if "坏" in post else REPLY)

    server.script = script
    monkeypatch.setenv(
        "PYTHONPATH", str(files.ROOT / "tests/support")
    )  # where the fork server finds what it loads once
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killed"])
    lost = collections.Counter()
    for _ in range(KILLS):
        until = len(server.asked) + draw.randint(5, 25)
        child = context.Process(target=killed.generate, args=(url, path, POSTS))
        child.start()
        while child.is_alive() and len(server.asked) < until:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        time.sleep(0.05)  # those in flight come to their end in the server
        cached = collections.Counter(entry["id"] for entry in response_cache.read(path).values())
        before = lost.copy()
        for post, times in served.items():
            lost[post] = times - cached[int(post.partition("问题〉问")[2].partition("〈")[0])]
        assert sum((lost - before).values()) <= killed.IN_FLIGHT
    outcome = killed.generate(url, path, POSTS)
    bad = {post.questionID for post in killed.posts(POSTS) if post.description == "坏"}
    assert outcome.replies.keys() == {post.questionID for post in killed.posts(POSTS)} - bad
    assert outcome.dropped == dict.fromkeys(sorted(bad), Failure("failed the check", "too short, 2 times asked"))
    wanted = collections.Counter({post: 2 if "坏" in post else 1 for post in served})
    assert len(served) == POSTS and served == wanted + lost, "served once, or again when a kill had taken the answer"
    assert 0 < sum(lost.values()) <= KILLS * killed.IN_FLIGHT
    assert len(response_cache.read(path)) == POSTS + len(bad)
    assert client.complete([], endpoint=url, cache_path=path) == ([], {})
