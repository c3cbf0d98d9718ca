"""The form of replies, before any metric: empty, in circles, copied, broken off; and which of the five parts they have."""

import re
from collections.abc import Mapping

import pandas as pd

from cbtllm_utils import sections
from cbtllm_utils.prompts import COMPONENTS


def flaws(reply: str, post: str) -> set[str]:
    """What is wrong with a reply's form: of empty, loop, copy. A reply that ends in mid-sentence is another matter.

    loop: a stretch of 4 characters or more stands three times in a row, or one character ten times, or the same
    sentence three times anywhere. copy: half of the reply's stretches of 8 characters stand in the post.
    """
    if not reply.strip():
        return {"empty"}
    found = set()
    spoken = [s.strip() for s in re.split(r"[。！？!?\n]", reply)]
    often = any(spoken.count(s) >= 3 for s in set(spoken) if len(s) >= 6)
    if often or re.search(r"(.{4,80}?)\1\1", reply, re.S) or re.search(r"(\S)\1{9}", reply):
        found.add("loop")
    pieces = [reply[i : i + 8] for i in range(len(reply) - 7)]
    if pieces and sum(piece in post for piece in pieces) >= len(pieces) / 2:
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
