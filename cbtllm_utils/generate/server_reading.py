"""Whether a server reads prompts as this package's tokenizer does: asked of each of its models before all else."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import client
from cbtllm_utils.llm.errors import EndpointError
from cbtllm_utils.llm.exchange import request_hash
from cbtllm_utils.models import chat_templates

# Besides the first prompt: full and half width, two blanks, line breaks, digits, a character that few tokenizers hold.
KNOWN = "你好，我  最近睡不着（3 a.m.）…\n\nHuman: 怎么办？龘\nAssistant: "
IDS, TEXT = "token ids", "text, with the counts of tokens compared"
UNCOUNTED, UNKNOWN = "text; the server counts no tokens", "text; the tokenizer is not on this machine"
ADVICE = (
    "serve the stock folder of this run, whose tokenizer other programs read alike (`make stock`, docs/provider.md), or "
    "take a server that takes token ids (vLLM, SGLang), or set engine = vllm without an endpoint"
)


def find_out(
    model: str, prompts: Sequence[str], tokenizer: object | None, common: Mapping, endpoint: str, path: Path
) -> str:
    """Return in which form a server gets its prompts: IDS where it takes them, else TEXT if it reads it as we do.

    The questions have one token as their reply and are in the response cache, so that a run whose answers are all there
    asks nothing.

    Args:
        model: The server's name of it.
        prompts: Of which the first is asked.
        tokenizer: Of the backbone; None where its files are not on this machine.
        common: Fields of each request (`add_special_tokens`, and by what an answer is known).
        endpoint: The server.
        path: The response cache.

    Raises:
        InputError: When it counts other tokens than there are, with what to do.
        EndpointError: When it cannot be asked at all.
    """
    if tokenizer is None:
        return UNKNOWN
    texts = {"the first prompt": prompts[0], "a known text": KNOWN}
    limits = {"endpoint": endpoint, "cache_path": path, "max_retries": 1}
    ids = [request("token ids", model, chat_templates.ids(tokenizer, prompts[0]), common)]
    try:
        found, _ = client.complete(ids, **limits)
    except EndpointError:
        found = []  # a server that takes text alone; one that cannot be asked at all says so below
    if found and not found[0].estimated and found[0].prompt_tokens == len(ids[0]["prompt"]):
        return IDS
    asked = [request(name, model, text, common) for name, text in texts.items()]
    found, failed = client.complete(asked, **limits | {"max_retries": 6})
    for name, failure in failed.items():
        raise EndpointError(f"{files.public(endpoint)}: {name} has no reply; {failure}")
    for completion in found:
        if not completion.estimated:
            compare(completion.id, completion.prompt_tokens, texts[completion.id], tokenizer, endpoint, model)
    return UNCOUNTED if any(completion.estimated for completion in found) else TEXT


def request(name: str, model: str, prompt: str | list[int], common: Mapping) -> dict:
    """Return a request for one token."""
    added = common if isinstance(prompt, str) else {k: v for k, v in common.items() if k != "extra_body"}
    return {"id": name, "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0} | added


def check_replies(
    asked: Sequence[Mapping], texts: Sequence[str], tokenizer: object, endpoint: str, path: str | Path
) -> None:
    """Raise InputError for the first reply before which the server counted other tokens than there are."""
    known = response_cache.read(path)
    for one, text in zip(asked, texts, strict=True):
        entry = known.get(request_hash(dict(one)))
        if entry and not entry["estimated"]:
            compare(f"question {one['id']}", entry["prompt_tokens"], text, tokenizer, endpoint, one["model"])


def compare(what: str, counted: int, text: str, tokenizer: object, endpoint: str, model: str) -> None:
    """Raise InputError unless a server counted as many tokens as a text has."""
    expected = len(chat_templates.ids(tokenizer, text))
    if counted != expected:
        hint = {1: ", perhaps a second token that begins a text", -1: ", perhaps without the token that begins a text"}
        raise files.InputError(
            f"{files.public(endpoint)}, {files.model_name(model)}: reads {what} as {counted} tokens, it has {expected}"
            f"{hint.get(counted - expected, '')}; its replies would be to other prompts than those of the training: "
            f"{ADVICE}"
        )
