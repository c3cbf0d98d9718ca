"""Whether a server reads prompts as this package's tokenizer does: asked of each of its models before all else."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cbtllm_utils import files, response_cache
from cbtllm_utils.llm import accepted, client
from cbtllm_utils.llm.client import Completion
from cbtllm_utils.llm.errors import EndpointError
from cbtllm_utils.llm.exchange import request_hash
from cbtllm_utils.llm.failure import UNANSWERED, Failure
from cbtllm_utils.models import chat_templates

# Besides the first prompt: full and half width, two blanks, line breaks, digits, a character that few tokenizers hold.
KNOWN = "你好，我  最近睡不着（3 a.m.）…\n\nHuman: 怎么办？龘\nAssistant: "
IDS, UNCHECKED = "token ids", "token ids, vocabulary not checked"
TEXT = "text, with the counts of tokens compared"
UNCOUNTED, UNKNOWN = "text; the server counts no tokens", "text; the tokenizer is not on this machine"
BY_IDS = (IDS, UNCHECKED)
STATUS = re.compile(r"HTTP (?:200 )?(\d{3})\b")  # at the beginning of a failure's reason
ADVICE = (
    "serve the stock folder of this run, whose tokenizer other programs read alike (`make stock`, docs/provider.md), or "
    "take a server that takes token ids (vLLM, SGLang), or set engine = vllm without an endpoint"
)


def find_out(model: str, prompts: Sequence[str], tokenizer: object | None, common: Mapping, **limits: object) -> str:
    """Return in which form a server gets its prompts: token ids (`BY_IDS`), else TEXT if it reads it as we do.

    Only a refusal of the ids makes it texts: what passes, such as overload, is asked again. The questions have one
    token as their reply and are in the response cache, so that a run whose answers are all there asks nothing.

    Args:
        model: The server's name of it.
        prompts: Of which the first is asked.
        tokenizer: Of the backbone; None where its files are not on this machine.
        common: Fields of each request (`add_special_tokens`, and by what an answer is known).
        limits: Of `client.complete`: the server, the response cache, how fast, how often, for how much.

    Raises:
        InputError: When it counts other tokens than there are, or has others, with what to do.
        EndpointError: When it cannot be asked at all.
    """
    if tokenizer is None:
        return UNKNOWN
    asked = request("token ids", model, chat_templates.ids(tokenizer, prompts[0]), common)
    found = ask(asked, **limits)
    if counts(found, len(asked["prompt"])):
        return vocabulary(model, tokenizer, common, **limits)
    texts = {"the first prompt": prompts[0], "a known text": KNOWN}
    answers = {name: ask(request(name, model, text, common), **limits) for name, text in texts.items()}
    for name, found in answers.items():
        if isinstance(found, Failure):
            raise EndpointError(f"{files.public(limits['endpoint'])}: {name} has no reply; {found}")
        if not found.estimated:
            compare(name, found.prompt_tokens, texts[name], tokenizer, limits["endpoint"], model)
    return UNCOUNTED if any(found.estimated for found in answers.values()) else TEXT


def vocabulary(model: str, tokenizer: object, common: Mapping, **limits: object) -> str:
    """Return IDS where a server has our vocabulary, and UNCHECKED where it does not say so.

    That it counts ids says nothing of what they mean to it. It is asked to repeat a known text (`echo`): by its ids,
    which it then has to read; and where that does not give the text, as text, to learn whether it repeats at all. One
    that does not repeat may count as we do.

    Raises:
        InputError: When the ids are another text to it.
    """
    ids = chat_templates.ids(tokenizer, KNOWN)
    by_ids, by_text = (
        request(name, model, prompt, common) | {"echo": True}
        for name, prompt in (("the ids of a known text", ids), ("a known text", KNOWN))
    )
    told = ask(by_ids, **limits)
    if repeats(told, tokenizer.decode(ids, skip_special_tokens=True)):
        return IDS
    said = ask(by_text, **limits)
    if isinstance(told, Completion) and repeats(said, KNOWN):
        raise files.InputError(
            f"{files.public(limits['endpoint'])}, {files.model_name(model)}: reads the token ids of a known text as "
            f"{files.one_line(told.text)[:60]!r}: it has another vocabulary, and its replies would be to other prompts; "
            f"{ADVICE}"
        )
    if isinstance(said, Failure):
        said = ask(by_text | {"echo": None}, **limits)
    return IDS if counts(said, len(ids)) else UNCHECKED


def repeats(answer: Completion | Failure, known: str) -> bool:
    """Return whether an answer holds a known text; white space aside, which decoders treat in many ways."""
    return isinstance(answer, Completion) and "".join(known.split()) in "".join(answer.text.split())


def counts(answer: Completion | Failure, number: int) -> bool:
    """Return whether a server counted so many tokens in a prompt."""
    return isinstance(answer, Completion) and not answer.estimated and answer.prompt_tokens == number


def ask(asked: Mapping, **limits: object) -> Completion | Failure:
    """Return a server's answer to one request, or that it refuses the request, such as its form or a field.

    Raises:
        EndpointError: When it cannot be asked, or only an error that passes kept it from answering.
    """
    try:
        found, failed = client.complete([dict(asked)], **limits)
    except EndpointError as error:
        if asked.get("echo") and "refuses echo" in str(error):
            return Failure(UNANSWERED, str(error))
        raise
    for failure in failed.values():
        status = STATUS.match(failure.reason)
        if not (status and int(status[1]) in accepted.REFUSING):
            raise EndpointError(f"{files.public(limits['endpoint'])}: {asked['id']} has no reply; {failure}")
        return failure
    return found[0]


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
