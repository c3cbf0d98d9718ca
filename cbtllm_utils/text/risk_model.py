"""A statistical model of risk in a post, fitted to texts by many voices (`data/screening`).

Logistic regression on features of a post's clauses: strings of one to three characters, and pairs of nearby
characters. Rare features weigh more than in the usual tf-idf, by the cube of their inverse document frequency:
on left-out voices this found more than the other choices that we tried (`data/screening/README.md`).
"""

import functools
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix, diags_array, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize as to_length_1

from cbtllm_utils import files
from cbtllm_utils.text import normalization

POSTS = "data/screening/posts.csv"  # id, voice, kind, label, second_label, second_kind, text
LOOK_ALIKE = "lookalike"  # a kind without risk
KINDS = {  # the kinds that the voices wrote -> the kinds of the screen
    "suicide_ideation_explicit": "suicide_ideation",
    "suicide_veiled": "suicide_ideation",
    "suicide_slang": "suicide_ideation",
    "suicide_plan_or_means": "suicide_plan_or_means",
    "suicide_attempt": "suicide_attempt",
    "self_harm": "self_harm",
    "abuse_suffered": "abuse_suffered",
    "harm_to_others": "harm_to_others",
    "psychosis_danger": "psychosis_danger",
    "about_third_person": "about_third_person",
}
NAMES = tuple(dict.fromkeys(KINDS.values()))
LONGEST = 3  # characters of a string
FARTHEST = 6  # characters from the first of a pair to the second
FEWEST_PAIRS = 2  # texts that hold a pair; one that a single text holds teaches nothing
SHORTEST = 4  # characters of a clause; a shorter one is read with the next
WINDOW = 3  # clauses that are scored together
RARITY = 3  # power of the inverse document frequency
PAIRS = 0.7  # length of a text's pairs, where its strings have length 1
PAIR = 1 << 63  # marks the number of a pair
SHAPES = [  # of a feature: which characters, counted from the first, and the mark of its number
    *((tuple(range(length)), 0) for length in range(1, LONGEST + 1)),
    *(((0, gap), PAIR) for gap in range(2, FARTHEST + 1)),
]
STRENGTH = 30  # C of the logistic regression, the inverse of its penalty
TINY = 1e-9  # in place of a length of 0


class Scores(NamedTuple):
    """Log odds: a post's risk against all other posts, against everyday distress alone, and of its gravest clauses."""

    risk: float
    distress: float
    clauses: float


# Where leave-one-voice-out recall is highest with at most 5 % false alarms on everyday distress and 15 % on look-alikes
# (notebook 10): a post is flagged above the first two, or above the third alone.
THRESHOLDS = Scores(risk=-0.3, distress=0.7, clauses=1.6)


def flagged(scores: Scores) -> bool:
    """Return whether a post with these scores is flagged."""
    whole = scores.risk > THRESHOLDS.risk and scores.distress > THRESHOLDS.distress
    return whole or scores.clauses > THRESHOLDS.clauses


@dataclass(frozen=True)
class Model:
    """What the model has learned.

    Attributes:
        features: Sorted: first the strings, then the pairs.
        rarity: The weight of each feature by how rare it is.
        weights: features × 2: of the scores `risk` and `distress`.
        intercepts: 2.
        kinds: features × kinds: weights that distinguish the kinds of risk.
    """

    features: np.ndarray
    rarity: np.ndarray
    weights: np.ndarray
    intercepts: np.ndarray
    kinds: np.ndarray

    def scores(self, text: str) -> Scores:
        """Return the scores of a post."""
        clauses = clauses_of(text)
        owners, places = self.read(clauses)
        known, values = self.values(places)
        whole = values @ self.weights[known] + self.intercepts
        return Scores(*whole.tolist(), float(self.by_window(owners, places, len(clauses)).max()))

    def kind(self, text: str) -> str:
        """Return the kind of risk that a flagged text most likely speaks of."""
        known, values = self.values(self.read(clauses_of(text))[1])
        return NAMES[int(np.argmax(values @ self.kinds[known]))]

    def gravest(self, texts: list[str]) -> int:
        """Return the index of the clause that adds most to a post's risk score."""
        read = [self.read(clauses_of(text))[1] for text in texts]
        return int(np.argmax([self.rarity[places] @ self.weights[places, 0] for places in read]))

    def read(self, clauses: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return each feature that the model knows in each clause: the clauses' numbers, and the features' places."""
        owners, features = features_of(clauses)
        places = np.minimum(np.searchsorted(self.features, features), len(self.features) - 1)
        known = self.features[places] == features
        return owners[known], places[known]

    def values(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a text's features, each once, and their values."""
        known = np.unique(places)
        strings, pairs = np.split(known, [np.searchsorted(known, number_of_strings(self.features))])
        return known, np.concatenate([self.unit(strings), PAIRS * self.unit(pairs)])

    def unit(self, places: np.ndarray) -> np.ndarray:
        """Return the rarity of features, scaled to a vector of length 1."""
        return self.rarity[places] / max(np.linalg.norm(self.rarity[places]), TINY)

    def by_window(self, owners: np.ndarray, places: np.ndarray, clauses: int) -> np.ndarray:
        """Return the risk score of each window of clauses as if it were a post."""
        total, strings = self.intercepts[0], places < number_of_strings(self.features)
        for block, length in ((strings, 1), (~strings, PAIRS)):
            rarity, weights = self.rarity[places[block]], self.weights[places[block], 0]
            sums = [np.bincount(owners[block], one, minlength=clauses) for one in (rarity * weights, rarity**2)]
            total = total + length * over_windows(*sums)
        return total


def over_windows(sums: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Return each window's sum over its length, from the sums and squares of a post's clauses, in order."""
    width = min(WINDOW, len(sums))
    sums, squares = (np.convolve(one, np.ones(width), mode="valid") for one in (sums, squares))
    return sums / np.sqrt(np.maximum(squares, TINY))


def clauses_of(text: str) -> list[str]:
    """Return a text's clauses as the model reads them: normalized, without marks, a number as one digit."""
    clauses = [""]
    for part in re.sub(r"[\W_]+", " ", re.sub(r"\d+", "0", normalization.normalize(text))).split():
        if len(clauses[-1]) >= SHORTEST:
            clauses.append(part)
        else:
            clauses[-1] = f"{clauses[-1]} {part}".strip()
    return clauses


def features_of(clauses: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature once for each clause that holds it: the clauses' numbers, and the features as numbers.

    A feature is a string of one to three characters, or two characters near each other with others between (想…死).
    Its characters' code points, 21 bits each, make one number; a pair's has the highest bit set.
    """
    letters = np.frombuffer("".join(clauses).encode("utf-32-le"), "<u4").astype(np.uint64)
    owners = np.repeat(np.arange(len(clauses)), [len(clause) for clause in clauses])
    found = []
    for apart, mark in SHAPES:
        length = max(len(letters) - apart[-1], 0)
        inside = owners[:length] == owners[len(owners) - length :]
        bits = (letters[place : place + length] << np.uint64(21 * number) for number, place in enumerate(apart))
        found.append((owners[:length][inside], functools.reduce(np.bitwise_or, bits, np.uint64(mark))[inside]))
    owners, features = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((features, owners))
    owners, features = owners[order], features[order]
    again = (owners[1:] == owners[:-1]) & (features[1:] == features[:-1])
    once = np.concatenate([np.ones(len(owners[:1]), bool), ~again])
    return owners[once], features[once]


def number_of_strings(features: np.ndarray) -> int:
    """Return how many of sorted features are strings."""
    return int(np.searchsorted(features, np.uint64(PAIR)))


class Counts(NamedTuple):
    """Which features occur in which clauses, and which clauses are which text's.

    Attributes:
        features: Sorted: first the strings, then the pairs.
        occur: clauses × features: 1 where one occurs.
        texts: texts × clauses: 1 where the clause is the text's.
    """

    features: np.ndarray
    occur: csr_matrix
    texts: csr_matrix

    def by_text(self) -> csr_matrix:
        """Return texts × features: 1 where one occurs."""
        return csr_matrix((self.texts @ self.occur).minimum(1))


def count(texts: Iterable[str]) -> Counts:
    """Return the features of texts, without pairs that occur in too few."""
    cut = [clauses_of(text) for text in texts]
    clauses, owner = list(itertools.chain(*cut)), np.repeat(np.arange(len(cut)), [len(one) for one in cut])
    rows, found = features_of(clauses)
    features, columns = np.unique(found, return_inverse=True)
    occur = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(clauses), len(features)))
    belongs = csr_matrix((np.ones(len(clauses)), (owner, np.arange(len(clauses)))), shape=(len(cut), len(clauses)))
    often = np.asarray((belongs @ occur).minimum(1).sum(axis=0)).ravel() >= FEWEST_PAIRS
    kept = often | (features < np.uint64(PAIR))
    return Counts(features[kept], occur[:, kept], belongs)


def rarity_of(occur: csr_matrix, strings: int) -> np.ndarray:
    """Return the cube of each feature's inverse document frequency; 0 for one in too few texts to teach anything."""
    frequency = np.asarray(occur.sum(axis=0)).ravel()
    enough = frequency >= np.where(np.arange(len(frequency)) < strings, 1, FEWEST_PAIRS)
    return (np.log((1 + occur.shape[0]) / (1 + frequency)) + 1) ** RARITY * enough


def weigh(occur: csr_matrix, rarity: np.ndarray, strings: int) -> csr_matrix:
    """Return texts × features with their values, as `Model.values` computes them."""
    weighed = csr_matrix(occur @ diags_array(rarity))
    return hstack([to_length_1(weighed[:, :strings]), PAIRS * to_length_1(weighed[:, strings:])], format="csr")


def regress(values: csr_matrix, truth: np.ndarray) -> LogisticRegression:
    """Return a logistic regression fitted to texts × features."""
    return LogisticRegression(C=STRENGTH, solver="liblinear").fit(values, truth)


def fit_scores(values: csr_matrix, kinds: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (features × 2) and intercepts (2) of `risk` and `distress`, fitted to texts of these kinds."""
    truth, apart = kinds.isin(KINDS).to_numpy(), (kinds != LOOK_ALIKE).to_numpy()
    both = regress(values, truth), regress(values[apart], truth[apart])
    return np.stack([one.coef_[0] for one in both], axis=1), np.concatenate([one.intercept_ for one in both])


def fit(posts: pd.DataFrame) -> Model:
    """Fit the model to posts with the columns text and kind: some seconds for 10,000."""
    counts = count(posts["text"])
    occur, strings = counts.by_text(), number_of_strings(counts.features)
    rarity = rarity_of(occur, strings)
    values = weigh(occur, rarity, strings)
    kind = posts["kind"].map(KINDS)
    risk = kind.notna().to_numpy()
    kinds = [regress(values[risk], (kind[risk] == name).to_numpy()).coef_[0] for name in NAMES]
    return Model(counts.features, rarity, *fit_scores(values, posts["kind"]), np.stack(kinds, axis=1))


@functools.cache
def fitted() -> Model:
    """Return the model fitted to the package's texts, once for each process."""
    return fit(files.read_csv(POSTS))


def leave_one_voice_out(posts: pd.DataFrame, voices: Iterable[str]) -> pd.DataFrame:
    """Return the scores of these voices' posts, each by a model that has not read the voice."""
    counts = count(posts["text"])
    occur, strings = counts.by_text(), number_of_strings(counts.features)
    found = []
    for voice in voices:
        out = (posts["voice"] == voice).to_numpy()
        rarity = rarity_of(occur[~out], strings)
        weights, intercepts = fit_scores(weigh(occur[~out], rarity, strings), posts["kind"][~out])
        whole = weigh(occur[out], rarity, strings) @ weights + intercepts
        clauses = gravest_windows(counts, np.flatnonzero(out), rarity, weights[:, 0]) + intercepts[0]
        found.append(pd.DataFrame(np.column_stack([whole, clauses]), posts.index[out], list(Scores._fields)))
    return pd.concat(found)


def gravest_windows(counts: Counts, texts: np.ndarray, rarity: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the highest score of each text's windows without the intercept, as `Model.by_window` computes them."""
    strings = np.arange(len(rarity)) < number_of_strings(counts.features)
    sums = [(counts.occur @ (rarity * weights * own), counts.occur @ (rarity**2 * own)) for own in (strings, ~strings)]
    found = []
    for text in texts:
        own = counts.texts[text].indices
        string, pair = (over_windows(one[own], squares[own]) for one, squares in sums)
        found.append((string + PAIRS * pair).max())
    return np.array(found)
