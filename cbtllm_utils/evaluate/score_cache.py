"""Scores by neural models, each pair of texts scored once: in memory, and in a file for the next run."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from cbtllm_utils import evaluate, hashing, response_cache

LIBRARIES = ("torch", "transformers", "tokenizers", "sentencepiece", "bert-score", "sacrebleu", "nltk", "jury")

Pair = tuple[str, str]  # reference, candidate
Stream = Callable[[list[Pair]], Iterator[tuple[int, list[float]]]]  # (index of the pair, its numbers), in any order


def key(folder: str | Path, **settings: object) -> str:
    """Return what decides a score besides the texts: the model's files, settings, libraries, version of this room."""
    libraries = {name: version(name) for name in LIBRARIES}
    known = {"model": hashing.content(Path(folder)), "libraries": libraries, "version": evaluate.VERSION}
    return json.dumps(known | settings, sort_keys=True)


class ScoreCache:
    """A function from pairs of texts to their numbers, which computes only those that it does not know yet.

    Args:
        stream: Computes the numbers of pairs, each of which is cached as soon as it is yielded.
        key: Names everything that decides a number besides the two texts.
        path: A file that outlives the process, so that an interrupted run continues where it stopped; by default
            numbers are in memory only.
    """

    def __init__(self, stream: Stream, key: str, path: str | Path | None = None) -> None:
        self.stream, self.key, self.path = stream, key, path
        known = response_cache.read(path) if path else {}
        self.known = {name: entry["answer"] for name, entry in known.items()}

    def __call__(self, pairs: Sequence[Pair]) -> list[list[float]]:
        """Return the numbers of the pairs, in their order."""
        names = [hashing.text(json.dumps([self.key, *pair])) for pair in pairs]
        missing = {name: pair for name, pair in zip(names, pairs, strict=True) if name not in self.known}
        if missing:
            hashes = list(missing)
            with response_cache.appending(self.path) if self.path else contextlib.nullcontext() as file:
                for index, numbers in self.stream(list(missing.values())):
                    self.known[hashes[index]] = numbers
                    if file:
                        file.write(json.dumps({"hash": hashes[index], "answer": numbers}) + "\n")
                        file.flush()  # No fsync: recomputing is cheap.
        return [self.known[name] for name in names]
