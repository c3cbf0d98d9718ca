"""Requests for completions and their answers, as the journal keeps them: told apart by all that decides them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from openai.types import Completion as TextCompletion
from openai.types.chat import ChatCompletion

from cbtllm_utils import response_cache
from cbtllm_utils.data.psyqa import SURROGATE
from cbtllm_utils.llm.budget import TOKENS_PER_CHARACTER, characters, money
from cbtllm_utils.llm.errors import told, without_key


@dataclass(frozen=True)
class Completion:
    """One answer: the request's id, the text, who answered, why it ended, and what it took."""

    id: str | int
    text: str
    model: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    attempts: int


def request_hash(request: dict) -> str:
    """The hash of all that decides an answer: model, messages, sampling, and the number of the attempt; not the id."""
    asked = {key: value for key, value in request.items() if key != "id"}
    return hashlib.sha256(
        json.dumps(asked, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ).hexdigest()


def missing(requests: list[dict], path: str | Path) -> list[dict]:
    """The requests that the journal does not answer yet."""
    answered = response_cache.read(path)
    return [request for request in requests if request_hash(request) not in answered]


def body(request: dict) -> dict:
    """What of a request is sent."""
    return {key: value for key, value in request.items() if key not in ("id", "attempt", "recording")}


def entry(answer: ChatCompletion | TextCompletion, request: dict) -> dict:
    """An answer as the journal keeps it. ValueError when it is none or holds no choice."""
    text, choice = said(answer), answer.choices[0]
    count = counted(answer.usage)
    tokens = count or guessed(request, text)
    return {
        "hash": request_hash(request),
        "id": request["id"],
        "model": told(answer.model or request["model"], 100),
        "text": SURROGATE.sub("�", without_key(text)),  # no file and no table could hold half of a surrogate pair
        "finish_reason": told(choice.finish_reason or "unknown", 100),
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "estimated": count is None,  # a server that does not count must not look free
        "latency": None,
        "attempts": 1,
    }


def said(answer: ChatCompletion | TextCompletion) -> str:
    """The text of an answer, of a chat or of a prompt that goes on. ValueError where there is none: the client takes
    any JSON for an answer."""
    try:
        choice = answer.choices[0]
        message = getattr(choice, "message", None)
        text = choice.text if message is None else message.content or ""
    except (AttributeError, IndexError, KeyError, TypeError):
        raise ValueError("the answer holds no choice") from None
    if not isinstance(text, str):
        raise ValueError(f"the answer is a {type(text).__name__}, expected text")
    return text


def counted(usage: object) -> tuple[int, int] | None:
    """The provider's count of tokens; None for none, and for what no budget could be held by: -1, 1e999, "many"."""
    count = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    return count if all(type(number) is int and number >= 0 for number in count) else None


def guessed(request: dict, text: str) -> tuple[int, int]:
    """Tokens of a request and its answer by their characters."""
    return round(characters(request) * TOKENS_PER_CHARACTER), round(len(text) * TOKENS_PER_CHARACTER)


def spent(known: dict[str, dict], price: dict | None) -> float:
    """What the answers in a journal cost."""
    return sum(money(e["prompt_tokens"], e["completion_tokens"], price) for e in known.values())


def gathered(
    requests: list[dict], hashes: list[str], known: dict[str, dict], failed: dict[str, str]
) -> tuple[list[Completion], dict[str | int, str]]:
    """The journal's answers in the requests' order, and id -> reason of those without; both were by hash."""
    marked = list(zip(hashes, requests, strict=True))
    kept = Completion.__dataclass_fields__.keys() - {"id"}
    completions = [
        Completion(id=r["id"], **{name: known[mark][name] for name in kept}) for mark, r in marked if mark in known
    ]
    return completions, {r["id"]: failed[mark] for mark, r in marked if mark in failed}
