"""How often the classifier of components is right on marked replies that it has not learned from."""

import functools
import itertools

import numpy as np
import pandas as pd

from cbtllm_utils import files, statistics
from cbtllm_utils.text import sections

ALL = "all five"
STILL = "still found after removal (error)"


@functools.cache
def measured() -> pd.DataFrame:
    """Return what the cross-fitted classifier finds in each marked reply, one row per reply and component.

    Returns:
        questionID, component; the numbers of characters and sentences that are marked with the component, and of those
        that are also given it; `found`, whether `sections.structure` finds the component; `cut out`, whether this is
        the one component, in turn, that the reply was read without; `still found`, whether it was found all the same.
    """
    components = itertools.cycle(sections.NAMES)
    marked = files.read_jsonl(sections.MARKED)
    return pd.DataFrame([row for reply in marked for row in of_reply(reply, next(components))])


def of_reply(marked: dict, cut_out: str) -> list[dict]:
    """Return the rows of `measured` for one marked reply."""
    model = sections.model_for(marked["questionID"])
    texts, true = sections.sentence_components(marked)
    given = sections.read("".join(texts), model)[1]
    marks = np.array([name for name, text in marked["sections"] for _ in text])
    names = np.array([sections.NAMES[k] for text, k in zip(texts, given, strict=True) for _ in text])
    present = sections.structure("".join(texts), model).present
    without = "".join(text for name, text in marked["sections"] if name != cut_out)
    left = sections.structure(without, model).present
    rows = []
    for k, name in enumerate(sections.NAMES):
        own = [one == k for one, other in zip(given, true, strict=True) if other == k]
        row = {"questionID": marked["questionID"], "component": name}
        row |= {"characters": int((marks == name).sum()), "sentences": len(own)}
        row |= {"characters right": int(((marks == name) & (names == name)).sum()), "sentences right": sum(own)}
        row |= {"found": name in present, "cut out": name == cut_out}
        rows.append(row | {"still found": name == cut_out and name in left})
    return rows


def accuracy() -> pd.DataFrame:
    """Return how often the classifier is right on replies that it has not learned from, by component and for all five.

    Returns:
        component; replies; the percentage of characters and of sentences that are given the component they are marked
        with; and as counts with Wilson's intervals, for replies are independent of each other and sentences are not:
        replies whose sentences of the component are all right, replies in which the component is found (for all five:
        each of them), and replies in which it is still found after removal (of one component of each reply).
    """
    rows = measured()
    groups = {name: rows[rows["component"] == name] for name in sections.NAMES} | {ALL: rows}
    return pd.DataFrame([{"component": name} | of_group(group) for name, group in groups.items()])


def of_group(rows: pd.DataFrame) -> dict:
    """Return one row of `accuracy`."""
    by_reply, total = rows.groupby("questionID"), rows.sum(numeric_only=True)
    counts, n = by_reply[["sentences", "sentences right"]].sum(), by_reply.ngroups
    whole = int((counts["sentences"] == counts["sentences right"]).sum())
    still = int(rows["still found"].sum()), int(rows["cut out"].sum())
    return {
        "replies": n,
        "characters right, %": 100 * total["characters right"] / total["characters"],
        "sentences right, %": 100 * total["sentences right"] / total["sentences"],
        "replies with every sentence right": statistics.share_text(whole, n),
        "replies in which it is found": statistics.share_text(int(by_reply["found"].all().sum()), n),
        STILL: statistics.share_text(*still),
    }


def in_words() -> str:
    """Return the accuracy and its limits as words for the caption of a table that rests on the classifier."""
    whole = accuracy().set_index("component").loc[ALL]
    return (
        "components by the wording of sentences, not by their meaning: a classifier that has not learned from the "
        "sample's reply to the same post; on "
        f"{whole['replies']} marked replies of one model it gets {whole['sentences right, %']:.1f} % of sentences "
        f"right, and it wrongly still finds a removed component in {whole[STILL]}; its "
        "accuracy on other replies is unknown"
    )


def paragraphs() -> str:
    """Return how many marked replies change the component at line breaks only, as "k of n" with an interval."""
    marked = files.read_jsonl(sections.MARKED)
    split = [all(own[-1].endswith("\n") for own in stretches(row)[:-1]) for row in marked]
    return statistics.share_text(sum(split), len(marked))


def stretches(marked: dict) -> list[list[str]]:
    """Return the texts of a marked reply, those of one component that follow each other together."""
    return [[text for _, text in run] for _, run in itertools.groupby(marked["sections"], key=lambda one: one[0])]
