"""Who rates what without knowing whose it is: the sample, the shuffled entries, their codes, and the key kept apart."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cbtllm_utils import files, hashing, safe_spreadsheets
from cbtllm_utils.text import screening

SCALES = ("relevance", "structure", "helpfulness")  # §4.6 and Appendix A, each scored 0, 1 or 2
REFERENCE = "reference"  # the test set's own reply, rated like a system's
UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # what XML cannot hold
LETTERS = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # nothing that can be misread


@dataclass(frozen=True)
class Entry:
    """What a rater sees, under a code that means nothing."""

    entry: str
    question: str
    description: str
    answer: str
    check: str
    risk: bool


@dataclass(frozen=True)
class Sheet:
    """One rater's entries in that rater's own order."""

    form: str
    rater: str
    entries: tuple[Entry, ...]


def plain(text: str) -> str:
    """The text as every format can hold it: control characters and lone surrogates become �, line ends \\n."""
    return UNFIT.sub("�", text.replace("\r\n", "\n").replace("\r", "\n"))


def check(question: str, description: str, answer: str) -> str:
    """What tells an entry's text from an edited one; white space does not count, since spreadsheets change it."""
    return hashing.text("\x1f".join("".join(text.split()) for text in (question, description, answer)))


def sample(questions: Iterable[dict], answers: Iterable[dict], systems: list[str], items: int, seed: int) -> list[dict]:
    """One row a drawn question: questionID, question, description, and `replies`, system -> text.

    Drawn without looking at the texts, from those that every system answered; fewer than `items` where there are fewer.
    `reference` among the systems is the question's own `reply`. InputError for a system without answers, or without one
    question that every system answered.
    """
    replies = {(row["system"], row["questionID"]): plain(row["reply"]) for row in answers if row["reply"].strip()}
    rows = {row["questionID"]: row for row in questions}
    replies |= {(REFERENCE, number): plain(row["reply"]) for number, row in rows.items() if row.get("reply")}
    known = {system for system, _ in replies}
    if unknown := [system for system in systems if system not in known]:
        raise files.InputError(f"no answers by {', '.join(unknown)}; there are: {', '.join(sorted(known)) or 'none'}")
    whole = [number for number in sorted(rows, key=str) if all((system, number) in replies for system in systems)]
    if not whole:
        counts = ", ".join(f"{s} {sum((s, number) in replies for number in rows)}" for s in systems)
        raise files.InputError(f"no question was answered by all systems; answered of {len(rows)}: {counts}")
    drawn = np.random.default_rng(seed).permutation(len(whole))[:items]
    return [
        {"questionID": number, "question": plain(rows[number]["question"])}
        | {"description": plain(rows[number]["description"]), "replies": {s: replies[s, number] for s in systems}}
        for number in (whole[i] for i in sorted(drawn))
    ]


def sheets(drawn: list[dict], raters: int, repeats: int, seed: int) -> tuple[list[Sheet], pd.DataFrame]:
    """A sheet a rater, R1 … Rn, and the key: form, rater, position, entry, check, questionID, system, repeat.

    Every rater sees every reply once, and `repeats` of them a second time, at least a third of the others between.
    """
    made, keys = [], []
    pairs = [(row, system) for row in drawn for system in row["replies"]]
    for number in range(1, raters + 1):
        random = np.random.default_rng([seed, number])
        order = twice(len(pairs), min(repeats, len(pairs) // 3), random)
        entries = [entry(*pairs[i], code) for (i, _), code in zip(order, codes(len(order), random), strict=True)]
        form = hashing.text("\n".join(f"R{number} {e.entry} {e.check}" for e in entries))
        made.append(Sheet(form, f"R{number}", tuple(entries)))
        for position, ((i, again), e) in enumerate(zip(order, entries, strict=True), 1):
            row, system = pairs[i]
            keys.append((form, f"R{number}", position, e.entry, e.check, row["questionID"], system, again))
    columns = ["form", "rater", "position", "entry", "check", "questionID", "system", "repeat"]
    return made, pd.DataFrame(keys, columns=columns)


def keep(key: pd.DataFrame, name: str | Path) -> pd.DataFrame:
    """The key and the rows of earlier forms in the file `name`, after both were written there.

    Raters may still hold forms of an earlier run: its key must outlast the next one, or their work is lost.
    """
    place = files.path(name)
    kinds = dict.fromkeys(("form", "entry", "check"), str)
    if not pd.api.types.is_integer_dtype(key["questionID"]):
        kinds["questionID"] = str  # "007" is not 7
    if place.exists():
        earlier = pd.read_csv(place, dtype=kinds, keep_default_na=False).map(safe_spreadsheets.original)
        key = pd.concat([key, earlier[~earlier["form"].isin(key["form"])]], ignore_index=True)
    files.write_text(place, safe_spreadsheets.csv(key))
    return key


def twice(n: int, repeats: int, random: np.random.Generator) -> list[tuple[int, bool]]:
    """(which, whether it is a repeat) in shuffled order: repeats of the first third, spread over the last third."""
    order = [(int(i), False) for i in random.permutation(n)]
    again = [(order[i][0], True) for i in random.choice(max(n // 3, repeats), repeats, replace=False)]
    tail = order[2 * n // 3 :] + again
    return order[: 2 * n // 3] + [tail[i] for i in random.permutation(len(tail))]


def codes(n: int, random: np.random.Generator) -> list[str]:
    """So many different codes of four characters."""
    numbers = random.choice(len(LETTERS) ** 4, n, replace=False)
    return ["".join(LETTERS[int(x) // len(LETTERS) ** k % len(LETTERS)] for k in range(4)) for x in numbers]


def entry(row: dict, system: str, code: str) -> Entry:
    """The entry for one reply to one question."""
    question, description, answer = row["question"], row["description"], row["replies"][system]
    risk = screening.risk(f"{question} {description}")
    return Entry(code, question, description, answer, check(question, description, answer), risk)


def lengths(drawn: list[dict]) -> pd.DataFrame:
    """How well length alone tells two systems apart: pair, mean characters of each, and `told_apart`.

    `told_apart` is the share of questions that a guess by length alone gets right (ties count half): 0.5 is blind,
    1 means that the longer reply is always the same system's.
    """
    rows = []
    for a, b in itertools.combinations(drawn[0]["replies"] if drawn else [], 2):
        pairs = np.array([(len(row["replies"][a]), len(row["replies"][b])) for row in drawn])
        longer = np.mean(np.sign(pairs[:, 0] - pairs[:, 1]) / 2 + 0.5)
        rows.append((a, b, *pairs.mean(axis=0), max(longer, 1 - longer)))
    return pd.DataFrame(rows, columns=["system", "other", "characters", "other_characters", "told_apart"])
