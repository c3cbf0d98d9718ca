"""Find where a reply directs its reader to help: names of help by patterns, whether it is advised by two models.

Patterns find names of help (a helpline's number, 急诊, 班主任). A logistic regression over the characters of the whole
reply decides whether the reply advises help, another over those beside a name whether this name is advised. Both are
learned from `data/screening/referrals.csv`.
"""

import bisect
import csv
import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize as to_unit_length

from cbtllm_utils import files
from cbtllm_utils.text import clauses

PATTERNS = Path(__file__).with_name("referral_patterns.csv")  # one regular expression a line
EXAMPLES = "data/screening/referrals.csv"  # replies, with what each directs to
KINDS = ("hotline", "emergency", "police", "clinic", "trusted_person")  # where two names overlap, the earlier counts
INITIAL = dict(zip(KINDS, "HEPCT", strict=True))  # what a name of each kind becomes before characters are counted
LONGEST = {"reply": 3, "name": 2}  # characters of a string that is counted
REACH = 25  # characters of the clause on either side of a name that are counted
NEAR = 15  # characters of the text on either side of the clause that are counted
RARITY = {"reply": 2, "name": 1}  # power of the inverse document frequency
NAME_SHARE = 0.2  # how much the best name of a reply adds to the log odds of the whole
HIGHEST = 5.0  # log odds of a name beyond which nothing is added; a reply far below is not read name by name
CLEAR = 1.0  # log odds from which a name is clearly advised, in a reply that directs to its kind
STRENGTH = {"reply": 30, "name": 10}  # C of the logistic regressions, the inverse of their penalty


class Least(NamedTuple):
    """Log odds above which a reply advises help, and above which a name in it is advised."""

    reply: float
    name: float


# Chosen with each voice left out in turn (tests/text/test_referral.py); what is SURE errs less and misses more.
ADVISED = Least(reply=-0.1, name=-0.5)
SURE = Least(reply=0.3, name=-0.3)


class Referral(NamedTuple):
    """What a reply directs to, the clause that does, and the position where it begins."""

    to: str
    text: str
    start: int


class Mention(NamedTuple):
    """A name of help, its place in the text, and its clause."""

    kind: str
    start: int
    end: int
    clause: clauses.Clause


class Weights(NamedTuple):
    """A logistic regression: for each string its rarity and its rarity times its weight, and the intercept."""

    strings: dict[str, tuple[float, float]]
    intercept: float

    def score(self, strings: Iterable[str]) -> float:
        """Return the log odds of a text with these strings, each counted once; unknown ones are left out."""
        known = [pair for one in strings if (pair := self.strings.get(one))]
        length = sum(rarity * rarity for rarity, _ in known) ** 0.5
        return self.intercept + sum(weight for _, weight in known) / max(length, 1e-12)


class Model(NamedTuple):
    """What is learned: whether a reply advises help, and whether it advises a name in it."""

    reply: Weights
    name: Weights


def find(reply: str, least: Least = ADVISED, model: Model | None = None) -> list[Referral]:
    """Return what a reply advises, in order: each clause once for each kind of help."""
    text = clauses.plain(reply)
    named, model = mentions(text), model or fitted()
    whole = model.reply.score(reply_strings(text, named)) if named else 0.0
    if not named or whole + NAME_SHARE * HIGHEST <= least.reply:
        return []
    scores = {one: model.name.score(name_strings(text, named, one)) for one in named if not against(text, named, one)}
    best = min(HIGHEST, max(scores.values(), default=-np.inf))
    if whole + NAME_SHARE * best <= least.reply:
        return []
    # A reply that advises help advises one name at least.
    return quote(reply, [one for one, score in scores.items() if score >= min(least.name, best)])


def find_against(reply: str) -> list[Referral]:
    """Return what a reply advises against (先别打12356), in order, crisis resources alone; each clause once a kind."""
    text = clauses.plain(reply)
    named = mentions(text)
    return quote(reply, [one for one in named if against(text, named, one)])


def against(text: str, named: Sequence[Mention], one: Mention) -> bool:
    """Return whether a clause advises against the crisis resource it names."""
    return one.kind != "trusted_person" and clauses.forbidden(*beside(text, named, one))


def quote(reply: str, named: list[Mention]) -> list[Referral]:
    """Return the clauses of these names as written in the reply, each once for each kind of help."""
    spans = dict.fromkeys((one.clause.start, len(one.clause.text), one.kind) for one in named)
    return [Referral(kind, reply[start : start + length], start) for start, length, kind in spans]


@functools.cache
def fitted() -> Model:
    """Return the model of all examples, trained at first use (about two seconds)."""
    table = files.read_csv(EXAMPLES, dtype=str, keep_default_na=False)
    return learn(zip(table["text"], (set(directs.split("+")) for directs in table["directs"]), strict=True))


def learn(examples: Iterable[tuple[str, set[str]]]) -> Model:
    """Learn from replies and the kinds of help that each directs to."""
    replies, names = [], []
    for number, (reply, kinds) in enumerate(examples):
        text = clauses.plain(reply)
        named = mentions(text)
        replies.append((reply_strings(text, named), bool(kinds & set(KINDS))))
        names += [(number, one.kind, name_strings(text, named, one), one.kind in kinds) for one in named]
    return Model(fit(replies, "reply"), learn_names(names))


def learn_names(names: Sequence[tuple[int, str, set[str], bool]]) -> Weights:
    """Learn from names: the number of the reply, the kind, the strings, and whether the reply directs to the kind.

    A reply that directs to a person names others too, and does not say which it means. So every name of the kind counts
    as advised at first; then, twice, the best one by what was learned and those that are clearly advised.
    """
    count = Counter(number for number, *_ in names)
    share = np.array([1 / count[number] for number, *_ in names])  # the names of a reply together count once
    share /= share.mean()
    strings, truth = [row[2] for row in names], [row[3] for row in names]
    weights = fit(list(zip(strings, truth, strict=True)), "name", share)
    for _ in range(2):
        scores = [weights.score(one) for one in strings]
        best: dict[tuple[int, str], float] = {}
        for (number, kind, *_), score in zip(names, scores, strict=True):
            best[number, kind] = max(score, best.get((number, kind), score))
        clear = [min(CLEAR, best[number, kind]) for number, kind, *_ in names]
        meant = [row[3] and score >= least for row, score, least in zip(names, scores, clear, strict=True)]
        weights = fit(list(zip(strings, meant, strict=True)), "name", share)
    return weights


def fit(examples: Sequence[tuple[set[str], bool]], kind: str, share: np.ndarray | None = None) -> Weights:
    """Fit a logistic regression to sets of strings: rare ones weigh more, each set has length 1."""
    vectorizer = CountVectorizer(analyzer=sorted, binary=True, dtype=np.float64)
    occurs = vectorizer.fit_transform([strings for strings, _ in examples])
    frequency = np.asarray(occurs.sum(axis=0)).ravel()
    rarity = (np.log((1 + occurs.shape[0]) / (1 + frequency)) + 1) ** RARITY[kind]
    classifier = LogisticRegression(C=STRENGTH[kind], solver="liblinear")
    classifier.fit(to_unit_length(occurs.multiply(rarity).tocsr()), [truth for _, truth in examples], share)
    pairs = zip(rarity.tolist(), (rarity * classifier.coef_[0]).tolist(), strict=True)
    return Weights(dict(zip(vectorizer.get_feature_names_out(), pairs, strict=True)), float(classifier.intercept_[0]))


@functools.cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Return one pattern for the names of each kind of help, and one for matters in which a person cannot help."""
    with PATTERNS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = dict.fromkeys(row["kind"] for row in rows)
    joined = {kind: "|".join(row["pattern"] for row in rows if row["kind"] == kind) for kind in kinds}
    return {kind: re.compile(words) for kind, words in joined.items()} | {
        "trusted_person": clauses.patterns()["person"]
    }


def mentions(text: str) -> list[Mention]:
    """Return the names of help in a plain text, by place, each with its clause."""
    found = [(*hit.span(hit.lastindex or 0), kind) for kind in KINDS for hit in patterns()[kind].finditer(text)]
    taken, kept = 0, []
    for start, end, kind in sorted(found, key=lambda one: (one[0], -one[1])):
        if start >= taken or (end > taken and kind != kept[-1][2]):
            kept.append((start, end, kind))
            taken = end
    parts = clauses.split(joined_numbers(text, kept)) if kept else []
    starts = [part.start for part in parts]
    placed = [(*one, parts[max(0, bisect.bisect_right(starts, one[0]) - 1)]) for one in kept]
    return [
        Mention(kind, start, end, clause)
        for start, end, kind, clause in placed
        if kind != "trusted_person" or not patterns()["matter"].search(clause.text)
    ]


def joined_numbers(text: str, spans: list[tuple[int, int, str]]) -> str:
    """Return a text of the same length whose telephone numbers (四零零，一六一) do not end a clause."""
    parts, place = [], 0
    for start, end, _ in spans:
        if start >= place:
            parts += [text[place:start], clauses.BOUNDARY.sub("-", text[start:end])]
            place = end
    return "".join(parts) + text[place:]


def masked(text: str, named: Sequence[Mention], start: int, end: int) -> str:
    """Return a part of a text with an initial in place of each name of help."""
    parts, place = [], start
    first = bisect.bisect_left(named, start, key=lambda one: one.start)
    last = bisect.bisect_left(named, end, key=lambda one: one.start)
    for one in named[first:last]:
        if place <= one.start and one.end <= end:
            parts += [text[place : one.start], INITIAL[one.kind]]
            place = one.end
    return "".join(parts) + text[place:end]


def beside(text: str, named: Sequence[Mention], one: Mention) -> tuple[str, str]:
    """Return the text before and after a name in its clause."""
    end = max(one.end, one.clause.start + len(one.clause.text))
    return (
        masked(text, named, max(one.clause.start, one.start - REACH), one.start),
        masked(text, named, one.end, min(end, one.end + REACH)),
    )


def runs(text: str, longest: int) -> set[str]:
    """Return the strings of a text up to a length."""
    return {text[start : start + n] for n in range(1, longest + 1) for start in range(len(text) - n + 1)}


def reply_strings(text: str, named: Sequence[Mention]) -> set[str]:
    """Return the strings that a whole reply is judged by: as written, without marks, and with names masked."""
    bare = re.sub(r"[\W_]+", " ", re.sub(r"\d+", "0", text))
    marked = re.sub(r"[。!\n…]+", "。", re.sub(r"\d+", "0", masked(text, named, 0, len(text))))
    return runs(bare, LONGEST["reply"]) | runs(marked, LONGEST["reply"])


def name_strings(text: str, named: Sequence[Mention], one: Mention) -> set[str]:
    """Return the strings that a name is judged by: those beside it in its clause, alone and with its kind, and those
    beside the clause."""
    before, after = (runs(words, LONGEST["name"]) for words in beside(text, named, one))
    sides = {f"{words}<" for words in before} | {f">{words}" for words in after}
    start, end = one.clause.start, one.clause.start + len(one.clause.text)
    earlier = runs(masked(text, named, max(0, start - NEAR), start), LONGEST["name"])
    later = runs(masked(text, named, end, min(len(text), end + NEAR)), LONGEST["name"])
    around = {f"{words}<<" for words in earlier} | {f">>{words}" for words in later}
    return sides | around | {one.kind} | {f"{one.kind} {words}" for words in sides}
