"""Scores by neural models, each pair of texts scored once: in memory, and in a file for the next run."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cbtllm_utils import hashing, response_cache

Pair = tuple[str, str]  # reference, candidate
Stream = Callable[[list[Pair]], Iterator[tuple[int, list[float]]]]  # (place of the pair, its numbers), in any order


class Kept:
    """The numbers of pairs, in their order, by `stream` for those that are not known yet.

    `key` names all that decides a number besides the two texts: model, settings, libraries, code. `path` is a journal
    that outlives the process; without it numbers are kept in memory alone. A broken run goes on where it stopped.
    """

    def __init__(self, stream: Stream, key: str, path: str | Path | None = None) -> None:
        self.stream, self.key, self.path = stream, key, path
        known = response_cache.read(path) if path else {}
        self.known = {mark: entry["answer"] for mark, entry in known.items()}

    def __call__(self, pairs: Sequence[Pair]) -> list[list[float]]:
        marks = [hashing.text(json.dumps([self.key, *pair])) for pair in pairs]
        waiting = {mark: pair for mark, pair in zip(marks, pairs, strict=True) if mark not in self.known}
        if waiting:
            names = list(waiting)
            with response_cache.appending(self.path) if self.path else contextlib.nullcontext() as file:
                for place, numbers in self.stream(list(waiting.values())):
                    self.known[names[place]] = numbers
                    if file:
                        file.write(json.dumps({"hash": names[place], "answer": numbers}) + "\n")
                        file.flush()  # a kill costs the batch at work; nobody paid for it: no need of a disk's word
        return [self.known[mark] for mark in marks]
