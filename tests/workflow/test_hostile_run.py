"""Notebook 02 with hostile posts and a hostile provider: nothing runs, nothing is markup, the key is nowhere."""

import csv
import json
import re

import nbformat
import pytest
from provider import KEY, bad, good

from cbtllm_utils import files
from cbtllm_utils.data import prompts
from cbtllm_utils.workflow import release, report, run

MARKUP = "<script>alert('x')</script><img src=x onerror=alert(1)>"
STEERING = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\x00"
REPLIES = [
    "".join(text for _, text in row["sections"]) for row in files.read_jsonl("data/sample/recorded_replies.jsonl")
]
TEXTS = (
    "=HYPERLINK(1)",
    MARKUP,
    STEERING,
    "\u2028| a | b |\r\n",
    "{{ 7*7 }} %s $\\frac{ \\input{/etc/passwd}",
    "../../x",
)
IDS = (*range(1, 12), "=1+1", "@SUM(1)", "<b>bold</b>", "../../id", "\x1b[31m", "\ud83d", 2**64)


def posts():
    """Posts whose every text is hostile, three of them with an id that nothing can hold, one that nobody can read."""
    texts = [TEXTS[i % len(TEXTS)] for i in range(len(IDS))]
    found = [
        {"questionID": name, "question": f"{text}问{i}", "description": f"我很难过{text}", "answers": [f"抱抱{text}"]}
        for i, (name, text) in enumerate(zip(IDS, texts, strict=True))
    ]
    return [*found, {"question": "半\ud83d"}]


def hostile(body, call):
    """Good replies with hostile ends, the key in all that a provider can say, and half a character."""
    number = int(re.search(r"问(\d+)", body["messages"][-1]["content"])[1])
    echo = {"x_request_id": KEY, "Set_Cookie": f"k={KEY}", "openai_organization": KEY}
    match number:
        case 1:
            return bad(400, f"content filter {MARKUP}{STEERING} Bearer {KEY}", "content_filter", **echo)
        case 2:
            return bad(400, {"key": KEY}, f"content_filter {KEY}", **echo)
        case 3:
            return 200, f"<html>{KEY}</html>".encode(), {"Content-Type": "text/html"}
        case 4:
            return good(body, REPLIES[number] + "\ud83d")
        case 5:
            return good(body, "啊" * 2_000_000 + "。")
    status, content, _ = good(body, f"{TEXTS[number % len(TEXTS)]}{REPLIES[number]}{STEERING}{KEY}")
    content |= {"model": f"=m{MARKUP}{STEERING}{KEY}", "id": KEY, "system_fingerprint": KEY}
    return status, content, echo


@pytest.fixture
def asked(server, tmp_path, monkeypatch):
    """A function that runs notebook 02 against the provider."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "posts.json").write_text(json.dumps(posts()))
    folder, prompt = tmp_path / "run", "params/prompts/cbt_prompt.zh.md"
    files.write_json(folder / "prompts" / "cbt.json", prompts.record(prompts.read(prompt), prompt))
    given = {
        "run": str(folder),
        "questions": str(tmp_path / "posts.json"),
        "topics": "null",
        "model": "m",
        "reader_endpoint": "null",
    }
    given |= {"endpoint": f"http://127.0.0.1:{server.server_port}/v1", "max_attempts": 1, "min_components": 0}
    # One at a time: a web page before the first answer would rightly stop the run, and threads decide on the order.
    given |= {"allowed_missing": 0.1, "concurrency": 1}
    words = [f"{name}={value}" for name, value in given.items()]
    return folder, lambda: run.main(["02_dataset_generation", "--profile", "ci", *words])


def leaks(folder):
    """The files of a run that hold the key."""
    return [p.name for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def test_hostile_posts_and_answers_are_text_everywhere_and_the_key_is_nowhere(asked, server, tmp_path, capfd):
    folder, go = asked
    server.script = hostile
    assert go() == 0
    out, err = capfd.readouterr()
    assert KEY not in out + err and leaks(folder) == []
    assert "\x1b" not in out + err.replace("\x1b[A", ""), "a bar may go up a line"
    with (folder / "cbt_qa" / "dropped.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    dropped, reasons = {line["questionID"]: line for line in lines}, [line["reason"] for line in lines]
    assert sum("questionID is text that a file cannot hold" in reason for reason in reasons) == 3
    assert [dropped[name]["reason"].split(",")[0] for name in "56"] == ["a character is broken", "too long"]
    kinds = {name: line["kind"] for name, line in dropped.items()}
    assert [kinds[name] for name in "23456"] == [
        *("refused by the provider", "refused by the provider", "no answer", "failed the check", "failed the check")
    ]
    assert len(reasons) == 9
    items = files.read_jsonl(folder / "cbt_qa" / "cbt_qa.jsonl")
    assert {item["questionID"] for item in items} == {1, *range(7, 12), *IDS[11:15]}
    assert all(item["reply"].endswith(f"{STEERING}…") for item in items if item["questionID"] != 1)
    executed = nbformat.read(folder / "notebooks" / "02_dataset_generation.ipynb", 4)
    shown = [o.data.get("text/html", "") for c in executed.cells for o in c.get("outputs", []) if "data" in o]
    assert not re.search(r"<script|<img|onerror=alert\(1\)>|<b>bold", "".join(shown)) and "&lt;script" in "".join(shown)
    body = report.chapter("02_dataset_generation", release.stripped(executed))["body"]
    assert KEY not in body and not re.search(r"<script>alert|<img src=x|<b>bold", body) and "&lt;script" in body
    assert {p.name for p in tmp_path.iterdir()} == {"run", "posts.json"}, "nothing lies beside the run"


def test_a_refused_key_is_in_no_file_and_no_line(asked, server, capfd):
    folder, go = asked
    server.script = lambda body, call: bad(401, f"Incorrect API key {KEY}{STEERING}", "invalid_api_key", x_key=KEY)
    assert go() == 1
    out, err = capfd.readouterr()
    # Not how far it is, when slow; nor what the library of the kernel's sockets says of a kernel that is shutting down.
    ours = [
        line for line in err.splitlines(True) if not re.match(r"      02_|Assertion failed: .*\(src/\w+\.cpp:", line)
    ]
    err = "".join(ours)
    assert out == "" and err.startswith("error: 02_dataset_generation: cell ") and err.count("\n") == 1
    assert "Incorrect API key …�[2J" in err and KEY not in err and err.rstrip("\n").isprintable()
    assert (folder / "notebooks" / "02_dataset_generation.failed.ipynb").exists() and leaks(folder) == []
