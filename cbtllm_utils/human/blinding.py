"""Blinded rating sheets: which replies are rated, in which order, under which codes, and the key to the codes."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cbtllm_utils import files, hashing, safe_spreadsheets
from cbtllm_utils.text import screening

SCALES = ("relevance", "structure", "helpfulness")  # §4.6 and Appendix A; each is scored 0, 1 or 2
REFERENCE = "reference"  # the test set's own replies, rated like a system's
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # a workbook is XML
CODE_LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # without 0, 1, I, L and O, which look alike
KEY = ["form", "rater", "position", "entry", "check", "questionID", "system", "repeat"]


@dataclass(frozen=True)
class Entry:
    """One reply as a rater sees it, under a code that says nothing about its origin."""

    entry: str
    question: str
    description: str
    answer: str
    check: str
    risk: bool


@dataclass(frozen=True)
class Sheet:
    """One rater's entries, in this rater's own order."""

    form: str
    rater: str
    entries: tuple[Entry, ...]


def clean(text: str) -> str:
    """Return a text as every format can hold it: \\n at line ends, � for control characters and lone surrogates."""
    return NOT_IN_XML.sub("�", text.replace("\r\n", "\n").replace("\r", "\n"))


def checksum(question: str, description: str, answer: str) -> str:
    """Return a hash that shows whether an entry was edited; white space is ignored, since spreadsheets change it."""
    return hashing.text("\x1f".join("".join(text.split()) for text in (question, description, answer)))


def sample(questions: Iterable[dict], answers: Iterable[dict], systems: list[str], items: int, seed: int) -> list[dict]:
    """Draw questions that every system answered, without looking at the texts.

    Args:
        questions: Rows with questionID, question, description, for the system `reference` reply, and `risk` where a
            screen or a second reader has seen them.
        answers: Rows with system, questionID, reply.
        systems: Whose replies are rated.
        items: How many questions to draw; all where there are fewer.

    Returns:
        A dict for each question: questionID, question, description, risk, and `replies` from system to text.

    Raises:
        InputError: For a system without answers, or when no question was answered by all systems.
    """
    replies = {(row["system"], row["questionID"]): clean(row["reply"]) for row in answers if row["reply"].strip()}
    rows = {row["questionID"]: row for row in questions}
    replies |= {(REFERENCE, number): clean(row["reply"]) for number, row in rows.items() if row.get("reply")}
    known = {system for system, _ in replies}
    if unknown := [system for system in systems if system not in known]:
        raise files.InputError(f"no answers by {', '.join(unknown)}; there are: {', '.join(sorted(known)) or 'none'}")
    complete = [number for number in sorted(rows, key=str) if all((system, number) in replies for system in systems)]
    if not complete:
        counts = ", ".join(f"{s} {sum((s, number) in replies for number in rows)}" for s in systems)
        raise files.InputError(f"no question was answered by all systems; answered of {len(rows)}: {counts}")
    drawn = np.random.default_rng(seed).permutation(len(complete))[:items]
    return [
        {"questionID": number, "risk": rows[number].get("risk", False), "question": clean(rows[number]["question"])}
        | {"description": clean(rows[number]["description"]), "replies": {s: replies[s, number] for s in systems}}
        for number in (complete[i] for i in sorted(drawn))
    ]


def make_sheets(
    drawn: list[dict], raters: int, repeats: int, seed: int, called: str = "R"
) -> tuple[list[Sheet], pd.DataFrame]:
    """Make a sheet for each rater (`called` R1, R2, …) and the key to all sheets, with the columns `KEY`.

    Every rater sees every reply once, and `repeats` replies (at most a third) a second time, with at least a third of
    the others between.
    """
    sheets, keys = [], []
    pairs = [(row, system) for row in drawn for system in row["replies"]]
    for number in range(1, raters + 1):
        rater, random = f"{called}{number}", np.random.default_rng([seed, number])
        order = order_with_repeats(len(pairs), min(repeats, len(pairs) // 3), random)
        codes = random_codes(len(order), random)
        entries = [make_entry(*pairs[i], code) for (i, _), code in zip(order, codes, strict=True)]
        form = hashing.text("\n".join(f"{rater} {e.entry} {e.check}" for e in entries))
        sheets.append(Sheet(form, rater, tuple(entries)))
        for position, ((i, repeat), e) in enumerate(zip(order, entries, strict=True), 1):
            row, system = pairs[i]
            keys.append((form, rater, position, e.entry, e.check, row["questionID"], system, repeat))
    return sheets, pd.DataFrame(keys, columns=KEY)


def order_with_repeats(n: int, repeats: int, random: np.random.Generator) -> list[tuple[int, bool]]:
    """Return (index, whether it is a repeat) in random order; repeats of the first third lie within the last third."""
    order = [(int(i), False) for i in random.permutation(n)]
    again = [(order[i][0], True) for i in random.choice(max(n // 3, repeats), repeats, replace=False)]
    tail = order[2 * n // 3 :] + again
    return order[: 2 * n // 3] + [tail[i] for i in random.permutation(len(tail))]


def random_codes(n: int, random: np.random.Generator) -> list[str]:
    """Return `n` different codes of four characters."""
    base = len(CODE_LETTERS)
    numbers = random.choice(base**4, n, replace=False)
    return ["".join(CODE_LETTERS[int(x) // base**k % base] for k in range(4)) for x in numbers]


def make_entry(row: dict, system: str, code: str) -> Entry:
    """Return the entry for one system's reply to a drawn question; a post that is flagged there or by the risk screen
    has a notice."""
    question, description, answer = row["question"], row["description"], row["replies"][system]
    risk = row["risk"] or screening.risk(f"{question}\n{description}")
    return Entry(code, question, description, answer, checksum(question, description, answer), risk)


def save_key(key: pd.DataFrame, name: str | Path) -> pd.DataFrame:
    """Write the key, with the rows of earlier forms that the file has, and return both.

    Raters may still have forms of an earlier run; without their key their work would be lost.
    """
    place = files.path(name)
    kinds = dict.fromkeys(("form", "entry", "check"), str)  # The code 12E4 is not a number.
    if not pd.api.types.is_integer_dtype(key["questionID"]):
        kinds["questionID"] = str  # "007" is not 7.
    if place.exists():
        earlier = pd.read_csv(place, dtype=kinds, keep_default_na=False).map(safe_spreadsheets.original)
        key = pd.concat([key, earlier[~earlier["form"].isin(key["form"])]], ignore_index=True)
    files.write_text(place, safe_spreadsheets.csv(key))
    return key


def guessed_from_length(drawn: list[dict]) -> pd.DataFrame:
    """Return how well the length of a reply gives its system away, for each pair of systems.

    The last column is the share of questions for which guessing by length finds the right one of the two (a tie counts
    half). 0.5 is blind; 1 means that one system's reply is always the longer one.
    """
    rows = []
    for a, b in itertools.combinations(drawn[0]["replies"] if drawn else [], 2):
        pairs = np.array([(len(row["replies"][a]), len(row["replies"][b])) for row in drawn])
        first_is_longer = np.mean(np.sign(pairs[:, 0] - pairs[:, 1]) / 2 + 0.5)
        rows.append((a, b, *pairs.mean(axis=0), max(first_is_longer, 1 - first_is_longer)))
    columns = ["system", "other system", "mean characters", "mean characters of the other", "guessed from length"]
    return pd.DataFrame(rows, columns=columns)
