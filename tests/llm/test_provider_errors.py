"""What providers really answer in place of an answer (provider_errors.json, each with its source), by a real server.

Where the source is a thread, it quotes the body; where it is a page, that documents status, code or words. "ours" are
not recorded.
"""

import json
import re
import socket
import ssl
import subprocess
import threading

import pytest
from provider import Server, bad, good

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import client, errors

SHAPES = files.read_json("tests/llm/provider_errors.json")


@pytest.fixture
def complete(server, tmp_path):
    def asking(number=3, **options):
        wanted = [{"id": i, "model": "m", "messages": [{"role": "user", "content": f"帖{i}"}]} for i in range(number)]
        options = {"endpoint": f"http://127.0.0.1:{server.server_port}/v1", "concurrency": 1} | options
        return client.complete(wanted, cache_path=tmp_path / "responses.jsonl", **options)

    return asking


def answer(shape):
    """The recorded response as `Server` sends it."""
    body = shape["body"]
    content = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return shape["status"], content.encode(), shape["headers"]


@pytest.mark.parametrize("shape", SHAPES, ids=[f"{s['provider']}-{s['words']}" for s in SHAPES])
def test_each_shape_means_what_it_says(complete, server, shape):
    """The first post meets the error: it alone is lost, or asked again, or the run stops; in the server's words."""
    first = shape["kind"] == "wait"
    server.script = lambda body, call: answer(shape) if (call == 1 if first else "帖0" in str(body)) else good(body)
    if shape["kind"] == "stop":
        with pytest.raises(errors.EndpointError) as stopped:
            complete()
        told = str(stopped.value)
        assert shape["words"] in told and "\n" not in told and told.endswith("; answers so far are cached")
        assert len(server.asked) == 1
        return
    answers, failed = complete(price={"input": 1, "output": 1}, budget=0.005)  # three of 0.0015
    if first:
        assert failed == {} and [a.attempts for a in answers] == [2, 1, 1], "a refusal is not paid for"
    else:
        kind = {"refused": errors.REFUSED, "unclear": errors.UNANSWERED}[shape["kind"]]
        assert len(answers) == 2 and failed.keys() == {0} and failed[0].kind == kind
        assert shape["words"] in failed[0].reason and len(server.asked) == 3


def test_every_provider_of_the_list_is_there():
    wanted = (
        "OpenAI Azure Zhipu Moonshot DashScope DeepSeek Qianfan MiniMax OpenRouter Ollama vLLM TGI llama.cpp".split()
    )
    assert set(wanted) <= {shape["provider"] for shape in SHAPES} and all(
        s["source"].startswith(("http", "ours")) for s in SHAPES
    )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda call: bad(400, f"Unsupported value: 'temperature' (request {call:04x}-{call})", "unsupported_value"),
        lambda call: bad(403, "Forbidden"),
        lambda call: (200, {"id": call, "base_resp": {"status_code": 1000, "status_msg": "unknown error"}}, {}),
    ],
)
def test_what_several_requests_in_a_row_agree_on_stops_the_run_and_one_alone_does_not(
    complete, server, tmp_path, wrong
):
    server.script = lambda body, call: wrong(call) if call > 2 else good(body)
    with pytest.raises(errors.EndpointError, match="5 requests in a row got no answer; the last: HTTP") as told:
        complete(100)
    assert len(server.asked) == 2 + errors.SEVERAL and "cached; run again" in str(told.value)
    assert len(response_cache.read(tmp_path / "responses.jsonl")) == 2
    server.script = lambda body, call: wrong(call) if call % 2 else good(body)
    answers, failed = complete(20, concurrency=1)
    assert {f.kind for f in failed.values()} == {errors.UNANSWERED} and len(answers) + len(failed) == 20


def test_posts_that_are_never_answered_keep_no_other_from_being_asked(complete, server):
    """Ten of thirty are refused in words that nobody knows; a run that was stopped goes on behind them."""

    def script(body, call):
        number = int(body["messages"][0]["content"][1:])
        return bad(400, "no") if number % 2 and number < 20 else good(body)

    server.script = script
    complete(20)
    answers, failed = complete(30)
    assert len(answers) == 20 and len(failed) == 10
    asked = len(server.asked)
    answers, failed = complete(30)
    assert len(answers) == 20 and len(failed) == 10 and len(server.asked) == asked + errors.SEVERAL
    assert {failure.kind for failure in failed.values()} == {errors.UNANSWERED}


def test_posts_that_are_refused_never_stop_a_run(complete, server):
    """Thirty in a row, as posts about self-harm may be."""
    server.script = lambda body, call: answer(SHAPES[16])
    answers, failed = complete(30)
    assert SHAPES[16]["provider"] == "Zhipu" and answers == [] and {f.kind for f in failed.values()} == {errors.REFUSED}


def test_an_outage_ends_with_one_line_and_not_after_every_request(complete, server):
    server.script = lambda body, call: bad(500, "down for maintenance")
    answers, failed = complete(1000, max_retries=2, concurrency=8)
    assert answers == [] and len(failed) == 1000 and len(server.asked) <= (8 + errors.SEVERAL) * 3
    assert {f.kind for f in failed.values()} == {errors.UNANSWERED}
    assert re.fullmatch(r"not asked: \d+ requests in a row got no answer; the last: HTTP 500 .*", failed[999].reason)
    server.script = lambda body, call: good(body)
    assert len(complete(1000, concurrency=8)[0]) == 1000, "a later run asks for the rest"


def test_a_limit_that_never_ends_is_given_up_after_so_many_refusals_in_a_row(complete, server):
    """Fifty at once are refused again and again, and nobody is answered: seven rounds, not fifty times seven tries."""
    server.script = lambda body, call: bad(429, "slow down")
    answers, failed = complete(1000, max_retries=6, concurrency=50)
    assert answers == [] and len(failed) == 1000 and len(server.asked) < 50 * 7 / 2


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def test_what_hinders_a_connection_is_told_with_its_cause(complete, tmp_path, monkeypatch):
    """A refused connection, a name that does not exist, a certificate that nobody signed: each on one line."""
    port = free_port()
    with pytest.raises(errors.EndpointError, match=rf"Connect call failed \('127.0.0.1', {port}\); nothing listens at"):
        complete(6, endpoint=f"http://127.0.0.1:{port}/v1", max_retries=1)
    _, failed = complete(6, endpoint="http://no-such-host.invalid/v1", max_retries=0)
    assert re.search(r"5 requests in a row .*(not known|resolution|No address)", failed[5].reason)
    pem = tmp_path / "own.pem"
    own = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*own, "-keyout", pem, "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    pem.write_text(pem.read_text() + (tmp_path / "cert.pem").read_text())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    with Server() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        with pytest.raises(errors.EndpointError, match=r"5 requests .*certificate verify failed: self.signed"):
            complete(6, endpoint=f"https://localhost:{running.server_port}/v1", max_retries=6)
        running.shutdown()


def test_a_server_of_this_machine_that_is_not_started_is_said_after_three_tries(complete):
    """Who forgot to start it is not to wait minutes; one that had answered may come back."""
    port = free_port()
    with pytest.raises(errors.EndpointError, match=rf"nothing listens at localhost:{port}: is the server started\?"):
        complete(6, endpoint=f"http://localhost:{port}/v1", max_retries=50)


def test_a_server_of_this_machine_that_had_answered_is_waited_for(complete, server):
    """It ends after its first answer, as one that somebody starts again."""

    def answers_and_ends(body, call):
        server.shutdown()
        server.socket.close()
        return good(body)

    server.script = answers_and_ends
    answers, failed = complete(2, max_retries=4, concurrency=1)
    assert len(answers) == 1 and len(failed) == 1 and "ConnectError" in failed[1].reason


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (504, "upstream took too long to respond", errors.WAIT),
        (408, "The request took too long to complete", errors.WAIT),
        (500, "请求处理时间过长，请重试", errors.WAIT),
        (500, "网络不良，请重试", errors.WAIT),
        (500, "Content moderation service timed out", errors.WAIT),
        (500, "Internal Server Error", errors.WAIT),
        (503, "Content filter unavailable, please retry", errors.LIMITED),
        (429, "超出TPM配额", errors.LIMITED),
        (429, "Resource has been exhausted (e.g. check quota).: RESOURCE_EXHAUSTED", errors.LIMITED),
        (403, "Access denied: content violates policy (self_harm)", errors.REFUSED),
        (403, "请求内容违反相关规定，无权访问", errors.REFUSED),
        (400, "内容涉及自杀、自残，无法生成", errors.REFUSED),
        (400, "Prompt was blocked due to safety", errors.REFUSED),
        (403, "您的IP不在白名单内", errors.STOP),
        (400, "参数 max_tokens 超出范围", errors.UNANSWERED),
        (403, "Access denied", errors.STOP),
        (400, "messages: text content blocks must be non-empty", errors.UNANSWERED),
    ],
)
def test_trouble_of_the_server_or_of_the_account_is_not_the_posts_and_the_other_way_round(status, said, kind):
    """A time-out taken for a refusal would be a loss that nobody asks for again."""
    assert errors.judge(status, json.dumps({"error": {"message": said}}, ensure_ascii=False)).kind == kind
