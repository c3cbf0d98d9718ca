"""Servers that take token ids, that read texts as this package does, and that do not: asked before all else."""

import pytest
from provider import bad, text_completion
from tiny import Bytes

from cbtllm_utils import files
from cbtllm_utils.generate import kinds, server_reading
from cbtllm_utils.generate import server as served
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import errors
from cbtllm_utils.models import prompt_forms

ROWS = [{"questionID": i, "question": f"怎么办{i}", "description": "睡不着。" * i} for i in (7, 3, 5)]
PROMPTS = [prompt_forms.prompt(row, "card") for row in ROWS]


def counted(body, of_text, ids=True):
    """An answer as vLLM gives it; a text counts as many tokens as `of_text` says, ids are refused or count as such."""
    if isinstance(body["prompt"], list) and not ids:
        return bad(422, "prompt: Input should be a valid string")
    status, content, headers = text_completion(body, "慢慢来。", "stop")
    count = len(body["prompt"]) if isinstance(body["prompt"], list) else of_text(body["prompt"])
    return status, content | {"usage": {"prompt_tokens": count, "completion_tokens": 4}}, headers


def ours(text):
    """One token a byte, and the one that begins a text."""
    return len(text.encode()) + 1


@pytest.fixture
def ask(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}/v1"
    options = {"run": str(tmp_path), "backbone": "b", "endpoint": url, "temperature": 0.0, "max_retries": 0}
    chosen = AnswerSettings(**options, served={"untuned": "/data/x/merged"}, kinds=["untuned"])

    def asking(tokenizer=Bytes()):  # noqa: B008
        given = dict.fromkeys(kinds.KINDS, PROMPTS)
        return served.ask_all(chosen, ROWS, given, tokenizer, None, tmp_path / "responses.jsonl")

    return asking


def test_a_server_that_takes_ids_gets_them(server, ask, capsys):
    """However it would read the text: vLLM of a folder whose tokenizer another version cuts otherwise."""
    server.script = lambda body, call: counted(body, lambda text: 3)
    answers, lost, made = ask()
    assert [row["reply"] for row in answers] == ["慢慢来。"] * 3 and lost == {}
    asked = [body["prompt"] for body in server.asked]
    assert asked[0] == Bytes().encode(PROMPTS[0])
    assert sorted(asked[1:]) == sorted(Bytes().encode(prompt) for prompt in PROMPTS)
    assert made["prompts_sent_as"] == {"merged": "token ids"} and made["served"] == {"untuned": "merged"}
    assert "/data" not in capsys.readouterr().out


def test_a_server_that_takes_texts_gets_them_once_it_counts_as_we_do(server, ask):
    server.script = lambda body, call: counted(body, ours, ids=False)
    answers, _, made = ask()
    texts = [body["prompt"] for body in server.asked if isinstance(body["prompt"], str)]
    assert sorted(texts) == sorted([PROMPTS[0], server_reading.KNOWN, *PROMPTS]) and len(answers) == 3
    assert made["prompts_sent_as"] == {"merged": server_reading.TEXT}
    before = len(server.asked)
    assert ask()[0] == answers and len(server.asked) == before + 1, "ids again, which it refused; all else is cached"


@pytest.mark.parametrize(
    ("of_text", "said"),
    [
        (
            lambda text: ours(text) + 1,
            r"the first prompt as \d+ tokens, it has \d+, perhaps a second token that begins",
        ),
        (lambda text: ours(text) - 1, r"the first prompt .*, perhaps without the token that begins a text;"),
        (lambda text: ours(text) // 2, r"the first prompt as \d+ tokens, it has \d+; .*make stock"),
        (lambda text: ours(text) - text.count("  "), r"a known text as \d+ tokens"),
    ],
)
def test_a_server_that_reads_otherwise_is_refused_before_it_is_asked_for_answers(server, ask, of_text, said):
    server.script = lambda body, call: counted(body, of_text, ids=False)
    with pytest.raises(files.InputError, match=said) as told:
        ask()
    assert len(server.asked) == 3 and "/data" not in str(told.value)


def test_a_single_prompt_that_it_reads_otherwise_is_named(server, ask):
    server.script = lambda body, call: counted(body, lambda t: ours(t) - 2 * ("怎么办5" in t), ids=False)
    with pytest.raises(files.InputError, match=r"merged: reads question 5 as (\d+) tokens, it has \d+"):
        ask()


def test_what_cannot_be_checked_says_so(server, ask):
    def uncounted(body, call):
        status, content, headers = counted(body, ours, ids=False)
        return status, {name: value for name, value in content.items() if name != "usage"}, headers

    server.script = uncounted
    assert ask()[2]["prompts_sent_as"] == {"merged": server_reading.UNCOUNTED}
    server.script = lambda body, call: text_completion(body)
    assert ask(None)[2]["prompts_sent_as"] == {"merged": server_reading.UNKNOWN}


def test_a_server_that_cannot_be_asked_at_all_is_its_own_error(server, ask):
    server.script = lambda body, call: bad(401, "Incorrect API key provided")
    with pytest.raises(errors.EndpointError, match="Incorrect API key"):
        ask()
