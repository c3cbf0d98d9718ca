"""One request as it is sent and known, and its answer as the response cache holds it.

A request is a dict with id, model, messages (or prompt, a text or token ids to continue) and sampling: any further
fields, which are sent as they are, live and in batches; those of `extra_body` among them; null leaves a field out. Its
hash covers all of these but the id, and `known_stops`: the tokens at which the served model stops by itself.
"""

import hashlib
import json

from cbtllm_utils import files, hashing
from cbtllm_utils.data.psyqa import SURROGATE
from cbtllm_utils.llm.budget import TOKENS_PER_CHARACTER, characters
from cbtllm_utils.llm.key import printable, without_key
from cbtllm_utils.llm.recorded import REPLAY, is_recording

NOT_SENT = ("id", "attempt", "recording", "served_by", "known_stops", "extra_body")  # as such; of the last, its fields
NOT_HASHED = ("id", "known_stops")  # decide no answer
OURS = {"model", "messages", "prompt", "stream", "n"}  # what sampling may not replace
NOT_IN_BODY = {"extra_headers", "extra_query", "timeout", "stream", "n"}  # another kind of request or of answer


def request_hash(request: dict) -> str:
    """Return the hash of all that decides an answer: model, messages, sampling, attempt; not `NOT_HASHED`."""
    asked = {key: value for key, value in request.items() if key not in NOT_HASHED}
    return hashlib.sha256(
        json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def with_recording(requests: list[dict], endpoint: str) -> list[dict]:
    """Return the requests with the recording's hash, where a recording answers; otherwise as they are.

    Another recording gives other answers. A provider's URL is not part of the hash, so that another provider may
    continue where one ended.
    """
    if not is_recording(endpoint):
        return requests
    place = endpoint.removeprefix(REPLAY)
    if not files.path(place).is_file():
        raise files.InputError(f"endpoint {endpoint!r}: no such recording")
    recording = hashing.sha256(place)[:16]
    return [request | {"recording": recording} for request in requests]


def body(request: dict) -> dict:
    """Return the part of a request that is sent: with the fields of `extra_body`, which OpenAI's API does not have."""
    sent = {name: value for name, value in request.items() if name not in NOT_SENT} | request.get("extra_body", {})
    return {name: value for name, value in sent.items() if value is not None}


def check_fields(requests: list[dict]) -> None:
    """Raise InputError for a field of sampling that cannot be sent as part of a body, or would replace another."""
    for request in requests:
        extra = request.get("extra_body", {})
        if not isinstance(extra, dict):
            raise files.InputError(f"sampling: extra_body is a {type(extra).__name__}, expected a mapping")
        for name in sorted(NOT_IN_BODY & request.keys() | OURS & extra.keys()):
            raise files.InputError(f"sampling: {name} cannot be set there; leave it out")


def entry(answer: object, request: dict) -> dict:
    """Return an answer (a chat completion or a completion) as the response cache holds it.

    Raises:
        ValueError: For a response that is not an answer or holds no choice.
    """
    text, finish_reason = text_and_end(answer)
    tokens = answer["choices"][0].get("token_ids")  # of a server that was asked for `return_token_ids`: vLLM
    model, usage = answer.get("model"), answer.get("usage")
    counts = (0, 0) if "recording" in request else token_counts(usage, characters(request), len(text))
    estimated = (round(length * TOKENS_PER_CHARACTER) for length in (characters(request), len(text)))
    prompt_tokens, completion_tokens = counts or estimated
    return {
        "hash": request_hash(request),
        "id": request["id"],
        "model": printable(model or request["model"], 100),
        "text": SURROGATE.sub("�", without_key(text)),  # UTF-8, and so no file, can hold half of a surrogate pair
        "finish_reason": printable(finish_reason or "unknown", 100),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "estimated": counts is None,  # a server that does not count must not look free
        "latency": None,
        "attempts": 1,
    } | ({"token_ids": tokens} if isinstance(tokens, list) else {})


def text_and_end(answer: object) -> tuple[str, object]:
    """Return the text of an answer and why it ended.

    Raises:
        ValueError: Where it holds no usable answer, or an error beside an empty one.
    """
    try:
        choice = answer["choices"][0]
        reply = choice.get("message")
        if reply is None and "text" in choice:
            text = choice["text"]
        else:
            text = reply.get("content") or reply.get("refusal") or ""  # OpenAI's field for a refusal to fill a schema
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError("the answer holds no choice") from None
    if not isinstance(text, str):
        raise ValueError(f"the answer is a {type(text).__name__}, expected text")
    if not text and (answer.get("error") or choice.get("error")):
        raise ValueError("an error in place of an answer")
    return text, choice.get("finish_reason")


def token_counts(usage: object, asked: int, answered: int) -> tuple[int, int] | None:
    """Return the token counts of a response, or None when missing or implausible, such as -1, 0, 1e12 or "many".

    Args:
        usage: What the response says.
        asked: Characters of the request, of which none takes more than a few tokens.
        answered: Characters of the reply, before which a model may have thought at length.
    """
    named = usage if isinstance(usage, dict) else {}
    counts = []
    for name, length, hidden in (("prompt_tokens", asked, 20_000), ("completion_tokens", answered, 200_000)):
        number = named.get(name)
        if type(number) is not int or not (1 if length else 0) <= number <= 10 * length + hidden:
            return None
        counts.append(number)
    return counts[0], counts[1]
