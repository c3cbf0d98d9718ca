"""Reading replies: names of distortions beside a loop of regular expressions, and the five sections."""

import re
import time
from collections.abc import Iterator

from benchmarks.table import Row
from cbtllm_utils import files, published
from cbtllm_utils.text import distortions, sections


def replies(number: int) -> list[str]:
    """So many replies of the study's length: the recorded ones, over and over, a different one each time."""
    rows = files.read_jsonl("data/sample/recorded_replies.jsonl")
    texts = ["".join(text for _, text in row["sections"]) for row in rows]
    return [f"{texts[i % len(texts)]}（{i}）" for i in range(number)]


def loop(texts: list[str]) -> int:
    """What a user would write: every name of the taxonomy searched in every reply, no trap, no denial."""
    terms = [term for words in distortions.taxonomy()["terms"] for term in words.split()]
    return sum(bool(re.search(term, text)) for text in texts for term in terms)


def rows() -> Iterator[Row]:
    """The paper's number of replies."""
    number = int(published.value("text", "items", "value"))
    texts = replies(number)
    distortions.find(texts[0])  # patterns are made once
    start = time.monotonic()
    for text in texts:
        distortions.find(text)
    ours = time.monotonic() - start
    start = time.monotonic()
    loop(texts)
    theirs = time.monotonic() - start
    yield Row(
        f"distortions in {number:,} replies", ours, "a regex a name, no traps, no denial", theirs, "< 10 s", ours < 10
    )
    sections.fitted()
    start = time.monotonic()
    for text in texts[:2000]:
        sections.segment(text)
    took = (time.monotonic() - start) * number / 2000
    yield Row(f"sections of {number:,} replies (of 2,000)", took, "distortions, above", ours, "< 30 s", took < 30)
