"""The posts and forum answers that tiny models learn from, and those that they are tested on."""

import random
from dataclasses import dataclass
from pathlib import Path

from cbtllm_utils import files
from cbtllm_utils.data import psyqa


@dataclass(frozen=True)
class Corpus:
    """Pairs of post and forum answer: what the tiny models may see, and what they are tested on."""

    training: list[tuple[str, str]]
    heldout: list[tuple[str, str]]

    def texts(self, split: str = "training") -> list[str]:
        """Return each post with its answer as one text."""
        return [f"{post}\n{answer}" for post, answer in getattr(self, split)]


def corpus(path: str | Path, heldout: int, seed: int) -> Corpus:
    """Return the posts of a file, each with its first answer, shuffled; the first `heldout` of them for the test."""
    found, _ = psyqa.read(path)
    pairs = [(f"{q.question}\n{q.description}", q.answers[0]) for q in found if q.answers]
    if len(pairs) <= heldout:
        raise files.InputError(
            f"{files.shown(path)}: {len(pairs)} answered posts; more than heldout = {heldout} are needed"
        )
    random.Random(seed).shuffle(pairs)
    return Corpus(pairs[heldout:], pairs[:heldout])
