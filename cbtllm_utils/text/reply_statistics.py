"""The form of replies, beside any metric: empty, looping, copied, cut off; length, components, distortions."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cbtllm_utils.data.prompts import COMPONENTS
from cbtllm_utils.text import distortions, sections


def flaws(reply: str, post: str) -> set[str]:
    """Return what is wrong with a reply's form: empty, loop, copy.

    loop: four or more characters three times in a row, one character ten times in a row, or the same sentence three
    times anywhere. copy: half of the reply's runs of eight characters occur in the post.
    """
    if not reply.strip():
        return {"empty"}
    found = set()
    said = Counter(s.strip() for s in re.split(r"[。！？!?\n]", reply))
    often = any(count >= 3 and len(s) >= 6 for s, count in said.items())
    if often or re.search(r"(.{4,80}?)\1\1", reply, re.S) or re.search(r"(\S)\1{9}", reply):
        found.add("loop")
    pieces, known = runs(reply, 8), set(runs(post, 8))
    if pieces and sum(piece in known for piece in pieces) >= len(pieces) / 2:
        found.add("copy")
    return found


def quality(answers: list[dict], posts: Mapping[object, str]) -> pd.DataFrame:
    """Return one row per system: items, mean tokens, and how many replies are empty, loop, copy or were cut off."""
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
    """Return one row per system: the shares of replies with each of the five components, with all, with all in order.

    By `sections.structure`, which learned from the bundled sample's replies: a check of form, not of meaning.
    """
    rows = []
    for row in answers:
        found = sections.structure(row["reply"])
        present = {name: name in found.present for name in COMPONENTS}
        whole = {"all five": all(present.values()), "all five, in order": found.complete}
        rows.append({"system": row["system"]} | present | whole)
    return pd.DataFrame(rows).groupby("system", sort=False).mean().reset_index()


def repetition(reply: str, n: int = 4) -> float:
    """Return the share of a reply's runs of n characters that occurred in it before: 1 - different runs / runs.

    seq-rep-n of Welleck et al. (2020), over characters; 0 for a reply shorter than n.
    """
    found = runs(reply, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def runs(text: str, n: int) -> list[str]:
    """Return the text's runs of n characters, one from each position."""
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def traits(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> pd.DataFrame:
    """Return what metrics of resemblance do not show: one row per system, the references first.

    length ratio: all characters by those of the references. self-repetition: mean `repetition`. names a distortion:
    share of replies that attribute one to the client (`distortions.find`). same distortion: among items whose reference
    names one, the share of replies that name at least one of the same; NaN where no reference does.
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
