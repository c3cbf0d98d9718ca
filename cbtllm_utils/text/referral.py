"""Find where a reply directs its reader to help: names of help by patterns, whether it is advised by a model.

Patterns find names of help (a helpline's number, 急诊, 班主任) and read the clause of each; a logistic regression over
what they read and over characters, learned from `data/screening/referrals.csv`, decides whether it is advised.
"""

import bisect
import csv
import functools
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression

from cbtllm_utils import files
from cbtllm_utils.text import clauses

PATTERNS = Path(__file__).with_name("referral_patterns.csv")  # one regular expression a line
EXAMPLES = "data/screening/referrals.csv"  # replies, with what each directs to
KINDS = ("hotline", "emergency", "police", "clinic", "trusted_person")  # where two names overlap, the earlier counts
INITIAL = dict(zip(KINDS, "HEPCT", strict=True))  # what a name of each kind becomes before its characters are counted
WIDE = {"C": "C", "T": "T"}  # names that take other verbs than a telephone number, which police and 120 share
PRONOUNS = {  # 打过去, 就去, 告诉她: what was named before
    "trusted_person": ("trusted_person",),
    "place": ("clinic", "emergency", "police", "trusted_person"),
    "telephone": ("hotline", "emergency", "police", "trusted_person"),
}
LONG = 150  # characters of a reply in which advice is one sentence among many
PERSONS = {"you": "[你您]", "third": "[他她它]", "me": "我(?!们)"}
REACH = 60  # characters of a clause on either side of a name that are read
NEIGHBORS = 6  # clauses of a sentence on either side that are read
LAST = 20  # names among which a pronoun finds its own
HALF_SENTENCE = 30  # characters of the sentences beside it that are read
NEAR = 3  # characters on either side of a name that are counted
LEAST_SCORE = 0.35  # log odds of an advice; chosen with each voice left out in turn
IRONY = -1.5  # log odds for cues of irony in the sentence or after it, beside what is learned
OUTRIGHT = 1.5  # log odds for outright advice, beside what is learned: 找咨询师聊聊 in a style not learned from
COUNTER = ("useless", "irony", "against", "refuse")  # cues that turn advice into something else
LEAST_FURTHER = -0.5  # log odds of further advice in a reply that has one
REPLY_WEIGHT = 9.0  # length of the vector of a reply's characters, beside features of 1


class Referral(NamedTuple):
    """What a reply directs to, the clause that does, and the position where it begins."""

    to: str
    text: str
    start: int


class Mention(NamedTuple):
    """A name of help, or a pronoun for one, and its place in the text."""

    kind: str
    start: int
    end: int
    pronoun: bool = False


class Reading(NamedTuple):
    """A mention with its clause and what was read of it."""

    mention: Mention
    clause: clauses.Clause
    features: list[str]
    prior: float  # log odds beside those of the features


class Model(NamedTuple):
    """A logistic regression: the weight of each feature, and the intercept."""

    weights: dict[str, float]
    intercept: float


def find(reply: str, model: Model | None = None) -> list[Referral]:
    """Return what a reply advises, in order: each clause once for each kind of help."""
    readings, characters = read(clauses.plain(reply))
    if not readings:
        return []
    values = scores(readings, characters, model or fitted())
    least = LEAST_FURTHER if max(values) > LEAST_SCORE else float("inf")
    advised = [one for one, value in zip(readings, values, strict=True) if value > least]
    spans = dict.fromkeys((one.clause.start, len(one.clause.text), one.mention.kind) for one in advised)
    return [Referral(kind, reply[start : start + length], start) for start, length, kind in spans]


def find_against(reply: str) -> list[Referral]:
    """Return what a reply advises against (先别打12356), in order, crisis resources alone; each clause once a kind."""
    text = clauses.plain(reply)
    named = mentions(text)
    if not named:
        return []
    whole = Reply(text, named)
    spans = {}
    for one in named:
        number, start, end = whole.around(one)
        clause = whole.clauses[number]
        against = clauses.forbidden(whole.masked(start, one.start), whole.masked(one.end, end))
        if against and one.kind != "trusted_person":
            spans[clause.start, len(clause.text), one.kind] = None
    return [Referral(kind, reply[start : start + length], start) for start, length, kind in spans]


@functools.cache
def fitted() -> Model:
    """Return the model of all examples, trained at first use (about a second)."""
    table = files.read_csv(EXAMPLES, dtype=str, keep_default_na=False)
    return learn(zip(table["text"], (set(directs.split("+")) for directs in table["directs"]), strict=True))


def learn(examples: Iterable[tuple[str, set[str]]]) -> Model:
    """Learn from replies and the kinds of help that each directs to: a mention of such a kind counts as advised."""
    rows, truth, counts = [], [], []
    for text, kinds in examples:
        readings, characters = read(clauses.plain(text))
        rows += [characters | dict.fromkeys(one.features, 1.0) for one in readings]
        truth += [one.mention.kind in kinds for one in readings]
        counts += [1 / max(1, len(readings))] * len(readings)  # each reply counts once
    vectorizer = DictVectorizer()
    classifier = LogisticRegression(C=0.1, max_iter=3000)
    advised, weight = np.array(truth), np.array(counts)
    for value in (True, False):  # both classes together count the same
        weight[advised == value] *= len(advised) / 2 / weight[advised == value].sum()
    classifier.fit(vectorizer.fit_transform(rows), advised, sample_weight=weight)
    weights = dict(zip(vectorizer.feature_names_, classifier.coef_[0].tolist(), strict=True))
    return Model(weights, float(classifier.intercept_[0]))


def scores(readings: list[Reading], characters: dict[str, float], model: Model) -> list[float]:
    """Return the log odds that each mention of a reply is advice."""
    weights = model.weights
    shared = model.intercept + sum(weights.get(name, 0.0) * value for name, value in characters.items())
    return [shared + one.prior + sum(weights.get(name, 0.0) for name in set(one.features)) for one in readings]


@functools.cache
def patterns(role: str) -> dict[str, re.Pattern[str]]:
    """Return one pattern for each kind in a role of the table."""
    with PATTERNS.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["role"] == role]
    joined = {row["kind"]: [other["pattern"] for other in rows if other["kind"] == row["kind"]] for row in rows}
    return {kind: re.compile("|".join(words)) for kind, words in joined.items()}


def mentions(text: str) -> list[Mention]:
    """Return the names of help in a plain text, by place."""
    named = patterns("mention") | {"trusted_person": clauses.patterns()["person"]}
    found = [Mention(kind, *hit.span(hit.lastindex or 0)) for kind in KINDS for hit in named[kind].finditer(text)]
    taken, kept = 0, []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if one.start >= taken or (one.end > taken and one.kind != kept[-1].kind):
            kept.append(one)
            taken = one.end
    return kept


def pronouns(text: str, named: list[Mention]) -> list[Mention]:
    """Return the pronouns that stand for the last help named before them."""
    found, places = [], [one.start for one in named]
    for group, pattern in patterns("pronoun").items():
        for hit in pattern.finditer(text):
            last = bisect.bisect_right(places, hit.start())
            meant = next((one for one in named[max(0, last - LAST) : last][::-1] if one.kind in PRONOUNS[group]), None)
            if meant and named[last - 1].end <= hit.start():
                found.append(Mention(meant.kind, *hit.span(), True))
    return found


def joined_numbers(text: str, named: list[Mention]) -> str:
    """Return a text of the same length whose telephone numbers (四零零，一六一) do not end a clause."""
    parts, place = [], 0
    for one in named:
        if one.start >= place:
            parts += [text[place : one.start], clauses.BOUNDARY.sub("-", text[one.start : one.end])]
            place = one.end
    return "".join(parts) + text[place:]


def read(text: str) -> tuple[list[Reading], dict[str, float]]:
    """Return the mentions of a plain text that may be advice, in order, and the features of its characters."""
    named = mentions(text)
    if not named:
        return [], {}
    reply = Reply(text, named)
    found = [read_mention(one, reply) for one in (*named, *pronouns(text, named))]
    return sorted(filter(None, found), key=lambda one: one.mention.start), reply.characters


class Reply:
    """A reply cut into clauses, with what is read of it once for all its mentions."""

    def __init__(self, text: str, named: list[Mention]):
        self.text, self.named, self.contexts = text, named, {}
        self.places = [one.start for one in named]
        whole = self.masked(0, len(text))
        self.quoted = clauses.quoted(text)
        self.clauses = clauses.split(joined_numbers(text, named))
        self.starts = [clause.start for clause in self.clauses]
        self.sentences = [
            [self.masked(one.start, one.start + len(one.text)) for one in group]
            for _, group in itertools.groupby(self.clauses, key=lambda clause: clause.sentence)
        ]
        self.place = [(i, k) for i, sentence in enumerate(self.sentences) for k in range(len(sentence))]
        self.cues = [f"reply you {min(3, whole.count('你') + whole.count('您'))}", f"long {len(text) > LONG}"]
        runs = set(whole) | {whole[i : i + 2] for i in range(len(whole) - 1)}
        self.characters = dict.fromkeys(runs, REPLY_WEIGHT / max(1, len(runs)) ** 0.5)

    def masked(self, start: int, end: int) -> str:
        """Return a part of the text with an initial in place of each name of help."""
        parts, place = [], start
        for one in self.named[bisect.bisect_left(self.places, start) : bisect.bisect_left(self.places, end)]:
            if place <= one.start and one.end <= end:
                parts += [self.text[place : one.start], INITIAL[one.kind]]
                place = one.end
        return "".join(parts) + self.text[place:end]

    def around(self, one: Mention) -> tuple[int, int, int]:
        """Return the number of a mention's clause, and where what is read of the clause begins and ends."""
        number = max(0, bisect.bisect_right(self.starts, one.start) - 1)
        clause = self.clauses[number]
        end = max(one.end, min(clause.start + len(clause.text), one.end + REACH))
        return number, max(clause.start, one.start - REACH), end

    def inherited(self, number: int) -> str:
        """Return who acts before a clause in its sentence."""
        first = number - min(NEIGHBORS, self.place[number][1])
        return functools.reduce(lambda who, clause: clauses.subject(clause.text, who), self.clauses[first:number], "")

    def context(self, number: int) -> list[str]:
        """Return the features of what is around a clause: its neighbors, its sentence, the sentences beside it."""
        if number not in self.contexts:
            self.contexts[number] = self.read_context(number)
        return self.contexts[number]

    def read_context(self, number: int) -> list[str]:
        """Read what is around a clause."""
        i, k = self.place[number]
        whole = ",".join(self.sentences[i][max(0, k - NEIGHBORS) : k + NEIGHBORS + 1])
        last = self.sentences[i - 1][-NEIGHBORS:] if i else []
        following = self.sentences[i + 1][:NEIGHBORS] if i + 1 < len(self.sentences) else []
        beside = {"sentence": whole, "sentence before": ",".join(last)[-HALF_SENTENCE:]}
        beside["sentence after"] = ",".join(following)[:HALF_SENTENCE]
        persons = {name: min(2, len(re.findall(words, whole))) for name, words in PERSONS.items()}
        return [
            *(f"{name} {cue}" for name, words in beside.items() for cue in cues(words)),
            *(f"{name} {count}" for name, count in persons.items()),
            f"mark {self.mark(number)}",
        ]

    def mark(self, number: int) -> str:
        """Return the mark that ends a clause's sentence."""
        i, k = self.place[number]
        return self.clauses[number - k + len(self.sentences[i]) - 1].mark


def cues(words: str) -> list[str]:
    """Return the cues that words hold: urging, time, offer, past, irony, refusal, …"""
    return [cue for cue, found in patterns("cue").items() if found.search(words)]


def read_mention(one: Mention, reply: Reply) -> Reading | None:
    """Return what is read of a mention; None where it is advised against, asked about, or not for help.

    A person is turned to for help by words such as 告诉 or 陪, not in a matter such as 作业 or 排班.
    """
    number, start, end = reply.around(one)
    clause, initial = reply.clauses[number], INITIAL[one.kind]
    before, after = reply.masked(start, one.start), reply.masked(one.end, end)
    goes = bool(patterns("turn_before")[one.kind].search(before))
    acts = patterns("act").get(one.kind)
    goes = goes or bool(acts and acts.match(reply.text[one.start : one.end]))
    turned = one.pronoun or goes or bool(patterns("turn_after")[one.kind].match(after))
    asked = clauses.asked(clause, reply.mark(number))
    if clauses.forbidden(before, after) or asked or patterns("sent")["somebody"].search(reply.text[start:end]):
        return None
    if one.kind == "trusted_person" and (not turned or patterns("matter")[one.kind].search(before + after)):
        return None
    who = clauses.subject(reply.text[start : one.start], reply.inherited(number))
    past = clauses.past(reply.text[start:end])
    quoted = any(first < one.start < last - 1 for first, last in reply.quoted)
    sent = one.kind != "trusted_person" and bool(patterns("sent")["other"].search(reply.text[start:end]))
    simple = turned and not past and not sent and not quoted and who in ("", "reader")
    read_of = {"subject": who, "turned": turned, "goes": goes, "past": past, "sent": sent, "quoted": quoted}
    context = reply.context(number)
    words = before[-NEAR:] + initial + after[:NEAR]
    features = [
        f"names {initial}",
        f"pronoun {one.pronoun} {initial}",
        *(f"{name} {value}" for name, value in read_of.items()),
        *(f"{name} {value} {initial}" for name, value in read_of.items()),
        *(f"simple {simple} {other}" for other in ("", initial, *context, *reply.cues)),
        *context,
        *reply.cues,
        *order(before, initial, after),
        *(f"beside {words[i : i + n]}" for n in (1, 2, 3) for i in range(len(words) - n + 1)),
    ]
    urged = {"urge", "suggest"} & set(cues(before)) or patterns("outright")["imperative"].match(reply.text[start:end])
    countered = {f"{place} {cue}" for place in ("sentence", "sentence after") for cue in COUNTER} & set(context)
    outright = simple and (goes or one.pronoun) and bool(urged) and not countered
    ironic = {"sentence irony", "sentence after irony"} & set(context)
    return Reading(one, clause, features, OUTRIGHT * outright + IRONY * bool(ironic))


def order(before: str, initial: str, after: str) -> list[str]:
    """Return the runs of two to five classes of words (请, 你, 今晚, 打, 吧, …) around the name in a clause."""
    left, right = word_classes(before)[-4:], word_classes(after)[:4]
    words = ["^", *left, WIDE.get(initial, "H"), *right, "$"]
    place = len(left) + 1
    runs = [(first, first + n) for n in (2, 3, 4, 5) for first in range(max(0, place - n + 1), place + 1)]
    return [f"order {' '.join(words[first:last])}" for first, last in runs if last <= len(words)]


@functools.cache
def word_class() -> tuple[re.Pattern[str], list[str]]:
    """Return one pattern of all classes of words, with a group for each, and their names."""
    classes = patterns("class")
    return re.compile("|".join(f"({found.pattern})" for found in classes.values())), list(classes)


def word_classes(words: str) -> list[str]:
    """Return the classes of words in order; words of no class are left out."""
    pattern, names = word_class()
    return [names[found.lastindex - 1] for found in pattern.finditer(words)]
