"""The form of replies, beside any metric: empty, in circles, copied, broken off; length, parts, distortions."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.text import distortions, sections


def flaws(reply: str, post: str) -> set[str]:
    """What is wrong with a reply's form: of empty, loop, copy. A reply that ends in mid-sentence is another matter.

    loop: a stretch of 4 characters or more stands three times in a row, or one character ten times, or the same
    sentence three times anywhere. copy: half of the reply's stretches of 8 characters stand in the post.
    """
    if not reply.strip():
        return {"empty"}
    found = set()
    spoken = Counter(s.strip() for s in re.split(r"[。！？!?\n]", reply))
    often = any(count >= 3 and len(s) >= 6 for s, count in spoken.items())
    if often or re.search(r"(.{4,80}?)\1\1", reply, re.S) or re.search(r"(\S)\1{9}", reply):
        found.add("loop")
    pieces, known = runs(reply, 8), set(runs(post, 8))
    if pieces and sum(piece in known for piece in pieces) >= len(pieces) / 2:
        found.add("copy")
    return found


def quality(answers: list[dict], posts: Mapping[object, str]) -> pd.DataFrame:
    """One row a system: items, mean tokens, and how many replies are empty, loop, copy the post or were cut off."""
    table = pd.DataFrame(answers)
    bad = [flaws(reply, posts[item]) for reply, item in zip(table["reply"], table["questionID"], strict=True)]
    for kind in ("empty", "loop", "copy"):
        table[kind] = [kind in found for found in bad]
    table["cut off"] = table["finish_reason"] == "length"
    groups = table.groupby("system", sort=False)
    counts = groups[["empty", "loop", "copy", "cut off"]].sum().astype(int)
    sizes = pd.DataFrame({"items": groups.size(), "mean tokens": groups["tokens"].mean()})
    return sizes.join(counts).reset_index()


def structure(answers: list[dict]) -> pd.DataFrame:
    """One row a system: the share of replies in which each of the five components is found, all five, and in order.

    By `sections.structure`, which has learnt from the bundled sample's replies: a check of shape, not of sense.
    """
    rows = []
    for row in answers:
        found = sections.structure(row["reply"])
        parts = {name: name in found.present for name in COMPONENTS}
        whole = {"all five": all(parts.values()), "all five, in order": found.complete}
        rows.append({"system": row["system"]} | parts | whole)
    return pd.DataFrame(rows).groupby("system", sort=False).mean().reset_index()


def repetition(reply: str, n: int = 4) -> float:
    """The share of a reply's runs of n characters that stood in it before: 1 - different runs / runs.

    seq-rep-n of Welleck et al. (2020), over characters. A reply shorter than n repeats nothing: 0.
    """
    found = runs(reply, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def runs(text: str, n: int) -> list[str]:
    """The text's stretches of n characters, one from each place."""
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def traits(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> pd.DataFrame:
    """One row a system, the references first: what metrics of resemblance do not show.

    length ratio: characters to those of the references, in sum. self-repetition: mean `repetition`. names a distortion:
    share of replies, attributed to the client (`distortions.find`). same distortion: among items whose reference names
    one, the share of replies that name at least one of the same; NaN where no reference does.
    """
    theirs, rows = [set(distortions.labels(text)) for text in references], []
    for name, texts in ({"reference": references} | systems).items():
        ours = [set(distortions.labels(text)) for text in texts]
        same = [bool(own & other) for own, other in zip(ours, theirs, strict=True) if other]
        row = {"system": name, "length ratio": sum(map(len, texts)) / max(sum(map(len, references)), 1)}
        row |= {"self-repetition": np.mean([repetition(text) for text in texts])}
        row |= {"names a distortion": np.mean([bool(own) for own in ours])}
        rows.append(row | {"same distortion": np.mean(same) if same else np.nan})
    return pd.DataFrame(rows)
