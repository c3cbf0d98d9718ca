"""A step whose requests found no answer fails, names them, and is asked for them by the next `make reproduce`."""

import json
import os
import shutil
import subprocess
import sys
import threading

import pandas as pd
import pytest
from provider import KEY, bad, good

from cbtllm_utils import files
from cbtllm_utils.data import prompts, psyqa
from cbtllm_utils.workflow import graph

PROMPT, SAMPLE = "params/prompts/cbt_prompt.zh.md", "data/sample/psyqa_sample.json"
RECORDED = files.read_jsonl("data/sample/recorded_replies.jsonl")
REPLY = "".join(text for _, text in RECORDED[0]["sections"])
LEFT_AROUND = (  # what servers leave around a whole reply, and a disclaimer before one
    "<think>\n用户很难过，先共情。\n</think>\n\n{}<|im_end|>",
    "好的，用户很难过，先共情。\n</think>\n\n{}",
    "assistant\n{}",
    "<|im_start|>assistant\n{}<|im_end|>\n<|endoftext|>",
    "作为人工智能，我无法替代专业治疗，但我愿意陪你一起看看。{}",
    "对不起，我不能提供医疗建议，不过我们可以一起想一想。{}",
)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository with one profile of one notebook, which asks 30 posts."""
    for name in ("cbtllm_utils", "notebooks", "data", "params"):
        shutil.copytree(files.path(name), tmp_path / name)
    run = tmp_path / "runs/few"
    files.write_json(run / "prompts/cbt.json", prompts.record(prompts.read(PROMPT), PROMPT))
    return tmp_path


def reproduce(checkout, **options):
    """Run the profile as `make reproduce` does."""
    skip = [step.notebook for step in graph.STEPS if step.notebook != "02_dataset_generation"]
    section = {
        "limit": 30,
        "model": "m",
        "max_attempts": 1,
        "concurrency": 30,
        "max_retries": 0,
        "topics": None,
        "reader_endpoint": None,
    } | options
    content = {"skip": skip, "common": {"conditions": "a test"}, "02_dataset_generation": section}
    files.write_json(checkout / "params/few.yaml", content)  # JSON is YAML
    command = [sys.executable, "-m", "cbtllm_utils.workflow.pipeline", "--profile", "few"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "NO_PROXY": "127.0.0.1", "OPENAI_API_KEY": KEY}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def test_requests_without_an_answer_fail_the_run_and_the_next_run_asks_for_them_alone(server, checkout):
    """A1: 22 of 30 posts answered 429 to the end, then a healthy server; A6 and A10: what surrounds whole replies."""
    posts, _ = psyqa.read(SAMPLE)
    contents = [prompts.enclosed(post.question, post.description) for post in posts[:30]]
    limited, run = True, checkout / "runs/few"
    together = threading.Barrier(30)  # all are under way before the first refusal slows the others down

    def script(body, call):
        place = contents.index(body["messages"][-1]["content"])
        if limited and call <= 30:
            together.wait(60)
        if limited and place % 4:
            return bad(429, "Rate limit reached for requests", "rate_limit_exceeded", retry_after_ms=1)
        return good(body, LEFT_AROUND[place].format(REPLY) if place < len(LEFT_AROUND) else REPLY)

    server.script = script
    endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    done = reproduce(checkout, endpoint=endpoint)
    listed = pd.read_csv(run / "missing/02_dataset_generation.csv")
    lost = [post.questionID for place, post in enumerate(posts[:30]) if place % 4]
    assert done.returncode != 0 and not (run / "cbt_qa/cbt_qa.jsonl").exists()
    assert sorted(listed["id"]) == sorted(lost) and len(lost) == 22
    assert listed["reason"].str.contains("Rate limit reached").all()
    assert "22 of 30 requests have no answer" in done.stdout + done.stderr
    assert "runs/few/missing/02_dataset_generation.csv" in done.stdout + done.stderr
    dropped = pd.read_csv(run / "cbt_qa/dropped.csv")
    assert dropped["kind"].value_counts().to_dict() == {"not asked": 330, "no answer": 22}

    limited, before = False, len(server.asked)
    done = reproduce(checkout, endpoint=endpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = [contents.index(body["messages"][-1]["content"]) for body in server.asked[before:]]
    assert sorted(posts[place].questionID for place in asked) == sorted(lost)
    items = files.read_jsonl(run / "cbt_qa/cbt_qa.jsonl")
    assert [item["questionID"] for item in items] == [post.questionID for post in posts[:30]]
    replies = [item["reply"] for item in items]
    assert replies[:4] == [REPLY] * 4 and set(replies[6:]) == {REPLY}
    assert replies[4:6] == [form.format(REPLY) for form in LEFT_AROUND[4:]]
    card = (run / "cbt_qa/README.md").read_text(encoding="utf-8")
    assert "control token from 2 replies, role name from 2 replies, thinking block from 2 replies" in card
    assert "<think>" in (run / "cbt_qa/responses.jsonl").read_text(encoding="utf-8"), "the cache keeps what came"
    missing = run / "missing/02_dataset_generation.csv"
    assert not missing.exists()

    missing.write_text("id,reason\n1,late\n", encoding="utf-8")  # as a run leaves it whose profile allows some
    done = reproduce(checkout, endpoint=endpoint)
    assert done.returncode == 0 and not missing.exists(), done.stdout + done.stderr
    assert len(server.asked) == before + 22, "what was answered is not asked again"


def test_half_of_the_readings_missing_fails_the_run_and_the_next_run_asks_for_them_alone(server, checkout):
    """The second reader's requests are counted and listed as those for replies are."""
    posts, run = psyqa.read(SAMPLE)[0][:30], checkout / "runs/few"
    contents = [prompts.enclosed(post.question, post.description) for post in posts]
    nothing, down = json.dumps({"findings": [], "severity": "none"}), True

    def script(body, call):
        if "response_format" not in body:
            return good(body, REPLY)
        place = contents.index(body["messages"][-1]["content"])
        return bad(500, "internal error") if down and place % 2 else good(body, nothing)

    server.script = script
    endpoint = f"http://127.0.0.1:{server.server_port}/v1"
    options = {"endpoint": endpoint, "reader_endpoint": endpoint, "reader_model": "r", "concurrency": 1}
    done = reproduce(checkout, **options)
    assert done.returncode != 0 and "15 of 30 requests have no answer" in done.stdout + done.stderr
    listed = pd.read_csv(run / "missing/02_dataset_generation.csv")
    assert sorted(listed["id"]) == sorted(f"{post.questionID} (second reader)" for post in posts[1::2])
    assert {body["model"] for body in server.asked} == {"r"}, "replies are not paid for before it reads"

    down, before = False, len(server.asked)
    done = reproduce(checkout, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    again = [contents.index(b["messages"][-1]["content"]) for b in server.asked[before:] if b["model"] == "r"]
    assert sorted(again) == list(range(1, 30, 2)) and len(server.asked) == before + 15 + 30
    assert not (run / "missing/02_dataset_generation.csv").exists()
    before = len(server.asked)
    assert reproduce(checkout, **options).returncode == 0 and len(server.asked) == before
