"""Servers that take token ids, that read texts as this package does, and that do not: asked before all else."""

import chat_models
import pytest
from provider import bad, text_completion
from tiny import Bytes

from cbtllm_utils import files
from cbtllm_utils.finetune import adapters
from cbtllm_utils.generate import kinds, server_reading
from cbtllm_utils.generate import server as served
from cbtllm_utils.generate.settings import AnswerSettings
from cbtllm_utils.llm import errors
from cbtllm_utils.models import chat_templates, prompt_forms

ROWS = [{"questionID": i, "question": f"怎么办{i}", "description": "睡不着。" * i} for i in (7, 3, 5)]
PROMPTS = [prompt_forms.prompt(row, "card") for row in ROWS]


def counted(body, of_text, ids=True):
    """An answer as vLLM gives it; a text counts as many tokens as `of_text` says, ids are refused or count as such."""
    if isinstance(body["prompt"], list) and not ids:
        return bad(422, "prompt: Input should be a valid string")
    status, content, headers = text_completion(body, "慢慢来。", "stop")
    count = len(body["prompt"]) if isinstance(body["prompt"], list) else of_text(body["prompt"])
    return status, content | {"usage": {"prompt_tokens": count, "completion_tokens": 4}}, headers


def repeating(body, read=lambda ids: Bytes().decode(ids), echo=True):
    """An answer of a server that takes ids and, if it is asked to, repeats them as what they are to it."""
    status, content, headers = counted(body, lambda text: 3)
    if body.get("echo") and echo:
        told = body["prompt"] if isinstance(body["prompt"], str) else read(body["prompt"])
        content["choices"][0]["text"] = f"<s> {told}慢"
    return status, content, headers


def other(ids):
    """Another vocabulary, of which every id is some character as well."""
    return "".join(chr(0x4E00 + number) for number in ids)


def ours(text):
    """One token a byte, and the one that begins a text."""
    return len(text.encode()) + 1


@pytest.fixture
def ask(server, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}/v1"
    options = {"run": str(tmp_path), "backbone": "b", "endpoint": url, "temperature": 0.0, "max_retries": 0}
    options |= {"served": {"untuned": "/data/x/merged"}, "kinds": ["untuned"]}

    def asking(tokenizer=Bytes(), **values):  # noqa: B008
        chosen, given = AnswerSettings(**options | values), dict.fromkeys(kinds.KINDS, PROMPTS)
        return served.ask_all(chosen, ROWS, given, tokenizer, None, tmp_path / "responses.jsonl")

    return asking


def test_a_server_that_takes_ids_gets_them(server, ask, capsys):
    """However it would read the text: vLLM of a folder whose tokenizer another version cuts otherwise."""
    server.script = lambda body, call: repeating(body)
    answers, lost, made = ask()
    assert [row["reply"] for row in answers] == ["慢慢来。"] * 3 and lost == {}
    asked = [body["prompt"] for body in server.asked]
    assert asked[0] == Bytes().encode(PROMPTS[0])
    assert asked[1] == Bytes().encode(server_reading.KNOWN)
    assert sorted(asked[2:]) == sorted(Bytes().encode(prompt) for prompt in PROMPTS)
    assert made["prompts_sent_as"] == {"merged": "token ids"} and made["served"] == {"untuned": "merged"}
    assert "/data" not in capsys.readouterr().out


def test_a_server_with_another_vocabulary_is_refused(server, ask):
    """Whatever it takes the ids for, it counts them."""
    server.script = lambda body, call: repeating(body, other)
    with pytest.raises(files.InputError, match=r"merged: reads the token ids of a known text as .*another vocabulary"):
        ask()
    assert len(server.asked) == 3


def test_of_one_that_repeats_nothing_the_counts_of_a_text_decide(server, ask, tmp_path):
    server.script = lambda body, call: repeating(body, other, echo=False)
    assert ask()[2]["prompts_sent_as"] == {"merged": server_reading.UNCHECKED}
    (tmp_path / "responses.jsonl").unlink()
    server.script = lambda body, call: (
        bad(400, "Only no echo is supported") if body.get("echo") else counted(body, ours)
    )
    assert ask()[2]["prompts_sent_as"] == {"merged": server_reading.IDS}


def test_a_busy_moment_does_not_change_how_prompts_are_sent(server, ask):
    """It is asked again as the settings say; if it stays busy, the run stops."""
    server.script = lambda body, call: bad(503, "overloaded", retry_after="0") if call == 1 else repeating(body)
    assert ask(max_retries=1)[2]["prompts_sent_as"] == {"merged": server_reading.IDS}
    server.script = lambda body, call: bad(503, "overloaded", retry_after="0")
    with pytest.raises(errors.EndpointError, match="token ids has no reply; no answer: HTTP 503 t: overloaded"):
        ask(max_retries=0, served={"untuned": "m"})
    assert not [body for body in server.asked if isinstance(body["prompt"], str)]


def test_finding_out_heeds_the_budget(server, ask):
    server.script = lambda body, call: repeating(body)
    with pytest.raises(errors.EndpointError, match="budget"):
        ask(budget=1e-9, prices={"/data/x/merged": {"input": 1.0, "output": 1.0}})
    assert not server.asked


def test_a_tuned_model_gets_ids_of_its_own_tokenizer(server, ask, tmp_path):
    chat_models.write(tmp_path / "backbones/base", "qwen3")
    chat_models.write(tmp_path / "backbones/other", "llama3")
    given = {
        "model": "backbones/base",
        "tuned_model": "backbones/other",
        "template": "chat",
        "kinds": ["tuned", "untuned"],
    }
    one, two = (adapters.tokenizer(f"backbones/{name}", [], tmp_path) for name in ("base", "other"))
    server.script = lambda body, call: counted(body, lambda text: 3)
    ask(one, served={"tuned": "t", "untuned": "u"}, **given)
    wanted = {"u": chat_templates.ids(one, PROMPTS[0])}
    wanted["t"] = chat_templates.ids(two, prompt_forms.prompt(ROWS[0], "chat", two))
    asked = [body for body in server.asked if body["max_tokens"] > 1]
    assert {body["model"]: body["prompt"] for body in asked if body["prompt"] in wanted.values()} == wanted
    stops = {body["model"]: body["stop_token_ids"] for body in asked}
    assert stops == {"u": chat_templates.stops(one), "t": chat_templates.stops(two)}


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
