"""Forty inputs by people who had not seen the code: what servers and networks do to whoever asks 22,327 questions.

Each case has twelve posts, and says what must be in the data set, what must be listed as lost and in which words, and
what the last line must say (`provider_cases.json`; the keys are those of `outcome` below). Here they go through what
notebook 02 calls, side by side, since many wait; those that change the environment go one by one.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from scripted_provider import Provider

from cbtllm_utils import files
from cbtllm_utils.cbt_qa import dataset
from cbtllm_utils.data import prompts
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.llm import budget, client, completeness, pacing
from cbtllm_utils.llm.settings import ProviderSettings
from cbtllm_utils.text import reply_checks

CASES = json.loads(Path(__file__).with_name("provider_cases.json").read_text(encoding="utf-8"))
STEP = "02_dataset_generation"
TEXTS = ["".join(text for _, text in row["sections"]) for row in files.read_jsonl("data/sample/recorded_replies.jsonl")]
REPLY = next(text for text in TEXTS if 430 <= len(text) <= 480 and text.endswith("。"))
CUT = REPLY[: int(len(REPLY) * 0.8)].rstrip("。！？”…，、；：\n")
POSTS = [
    Question(1000 + n, f"样本{n:02d}，{row['question']}", row["description"], (), ())
    for n, row in enumerate(files.read_json("data/sample/psyqa_sample.json")[:12], 1)
]


def run(settings: dict, port: int, folder: Path) -> tuple[dict[int, str], dict[int, str], str]:
    """Ask as notebook 02 does; return the replies and the losses by post, and the error that ended the run or ""."""
    given = {"endpoint": "http://127.0.0.1:{port}/v1", "max_retries": 3, "timeout": 10, "concurrency": 4} | settings
    model, attempts = given.pop("model", "test-model"), given.pop("max_attempts", 2)
    sampling = given.pop("sampling", {})
    given["endpoint"] = given["endpoint"].replace("{port}", str(port))
    chosen, cache = ProviderSettings(**given), folder / "responses.jsonl"
    asking = {"endpoint": chosen.endpoint, "cache_path": cache}
    outcome, error = dataset.Outcome(), ""

    def listed(requests: list[dict]) -> tuple:
        return completeness.ask(requests, folder, STEP, price=chosen.price(model), **asking, **chosen.limits())

    try:
        outcome = dataset.generate(
            POSTS,
            prompts.read("params/prompts/cbt_prompt.zh.md"),
            listed,
            rules=reply_checks.Rules(),
            max_attempts=attempts,
            model=model,
            sampling=sampling,
        )
        completeness.require(outcome.dropped, len(POSTS), chosen.allowed_missing, folder, STEP)
        dataset.require_replies(outcome)
    except files.InputError as stopped:
        error = str(stopped)
    lost = {item - 1000: " ".join(failure) for item, failure in outcome.dropped.items()}
    if error and files.missing(folder, STEP).exists():
        table = files.read_csv(files.missing(folder, STEP))
        lost |= {int(item) - 1000: reason for item, reason in zip(table["id"], table["reason"], strict=True)}
    return {item - 1000: answer.text for item, answer in outcome.replies.items()}, lost, error


def outcome(step: dict, folder: Path, server: Provider) -> list[str]:
    """Run one step of a case and return what differs from what it expects."""
    replies, lost, error = run(dict(step.get("settings", {})), server.server_port, folder)
    requests, by_post = len(server.times), server.by_post
    expected = step["expected"]
    price = step.get("settings", {}).get("prices", {}).get("test-model")
    cost = sum(
        budget.cost_of(row["prompt_tokens"], row["completion_tokens"], price)
        for row in client.response_cache.read(folder / "responses.jsonl").values()
    )
    checks = {
        "exit": lambda value: (value == "zero") == (error == ""),
        "in_data_set": lambda value: error or sorted(replies) == value,
        "lost": lambda value: all(
            any(word.lower() in lost.get(int(post), "").lower() for word in why.get("reason_holds_any", [""]))
            for post, why in value.items()
        ),
        "output_holds_any": lambda value: all(any(word.lower() in error.lower() for word in any_) for any_ in value),
        "output_lacks": lambda value: not any(word in error for word in value),
        "requests_max": lambda value: requests <= value,
        "requests_min": lambda value: requests >= value,
        "requests_to_post": lambda value: all(by_post.get(int(post), 0) == n for post, n in value.items()),
        "replies_hold": lambda value: all(
            text.replace("{reply}", REPLY) in replies[int(post)] for post, texts in value.items() for text in texts
        ),
        "replies_lack": lambda value: (
            not any(text in replies.get(int(post), "") for post, texts in value.items() for text in texts)
        ),
        "cost_max": lambda value: cost <= value,
        "error_lines_max": lambda value: error.count("\n") < value,
    }
    state = f"{len(replies)} replies, lost {lost}, {requests} requests {by_post}, {error!r}"
    return [
        f"{key} = {expected[key]}: {state}"
        for key, check in checks.items()
        if key in expected and not check(expected[key])
    ]


def differing(case: dict, folder: Path) -> list[str]:
    """Return what differs in any of a case's runs over one folder."""
    folder.mkdir()
    found = []
    for number, step in enumerate([case, *case.get("then", [])], 1):
        with Provider(step["server"].get("rules", []), REPLY, CUT) as server:
            found += [f"{case['id']}, run {number}: {text}" for text in outcome(step, folder, server)]
    return found


@pytest.fixture(autouse=True)
def _key_and_short_waits(monkeypatch):
    monkeypatch.setattr(pacing, "SHORTEST_WAIT", 0.1)  # seconds before the second try
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")


ENVIRONMENT = [case for case in CASES if any("environment" in step for step in [case, *case.get("then", [])])]


def test_what_servers_do_loses_nothing_and_is_told(tmp_path):
    cases = [case for case in CASES if case not in ENVIRONMENT]
    with ThreadPoolExecutor(len(cases)) as pool:
        found = list(pool.map(lambda case: differing(case, tmp_path / case["id"]), cases))
    assert [text for texts in found for text in texts] == []


@pytest.mark.parametrize("case", ENVIRONMENT, ids=[case["id"] for case in ENVIRONMENT])
def test_what_proxies_and_keys_do_is_told(case, tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    folder = tmp_path / "run"
    folder.mkdir()
    for number, step in enumerate([case, *case.get("then", [])], 1):
        with Provider(step["server"].get("rules", []), REPLY, CUT) as server, monkeypatch.context() as patch:
            for name, value in step.get("environment", {}).items():
                patch.setenv(name, value.replace("{port}", str(server.server_port)))
            found = outcome(step, folder, server)
        assert found == [], f"{case['id']}, run {number}"
