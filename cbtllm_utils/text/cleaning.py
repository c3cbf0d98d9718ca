"""What a server may leave around a reply: a thinking block, a role, control tokens. Removed where that is certain."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple, TypeVar

Answer = TypeVar("Answer")  # a dataclass with a text
THINKING, ROLE, CONTROL = "thinking block", "role name", "control token"
TAG = r"(?:think|thinking|thought|reasoning|seed:think|analysis)"
OPENED = re.compile(rf"<{TAG}>|◁think▷", re.I)
CLOSED = re.compile(rf"</{TAG}>|◁/think▷", re.I)
TOKEN = re.compile(  # as tokenizers write them: ChatML, Llama, Mistral, Gemma, ChatGLM, Baichuan, InternLM, DeepSeek
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk|mask|eop|sop|eoa|eoh)>"
    r"|<(?:start|end)_of_turn>|\[(?:BOS|EOS|PAD|UNK|CLS|SEP|MASK|UNUSED_TOKEN_\d+|g?MASK)\]"
    r"|<(?:reserved|unused)_?\d+>|<0x[0-9A-F]{2}>|</?tool_calls?>"
)
FIRST_TOKEN, LAST_TOKEN = re.compile(rf"\s*(?:{TOKEN.pattern})"), re.compile(rf"(?:{TOKEN.pattern})\s*\Z")
HALF_TOKEN = re.compile(r"<[|｜][^<>|｜\s]{0,40}[|｜]?\Z")  # at the end of a reply that was cut within a token
FIRST_ROLE = re.compile(rf"\s*(?:assistant(?:\s*[:：]|\s*\n|\s*(?:{TOKEN.pattern}))|model\s*(?:{TOKEN.pattern}))", re.I)


class Cleaned(NamedTuple):
    """A reply without what surrounds it, and what was removed: kinds, each once."""

    text: str
    removed: tuple[str, ...]


def clean(raw: str) -> Cleaned:
    """Remove a leading thinking block, a leading role name, and control tokens at the very ends of a reply.

    A chat template may open the thinking block in the prompt (DeepSeek-R1, Qwen3): the reply then holds its end alone,
    at the end of a line, and all before it is thinking. Two such ends, or nothing after one, are not certain.
    """
    text, removed = raw.strip(), []
    while True:
        before = text
        for kind, remove in ((CONTROL, without_tokens), (ROLE, without_role), (THINKING, without_thinking)):
            shorter = remove(text).strip()
            if shorter != text:
                removed.append(kind)
                text = shorter
        if text == before:
            return Cleaned(text, tuple(dict.fromkeys(removed)))


def without_tokens(text: str) -> str:
    """Return a text without the control tokens at its two ends."""
    if found := FIRST_TOKEN.match(text):
        return text[found.end() :]
    found = LAST_TOKEN.search(text)
    return text[: found.start()] if found else text


def without_role(text: str) -> str:
    """Return a text without the name of the assistant's role on its first line."""
    found = FIRST_ROLE.match(text)
    return text[found.end() :] if found else text


def without_thinking(text: str) -> str:
    """Return a text without its leading thinking block, where the block's end is certain."""
    opened, closed = list(OPENED.finditer(text)), list(CLOSED.finditer(text))
    if len(closed) != 1 or not (rest := text[closed[0].end() :]).strip():
        return text
    certain = [found.start() for found in opened] == [0] if opened else rest.lstrip(" ").startswith("\n")
    return rest if certain else text


def remains(text: str) -> str | None:
    """Return the first thinking tag or control token in a cleaned reply, or None."""
    found = [m for pattern in (OPENED, CLOSED, TOKEN, HALF_TOKEN) if (m := pattern.search(text))]
    return min(found, key=lambda m: m.start())[0] if found else None


def clean_all(answers: Iterable[Answer]) -> tuple[list[Answer], Counter]:
    """Return the answers (`client.Completion`) with cleaned texts, and how many replies each kind was removed from."""
    found = [(answer, clean(answer.text)) for answer in answers]
    counts = Counter(kind for _, cleaned in found for kind in cleaned.removed)
    return [replace(answer, text=cleaned.text) for answer, cleaned in found], counts


def described(counts: Counter) -> str:
    """Return in words what was removed: "thinking block from 3 replies"."""
    return ", ".join(f"{kind} from {n} replies" for kind, n in sorted(counts.items())) or "nothing"
