"""A key from the environment is in no file, line, log, traceback or page, however a provider echoes it."""

import os
import subprocess
import sys
import traceback

import pytest
from provider import KEY, answered, bad, good

from cbtllm_utils import files
from cbtllm_utils.llm import batch_api, client

REQUESTS = [{"id": i, "model": "m", "messages": [{"role": "user", "content": f"帖{i}"}]} for i in range(6)]
EVIL = f"\x1b[2J Bearer {KEY} \u202e"


def echo(body, call):
    """The key in every place of an answer, or of an error."""
    headers = {"x_request_id": KEY, "Location": KEY, "Set-Cookie": f"k={KEY}", "openai-organization": KEY}
    if call in (1, 3):
        return bad(400, f"content filter {EVIL}", f"content_filter {KEY}", **headers)
    if call == 4:
        return 200, f"<html>{KEY}</html>".encode(), {"Content-Type": "text/html", "x-echo": KEY}
    status, content, _ = good(body, f"答{EVIL}")
    return status, content | {"model": EVIL, "id": KEY, "system_fingerprint": KEY, "service_tier": KEY}, headers


def leaks(folder):
    return [p.name for p in folder.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


def line(call):
    """The same in a line of a batch's output."""
    number = int(call["body"]["messages"][0]["content"][1:])
    if number == 1:
        return answered(call["custom_id"], *bad(400, f"content filter {EVIL}", KEY)[:2]) | {"id": KEY}
    if number == 2:
        return answered(call["custom_id"], 200, {"choices": EVIL}) | {"error": {"code": KEY, "message": EVIL}}
    return answered(call["custom_id"], 200, good(call["body"], EVIL)[1] | {"model": EVIL, "id": KEY})


@pytest.mark.parametrize("ask", [client.complete, batch_api.complete])
def test_an_echo_stays_out_of_files_reasons_and_bars(server, tmp_path, capfd, ask):
    server.script, server.line = echo, line
    more = {"poll_seconds": 0.01} if ask is batch_api.complete else {"concurrency": 1}
    url = f"http://127.0.0.1:{server.server_port}/v1"
    answers, failed = ask(REQUESTS, endpoint=url, cache_path=tmp_path / "responses.jsonl", **more)
    assert answers and failed
    out, err = capfd.readouterr()
    assert KEY not in f"{answers} {failed} {out} {err}" and leaks(tmp_path) == []
    sent = [content for name, content in server.files.items() if name.startswith("file-")]
    assert not any(KEY.encode() in content for content in sent), "what is uploaded holds no key"
    assert "\x1b" not in str(failed) + err.replace("\x1b[A", "")


REFUSALS = {
    "the key": lambda path, content: bad(401, f"Incorrect API key {EVIL}", "invalid_api_key"),
    "the batch": lambda path, content: bad(400, EVIL, KEY) if path.endswith("/batches") else None,
    "an id": lambda path, content: (200, {"id": f"batch_{KEY}", "object": "batch"}, {}) if "batches" in path else None,
}


@pytest.mark.parametrize("refuse", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_batch_says_why_without_the_key(server, tmp_path, monkeypatch, capfd, refuse):
    taken = server.taken
    monkeypatch.setattr(server, "taken", lambda path, content: refuse(path, content) or taken(path, content))
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with pytest.raises(files.InputError) as error:
        batch_api.complete(REQUESTS, endpoint=url, cache_path=tmp_path / "responses.jsonl", max_retries=0)
    told = "".join(traceback.format_exception(error.value)) + repr(error.getrepr(chain=True, showlocals=False))
    assert KEY not in told + "".join(capfd.readouterr()) and leaks(tmp_path) == []


PROGRAM = """
import sys
from cbtllm_utils.llm import client
requests = [{"id": i, "model": "m", "messages": [{"role": "user", "content": "x"}], "attempt": i} for i in range(6)]
print(client.complete(requests, endpoint=sys.argv[1], cache_path=sys.argv[2], concurrency=1))
raise SystemExit(client.complete(requests[:1], endpoint="replay:" + sys.argv[1], cache_path=sys.argv[2]))
"""


def test_neither_a_debugging_log_nor_an_uncaught_error_holds_the_key(server, tmp_path):
    """OPENAI_LOG=debug makes the client tell of every request and answer."""
    server.script = echo
    url = f"http://127.0.0.1:{server.server_port}/v1"
    env = os.environ | {"OPENAI_LOG": "debug", "PYTHONPATH": str(files.ROOT), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", PROGRAM, url, str(tmp_path / "cache")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=files.ROOT, check=False)
    assert "Traceback" in done.stderr and "HTTP Request" in done.stderr
    assert KEY not in done.stdout + done.stderr and leaks(tmp_path) == []
