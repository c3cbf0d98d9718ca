"""The form of replies: why one cannot enter the data set, flaws, and what many replies of a system have in common."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cbtllm_utils import statistics
from cbtllm_utils.data.prompts import COMPONENTS, OPEN, Prompt
from cbtllm_utils.llm.failure import REFUSED, UNANSWERED, Failure
from cbtllm_utils.text import distortions, screening, sections
from cbtllm_utils.text.cleaning import remains
from cbtllm_utils.text.endings import MID_SENTENCE, ends, stated
from cbtllm_utils.text.refusals import ANSWERS, refusal

REFUSED_BY_MODEL, CUT_OFF, FAILED = "refused by the model", "cut off", "failed the check"  # kinds of an unfit reply
REFUSAL_STATED = ("refusal", "refused")  # as a reason why the reply ended
FEWEST_COMPONENTS = 3  # with fewer, a reply that holds words of refusal is a refusal
TARGETS = ("hotline", "emergency", "clinic", "police", "trusted_person")  # what `screening.find_referral` names
COPIED = 15  # characters: a sentence of the prompt of this length does not occur in a reply by chance


@dataclass(frozen=True)
class Rules:
    """What a reply must be to enter the data set: characters, share of Chinese letters, components out of five."""

    min_characters: int = 200
    max_characters: int = 1500
    min_chinese: float = 0.5
    min_components: int = 3


def problem(
    text: str, finish_reason: str | None, prompt: Prompt, rules: Rules, post: int | str | None = None
) -> Failure | None:
    """Return why a cleaned reply cannot enter the data set, or None: the first reason, the most certain first.

    Three kinds, of which none is the provider's: cut off (the reason that the server states, or the last sentence does
    not end); refused by the model (words of refusal in a reply without the components of an answer); failed the check
    (empty, a broken character �, a thinking tag or control token, prompt repeated, wrong language, too short, too long,
    components missing as `sections.structure` finds them: `min_components` allows for its errors).

    Args:
        post: The questionID of the reply's post, by which `sections.model_for` finds who judges its components.
    """
    present = sections.structure(text, sections.model_for(post)).present
    if reason := stated(finish_reason):
        return Failure(REFUSED_BY_MODEL if reason.lower() in REFUSAL_STATED else CUT_OFF, reason)
    if reason := unreadable(text):
        return Failure(FAILED, reason)
    if words := refused(text, present, rules):
        return Failure(REFUSED_BY_MODEL, words)
    if reason := foreign(text, prompt, rules):
        return Failure(FAILED, reason)
    if not ends(text):
        return Failure(CUT_OFF, MID_SENTENCE)
    if not rules.min_characters <= len(text) <= rules.max_characters:
        return Failure(FAILED, "too short" if len(text) < rules.min_characters else "too long")
    absent = [name for name in COMPONENTS if name not in present]
    missing = len(absent) > 5 - rules.min_components
    return Failure(FAILED, f"components missing: {', '.join(absent)}") if missing else None


def refused(text: str, present: Collection[str], rules: Rules) -> str | None:
    """Return the words of refusal in a reply that does not continue with an answer, or None.

    An answer has most components, including the client's thought or a question about it. A hotline and good wishes
    after a refusal are not an answer.
    """
    answers = len(present) >= FEWEST_COMPONENTS and bool(ANSWERS & set(present))
    return None if answers and len(text) >= rules.min_characters else refusal(text)


def unreadable(text: str) -> str | None:
    """Return why a reply cannot be read, or None: it is empty, has a broken character, or what a server left in it."""
    if not text.strip():
        return "empty"
    if "�" in text:
        return "a character is broken"
    left = remains(text)
    return f"holds {left}" if left else None


def foreign(text: str, prompt: Prompt, rules: Rules) -> str | None:
    """Return whether a reply is the prompt's own text or in another language, or None."""
    if repeated(text, prompt):
        return "prompt repeated"
    return "wrong language" if chinese(text) < rules.min_chinese else None


def repeated(text: str, prompt: Prompt) -> bool:
    """Return whether a reply holds a whole sentence of its prompt, or the prompt's brackets."""
    pieces = (piece.strip("- ") for piece in re.split(r"[。！？；\n]", prompt.text))
    return any(mark in text for mark in OPEN.values()) or any(p in text for p in pieces if len(p) >= COPIED)


def chinese(text: str) -> float:
    """Return the share of Chinese characters among a text's letters; 0 where it has no letters."""
    letters = [character for character in text if character.isalpha()]
    return hanzi(text) / len(letters) if letters else 0.0


def hanzi(text: str) -> int:
    """Return the number of Chinese characters in a text, as a prompt's limits count them."""
    return sum("\u4e00" <= character <= "\u9fff" for character in text)


def shares(texts: Mapping[str, list[tuple[int | str, str]]], low: int, high: int) -> pd.DataFrame:
    """Return the shares of texts that do what the prompt asks, with Wilson's intervals.

    Three demands: all five components, these in the paper's order, `low` to `high` Chinese characters.

    Args:
        texts: Replies by kind, each with the questionID of its post (`sections.model_for`).
        low: The fewest characters that the prompt asks for.
        high: The most.

    Returns:
        One row per kind and demand: row, kind, demand, share as text, value, low, high, n.
    """
    lines = []
    for kind, replies in texts.items():
        found = [sections.structure(reply, sections.model_for(post)) for post, reply in replies]
        met = {
            "all five components": sum(set(COMPONENTS) <= set(s.present) for s in found),
            "all five, in order": sum(s.complete for s in found),
            f"{low} to {high} characters": sum(low <= hanzi(reply) <= high for _, reply in replies),
        }
        for demand, count in met.items():
            row = {"row": f"{kind}: {demand}", "kind": kind, "demand": demand}
            row |= {"share": statistics.share_text(count, len(replies))}
            lines.append(row | statistics.wilson(count, len(replies))._asdict() | {"n": len(replies)})
    return pd.DataFrame(lines)


def demands_met(shares: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `shares` to read: one row per kind of texts, one column per demand."""
    wide = shares.pivot(index="kind", columns="demand", values="share")
    wide = wide.reindex(index=shares["kind"].unique(), columns=shares["demand"].unique())
    return wide.rename_axis(index="texts", columns=None).reset_index()


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
    pieces, known = sections.ngrams(reply, 8), set(sections.ngrams(post, 8))
    if pieces and sum(piece in known for piece in pieces) >= len(pieces) / 2:
        found.add("copy")
    return found


def answered(answers: Iterable[dict]) -> list[dict]:
    """Return the rows that hold a reply: a server may refuse a test item or give none, which its row then says."""
    return [row for row in answers if row["finish_reason"] not in (REFUSED, UNANSWERED)]


def quality(answers: list[dict], posts: Mapping[object, str]) -> pd.DataFrame:
    """Return one row per system: items, mean tokens, and how many replies are empty, loop, copy or were cut off.

    Items without a reply (`answered`) are not among them.
    """
    table = pd.DataFrame(answered(answers))
    bad = [flaws(reply, posts[item]) for reply, item in zip(table["reply"], table["questionID"], strict=True)]
    for kind in ("empty", "loop", "copy"):
        table[kind] = [kind in found for found in bad]
    table["cut off"] = [stated(reason) is not None for reason in table["finish_reason"]]
    groups = table.groupby("system", sort=False)
    counts = groups[["empty", "loop", "copy", "cut off"]].sum().astype(int)
    sizes = pd.DataFrame({"items": groups.size(), "mean tokens": groups["tokens"].mean()})
    return sizes.join(counts).reset_index()


def structure(answers: list[dict]) -> pd.DataFrame:
    """Return one row per system: its replies, those with each of the five components, with all, with all in order.

    By `sections.structure`: a check of form, not of meaning.

    Args:
        answers: Rows with system, reply and questionID. `sections.model_for` the latter has not learned from replies
            to this post; of a reply that copies one to another post, it is the other's.

    Returns:
        Counts of replies; `structure_shares` makes shares of them.
    """
    rows = []
    for row in answers:
        found = sections.structure(row["reply"], sections.model_for(row["questionID"]))
        present = {name: name in found.present for name in COMPONENTS}
        whole = {"all five": all(present.values()), "all five, in order": found.complete}
        rows.append({"system": row["system"], "replies": 1} | present | whole)
    return pd.DataFrame(rows).groupby("system", sort=False).sum().astype(int).reset_index()


def structure_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of `structure` as shares in words: "20 of 36 (40–70 %)", with Wilson's interval."""

    def told(row: pd.Series) -> pd.Series:
        return row.drop("replies").map(lambda count: statistics.share_text(count, row["replies"]))

    return counts.set_index("system").apply(told, axis=1).reset_index()


def traits(systems: Mapping[str, Sequence[str]], references: Sequence[str]) -> pd.DataFrame:
    """Return traits that the metrics do not show: one row per system, the references first.

    length ratio: all characters by those of the references. self-repetition: mean `sections.repetition` of four
    characters. names a distortion: how many replies attribute one to the client (`distortions.find`). same distortion:
    of the items whose reference names one, in how many the reply names at least one of the same; "–" where no reference
    does, and of the references themselves, where all would.
    """
    theirs, rows = [set(distortions.labels(text)) for text in references], []
    for name, texts in ({"reference": references} | systems).items():
        ours = [set(distortions.labels(text)) for text in texts]
        same = [bool(own & other) for own, other in zip(ours, theirs, strict=True) if other]
        row = {"system": name, "length ratio": sum(map(len, texts)) / max(sum(map(len, references)), 1)}
        row |= {"self-repetition": np.mean([sections.repetition(text, 4) for text in texts])}
        row |= {"names a distortion": statistics.share_text(sum(map(bool, ours)), len(ours))}
        also = "–" if name == "reference" else statistics.share_text(sum(same), len(same))
        rows.append(row | {"same distortion": also})
    return pd.DataFrame(rows)


def referrals(texts: Mapping[str, Sequence[str]], kind: str) -> pd.DataFrame:
    """Return one row for each kind of texts: how many replies advise what, by the referral screen.

    Args:
        texts: The replies of each kind.
        kind: The name of the first column, which has the kinds.

    Returns:
        Counts of replies: advise both a crisis resource and a trusted person (`screening.advice`), each target of
        `screening.advised` (without those that the reply advises against as well), no advice found, advise against a
        crisis resource; and the share of the first as
        text, with Wilson's interval. A screen reads no sense: a reply that it counts has not been read.
    """
    rows = []
    for name, replies in texts.items():
        found = [screening.advised(reply) for reply in replies]
        both = sum(map(screening.advice, replies))
        row = {kind: name, "replies": len(replies), "advise resource and person": both}
        row |= {target.replace("_", " "): sum(target in one for one in found) for target in TARGETS}
        row |= {"no advice found": sum(not one for one in found)}
        row |= {"advise against a resource": sum(bool(screening.find_against(reply)) for reply in replies)}
        rows.append(row | {"share of both": statistics.share_text(both, len(replies))})
    return pd.DataFrame(rows)
