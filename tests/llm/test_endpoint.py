"""Who is asked, with which key, proxy and fields; what cannot work is one line before any request."""

import json
import sys

import pytest
from provider import KEY

from cbtllm_utils import files
from cbtllm_utils.llm import batch_api, client, endpoint

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
FAR = "http://api.example.org/v1"  # nobody answers there: only a proxy does


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url, folder, complete=client.complete, **sampling):
    """Ask one post."""
    own = {"id": 1, "model": "m", "messages": [{"role": "user", "content": "帖"}]} | sampling
    more = {"poll_seconds": 0.01} if complete is batch_api.complete else {}
    return complete([own], endpoint=url, cache_path=folder / f"{complete.__module__}.jsonl", **more)


def local(server):
    return f"http://127.0.0.1:{server.server_port}/v1"


@pytest.mark.parametrize("complete", [client.complete, batch_api.complete])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "OPENAI_API_KEY is not set or empty; export it (any text for a server that asks for no key)"),
        ("", "OPENAI_API_KEY is not set or empty; export it (any text for a server that asks for no key)"),
        (" \n", "OPENAI_API_KEY is not set or empty; export it (any text for a server that asks for no key)"),
        ("sk-0123\n456789", "OPENAI_API_KEY: character 8 is a line break; copy the key again, and nothing else"),
        ("sk-0123\r\n456789", "OPENAI_API_KEY: character 8 is a line break; copy the key again, and nothing else"),
        ("Bearer sk-0123456", "OPENAI_API_KEY: character 7 is a blank; copy the key again, and nothing else"),
        (
            "sk-密钥0123456",
            "OPENAI_API_KEY: character 4 is '密', which is not ASCII; copy the key again, and nothing else",
        ),
        (
            "“sk-0123456789”",
            "OPENAI_API_KEY: character 1 is '“', which is not ASCII; copy the key again, and nothing else",
        ),
        (
            "sk-01\x7f23456789",
            "OPENAI_API_KEY: character 6 is '\\x7f', which is not ASCII; copy the key again, and nothing else",
        ),
    ],
)
def test_a_bad_key_is_one_line_before_any_request(server, tmp_path, monkeypatch, complete, value, said):
    monkeypatch.delenv("OPENAI_API_KEY")
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    with pytest.raises(files.InputError) as told:
        ask(local(server), tmp_path, complete)
    assert str(told.value) == said and server.asked == [] and server.batches == {}


def test_white_space_around_a_key_is_not_part_of_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\r\n")
    answers, _ = ask(local(server), tmp_path)
    assert len(answers) == 1 and server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("value", ["socks://127.0.0.1:7890/", "127.0.0.1:port", "nonsense://x"])
def test_a_proxy_that_cannot_be_used_is_named_and_not_needed_for_a_local_server(server, tmp_path, monkeypatch, value):
    monkeypatch.setenv("ALL_PROXY", value)
    assert len(ask(local(server), tmp_path)[0]) == 1, "a server on this machine needs none"
    with pytest.raises(files.InputError, match=r"^ALL_PROXY: .*; write it as http://.*NO_PROXY$"):
        ask(FAR, tmp_path, model="other")
    monkeypatch.setenv("NO_PROXY", "example.com,api.example.org")
    assert endpoint.proxy_for(endpoint.base_url(FAR)) is None


def test_a_proxy_of_the_other_scheme_is_not_looked_at(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "socks://127.0.0.1:7890")
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{server.server_port}")
    answers, failed = ask(FAR, tmp_path)
    assert failed == {} and len(answers) == 1 and server.paths == [f"{FAR}/chat/completions"]
    with pytest.raises(files.InputError, match=r"^HTTPS_PROXY: socks is not a proxy"):
        ask("openai", tmp_path, model="other")


def test_a_password_in_a_proxys_address_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks4://user:secret@127.0.0.1:7890")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(files.InputError) as told:
        ask(FAR, tmp_path)
    assert "secret" not in str(told.value) and str(told.value).startswith("ALL_PROXY: socks4 is not")


def test_a_socks_proxy_says_which_package_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)  # as where it is not installed
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:7890")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(files.InputError, match=r"^ALL_PROXY: a SOCKS proxy needs the package socksio"):
        ask(FAR, tmp_path)


def test_a_proxy_that_is_not_running_is_named(tmp_path, monkeypatch):
    """Nobody asked the provider, where the fault would be looked for otherwise."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    own = {"id": 1, "model": "m", "messages": [{"role": "user", "content": "帖"}]}
    _, failed = client.complete([own], endpoint=FAR, cache_path=tmp_path / "responses.jsonl", max_retries=0)
    assert [failure.reason for failure in failed.values()] == [
        "ConnectError: [Errno 111] Connect call failed ('127.0.0.1', 9) (asked through the proxy in HTTP_PROXY)"
    ]


AZURE = "http://name.openai.azure.com/openai"


@pytest.mark.parametrize(
    ("url", "path", "bearer"),
    [
        (f"{AZURE}/v1/", f"{AZURE}/v1/chat/completions", False),
        (f"{AZURE}/v1", f"{AZURE}/v1/chat/completions", False),
        (
            f"{AZURE}/deployments/D?api-version=2024-02-01",
            f"{AZURE}/deployments/D/chat/completions?api-version=2024-02-01",
            False,
        ),
        (
            f"{AZURE}/deployments/D/chat/completions?api-version=2024-02-01",
            f"{AZURE}/deployments/D/chat/completions?api-version=2024-02-01",
            False,
        ),
        (f"{FAR}/chat/completions", f"{FAR}/chat/completions", True),
        ("http://models.inference.ai.azure.com", "http://models.inference.ai.azure.com/chat/completions", True),
        ("http://api.example.org", "http://api.example.org/chat/completions", True),
    ],
)
def test_both_forms_of_azure_work_by_their_address_alone(server, tmp_path, monkeypatch, url, path, bearer):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    answers, failed = ask(url, tmp_path)
    assert failed == {} and len(answers) == 1 and server.paths == [path]
    sent = {name.lower(): value for name, value in server.headers[0].items()}
    assert (sent.get("authorization"), sent.get("api-key")) == ((f"Bearer {KEY}", None) if bearer else (None, KEY))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("opnai", "endpoint 'opnai': expected openai, an http"),
        ("https://", "endpoint 'https://': expected openai, an http"),
        ("http://[::1", r"endpoint 'http://\[::1': expected openai, an http"),
        ("ftp://example.org", "endpoint 'ftp://example.org': expected openai, an http"),
    ],
)
def test_an_endpoint_that_cannot_be_asked_is_named(tmp_path, monkeypatch, name, said):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(files.InputError, match=said):
        ask(name, tmp_path)


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        ({"extra_body": {"enable_thinking": False}}, {"enable_thinking": False}),
        ({"top_k": 20}, {"top_k": 20}),
        ({"temperature": 0.5, "extra_body": {"top_k": 20, "temperature": 1}}, {"top_k": 20, "temperature": 1}),
    ],
)
def test_a_live_request_and_a_batchs_line_have_the_same_body(server, tmp_path, sampling, sent):
    ask(local(server), tmp_path, **sampling)
    ask(local(server), tmp_path, batch_api.complete, **sampling)
    (line,) = (json.loads(content)["body"] for name, content in server.files.items() if name.startswith("file-"))
    assert server.asked == [line] == [{"model": "m", "messages": [{"role": "user", "content": "帖"}]} | sent]


@pytest.mark.parametrize("complete", [client.complete, batch_api.complete])
@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"extra_headers": {"x": "y"}}, "sampling: extra_headers cannot be set there; leave it out"),
        ({"stream": True}, "sampling: stream cannot be set there; leave it out"),
        ({"timeout": 3}, "sampling: timeout cannot be set there; leave it out"),
        ({"extra_body": {"model": "other"}}, "sampling: model cannot be set there; leave it out"),
        ({"extra_body": "top_k=20"}, "sampling: extra_body is a str, expected a mapping"),
    ],
)
def test_what_is_no_field_of_a_body_is_refused_by_name(server, tmp_path, complete, sampling, said):
    with pytest.raises(files.InputError) as told:
        ask(local(server), tmp_path, complete, **sampling)
    assert str(told.value) == said and server.asked == [] and server.batches == {}


def test_the_host_decides_what_is_local():
    assert [endpoint.is_local(host) for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1")] == [True] * 4
    assert [endpoint.is_local(host) for host in ("10.0.0.1", "localhost.example.org", "0.0.0.0")] == [False] * 3
