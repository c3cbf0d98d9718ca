"""Which of the five components of CBT each stretch of a reply serves (§3.2), learned from the marked sample."""

import functools
import itertools
import random
import re
from typing import NamedTuple

import numpy as np

from cbtllm_utils import files
from cbtllm_utils.text.section_model import NAMES, Model, decode, learn, scores, sentences

MARKED = "data/sample/recorded_replies.jsonl"  # 360 replies cut into stretches, each marked with its component
TOLD = 0.4  # least P(component | words) of the sentence that proves a component
AGREED = 0.6  # least share of characters whose words alone tell the component they are given: .59–1 in real replies
REPEATED = 0.1  # most of a reply that may have stood in it before: at most .01 in the sample
OPEN = "，、,：:；;（(“‘《-—"  # a text that stops at one of these, or in a word, was cut off


class Structure(NamedTuple):
    """The components that a reply holds, by first appearance; whether all five; whether in the prompt's order."""

    present: tuple[str, ...]
    complete: bool
    in_order: bool


@functools.cache
def fitted() -> Model:
    """The model of the whole marked sample, learned at first use (about two seconds)."""
    return learn(files.read_jsonl(MARKED))


def segment(reply: str, model: Model | None = None) -> list[tuple[str, str]]:
    """(component, text) stretches in order, whose texts join to the reply exactly; none for an empty reply."""
    texts, path, _ = read(reply, model or fitted())
    runs = itertools.groupby(zip(path, texts, strict=True), key=lambda pair: pair[0])
    return [(NAMES[component], "".join(text for _, text in run)) for component, run in runs]


def read(reply: str, model: Model) -> tuple[list[str], list[int], np.ndarray]:
    """A reply's sentences, the component of each, and log P(component | words alone), n × 5."""
    texts = sentences(reply)
    if not texts:
        return [], [], np.empty((0, 5))
    placed, alone = scores(texts, model)
    return texts, decode(texts, placed, model), alone


def structure(reply: str, model: Model | None = None) -> Structure:
    """Which components a reply holds: the shape of a reply, not its sense. Place alone proves nothing.

    `present`: some whole sentence tells the component by its words. `in_order`: as in the prompt; advice on safety may
    come first, as the prompt asks. `complete`: all five, in order, in a text that can be read: its words agree with
    the components (they do not when sentences are shuffled), it ends a sentence, and hardly any of it is said twice.
    """
    texts, path, words = read(reply, model or fitted())
    if not reply.strip():
        return Structure((), False, False)
    proofs = (k for text, k, own in zip(texts, path, words, strict=True) if ended(text) and own[k] >= np.log(TOLD))
    told = set(proofs)
    runs = [k for k, _ in itertools.groupby(path) if k in told]
    length = np.array([len(text) for text in texts])
    agreed = length[words.argmax(axis=1) == path].sum() / length.sum()
    sound = bool(agreed >= AGREED) and repetition(reply) <= REPEATED and ended(reply)
    complete = sound and len(told) == len(NAMES) and rising(runs)
    return Structure(tuple(NAMES[k] for k in dict.fromkeys(runs)), complete, rising(runs))


def rising(runs: list[int]) -> bool:
    """Whether components follow in the prompt's order, every strategy but the last (safety first) set aside."""
    strategy = NAMES.index("strategy")
    last = max((i for i, k in enumerate(runs) if k == strategy), default=-1)
    kept = [k for k, _ in itertools.groupby(k for i, k in enumerate(runs) if k != strategy or i == last)]
    return bool(kept) and kept == sorted(set(kept))


def ended(text: str) -> bool:
    """Whether a text ends a sentence: with a stop, a closing mark or an emoji, not in a word or at a comma."""
    last = text.rstrip()[-1:]
    return bool(last) and not last.isalnum() and last not in OPEN


def repetition(reply: str) -> float:
    """The share of a reply's runs of six characters that stood in it before."""
    text = re.sub(r"\s", "", reply)
    runs = [text[i : i + 6] for i in range(len(text) - 5)]
    return 1 - len(set(runs)) / max(len(runs), 1)


def crossvalidate(folds: int = 5, seed: int = 42) -> dict[str, float]:
    """How replies are read by a model that has not seen them, as shares of 1.

    `characters` given the right component, `characters_unbroken` the same with the paragraph breaks taken out, replies
    found `complete` (all are); then replies made worse (`spoiled`) that still pass as complete: less is better.
    """
    marked = files.read_jsonl(MARKED)
    draw = random.Random(seed)
    draw.shuffle(marked)
    counts: dict[str, list[bool]] = {}
    for fold in range(folds):
        model = learn([row for i, row in enumerate(marked) if i % folds != fold])
        for row in marked[fold::folds]:
            for name, right in judged(row, model, draw).items():
                counts.setdefault(name, []).extend(right)
    return {name: float(np.mean(right)) for name, right in counts.items()}


def judged(row: dict, model: Model, draw: random.Random) -> dict[str, list[bool]]:
    """What `crossvalidate` counts, for one marked reply."""
    unbroken = [(name, text.replace("\n", "")) for name, text in row["sections"]]
    texts = {"complete": "".join(text for _, text in row["sections"])} | spoiled(row["sections"], draw)
    return {
        "characters": right(row["sections"], model),
        "characters_unbroken": right(unbroken, model),
        **{name: [structure(text, model).complete] for name, text in texts.items()},
    }


def right(marked: list[tuple[str, str]], model: Model) -> list[bool]:
    """For each character of a marked reply, whether it is given its component."""
    given = segment("".join(text for _, text in marked), model)
    marks, found = ([name for name, text in stretches for _ in text] for stretches in (marked, given))
    return [mark == name for mark, name in zip(marks, found, strict=True)]


def spoiled(marked: list[tuple[str, str]], draw: random.Random) -> dict[str, str]:
    """A marked reply made worse: sentences shuffled, sections swapped, cut at 80 %, its first 40 % over and over."""
    parts = [text.strip() for _, text in marked]
    reply = "".join(text for _, text in marked)
    texts = sentences(reply)
    return {
        "shuffled": "".join(draw.sample(texts, len(texts))),
        "swapped": "\n\n".join(parts[2:] + parts[:2]),
        "cut": reply[: len(reply) * 4 // 5],
        "looping": reply[: len(reply) * 2 // 5] * 3,
    }
