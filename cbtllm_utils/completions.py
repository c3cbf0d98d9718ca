"""Requests for completions and their answers, as the journal keeps them: told apart by all that decides them."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from openai.types import Completion as TextCompletion
from openai.types.chat import ChatCompletion

from cbtllm_utils import journal
from cbtllm_utils.spending import TOKENS_PER_CHARACTER, characters, money


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
    answered = journal.read(path)
    return [request for request in requests if request_hash(request) not in answered]


def body(request: dict) -> dict:
    """What of a request is sent."""
    return {key: value for key, value in request.items() if key not in ("id", "attempt", "recording")}


def entry(answer: ChatCompletion | TextCompletion, request: dict) -> dict:
    """An answer as the journal keeps it. ValueError when it is none or holds no choice."""
    if not getattr(answer, "choices", None) or said(answer) is None:
        raise ValueError("the answer holds no choice")
    choice, usage = answer.choices[0], answer.usage
    tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else guessed(request, answer)
    return {
        "hash": request_hash(request),
        "id": request["id"],
        "model": answer.model or request["model"],
        "text": said(answer),
        "finish_reason": choice.finish_reason or "unknown",
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "estimated": usage is None,  # a server that does not count must not look free
        "latency": None,
        "attempts": 1,
    }


def said(answer: ChatCompletion | TextCompletion) -> str | None:
    """The text of an answer, of a chat or of a prompt that goes on; None where there is neither."""
    choice = answer.choices[0]
    if hasattr(choice, "text"):
        return choice.text
    return (choice.message.content or "") if choice.message else None


def guessed(request: dict, answer: ChatCompletion | TextCompletion) -> tuple[int, int]:
    """Tokens of a request and its answer by their characters."""
    return round(characters(request) * TOKENS_PER_CHARACTER), round(len(said(answer)) * TOKENS_PER_CHARACTER)


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
