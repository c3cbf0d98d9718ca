"""A statistical model of risk in a post, fitted to texts written by many voices (`data/screening`).

Logistic regression on what a post's clauses are made of: strings of one to three characters, and pairs of characters
near each other. What is rare weighs more than in tf-idf as usual, by the cube of its inverse document frequency: on
voices that the model has not read, that finds more than the other choices tried (`data/screening/README.md`).
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
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize as to_length_1

from cbtllm_utils import files
from cbtllm_utils.text import normalization

POSTS = "data/screening/posts.csv"  # id, voice, kind, label, second_label, second_kind, text
DISTRESS, LOOK_ALIKE = "everyday_distress", "lookalike"  # the kinds without risk
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
STRENGTH = 30  # C of the logistic regression, the inverse of its penalty
TINY = 1e-9  # in place of a length of 0


class Scores(NamedTuple):
    """Log odds: a post's risk against all that is none, against everyday distress alone, and of its gravest clauses."""

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
        places: feature -> its place in what follows: first the strings, then the pairs.
        strings: How many are strings.
        rarity: Of each feature.
        weights: features × 2: of the scores `risk` and `distress`.
        intercepts: 2.
        kinds: features × kinds: what tells the kinds of risk apart.
    """

    places: dict[str, int]
    strings: int
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
        """Return which of a post's clauses adds most to its risk score."""
        read = [self.read(clauses_of(text))[1] for text in texts]
        return int(np.argmax([self.rarity[places] @ self.weights[places, 0] for places in read]))

    def read(self, clauses: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return each feature that the model knows in each clause: the clauses' numbers, and the features' places."""
        names = [[*strings_of(clause), *pairs_of(clause)] for clause in clauses]
        owners = np.repeat(np.arange(len(clauses)), [len(one) for one in names])
        places = np.fromiter(map(self.places.get, itertools.chain(*names), itertools.repeat(-1)), int, len(owners))
        size = len(self.rarity)
        once = np.unique((owners * size + places)[places >= 0])
        return once // size, once % size

    def values(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a text's features, each once, and their values."""
        known = np.unique(places)
        strings, pairs = np.split(known, [np.searchsorted(known, self.strings)])
        return known, np.concatenate([self.unit(strings), PAIRS * self.unit(pairs)])

    def unit(self, places: np.ndarray) -> np.ndarray:
        """Return the rarity of features, of length 1 together."""
        return self.rarity[places] / max(np.linalg.norm(self.rarity[places]), TINY)

    def by_window(self, owners: np.ndarray, places: np.ndarray, clauses: int) -> np.ndarray:
        """Return the risk score of each window of clauses as if it were a post."""
        total = self.intercepts[0]
        for block, length in ((places < self.strings, 1), (places >= self.strings, PAIRS)):
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


def strings_of(clause: str) -> list[str]:
    """Return the strings of one to three characters of a normalized clause."""
    return [clause[start : start + n] for n in range(1, LONGEST + 1) for start in range(len(clause) - n + 1)]


def pairs_of(clause: str) -> list[str]:
    """Return the pairs of characters that stand near each other in a normalized clause, with others between: 想_死."""
    gaps = range(2, FARTHEST + 1)
    return [f"{one}_{other}" for gap in gaps for one, other in zip(clause, clause[gap:], strict=False)]


class Counts(NamedTuple):
    """Which features occur in which clauses, and which clauses are which text's.

    Attributes:
        strings, pairs: clauses × features: 1 where one occurs.
        texts: texts × clauses: 1 where the clause is the text's.
        names: The features, strings and pairs.
    """

    strings: csr_matrix
    pairs: csr_matrix
    texts: csr_matrix
    names: tuple[list[str], list[str]]

    def by_text(self) -> tuple[csr_matrix, csr_matrix]:
        """Return texts × strings and texts × pairs: 1 where one occurs."""
        return tuple((self.texts @ block).minimum(1) for block in (self.strings, self.pairs))


def count(texts: Iterable[str]) -> Counts:
    """Return the features of texts."""
    cut = [clauses_of(text) for text in texts]
    flat, owner = list(itertools.chain(*cut)), np.repeat(np.arange(len(cut)), [len(clauses) for clauses in cut])
    counters = [CountVectorizer(analyzer=of, binary=True, dtype=np.float64) for of in (strings_of, pairs_of)]
    strings, pairs = (counter.fit_transform(flat) for counter in counters)
    belongs = csr_matrix((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    names = [counter.get_feature_names_out() for counter in counters]
    often = np.asarray((belongs @ pairs).minimum(1).sum(axis=0)).ravel() >= FEWEST_PAIRS
    return Counts(strings, pairs[:, often], belongs, (list(names[0]), list(names[1][often])))


def rarities(blocks: tuple[csr_matrix, csr_matrix]) -> list[np.ndarray]:
    """Return the cube of each feature's inverse document frequency; 0 for one in too few texts to teach anything."""
    frequencies = [np.asarray(occur.sum(axis=0)).ravel() for occur in blocks]
    texts = blocks[0].shape[0]
    return [
        (np.log((1 + texts) / (1 + frequency)) + 1) ** RARITY * (frequency >= fewest)
        for frequency, fewest in zip(frequencies, (1, FEWEST_PAIRS), strict=True)
    ]


def weigh(blocks: tuple[csr_matrix, csr_matrix], rarity: list[np.ndarray]) -> csr_matrix:
    """Return texts × features with their values, as `Model.values` computes them."""
    strings, pairs = (
        to_length_1(csr_matrix(one @ diags_array(rare))) for one, rare in zip(blocks, rarity, strict=True)
    )
    return hstack([strings, PAIRS * pairs], format="csr")


def regress(values: csr_matrix, truth: np.ndarray) -> LogisticRegression:
    """Return a logistic regression fitted to texts × features."""
    return LogisticRegression(C=STRENGTH, solver="liblinear").fit(values, truth)


def fit_scores(values: csr_matrix, kinds: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (features × 2) and intercepts (2) of `risk` and `distress`, fitted to texts of these kinds."""
    truth, apart = kinds.isin(KINDS).to_numpy(), (kinds != LOOK_ALIKE).to_numpy()
    both = regress(values, truth), regress(values[apart], truth[apart])
    return np.stack([one.coef_[0] for one in both], axis=1), np.concatenate([one.intercept_ for one in both])


def fit(posts: pd.DataFrame) -> Model:
    """Fit the model to posts with the columns text and kind: about ten seconds for 10,000."""
    counts = count(posts["text"])
    blocks = counts.by_text()
    rarity = rarities(blocks)
    values = weigh(blocks, rarity)
    kind = posts["kind"].map(KINDS)
    risk = kind.notna().to_numpy()
    kinds = [regress(values[risk], (kind[risk] == name).to_numpy()).coef_[0] for name in NAMES]
    places = {name: place for place, name in enumerate(itertools.chain(*counts.names))}
    scores = fit_scores(values, posts["kind"])
    return Model(places, len(counts.names[0]), np.concatenate(rarity), *scores, np.stack(kinds, axis=1))


@functools.cache
def fitted() -> Model:
    """Return the model fitted to the package's texts, once for each process."""
    return fit(files.read_csv(POSTS))


def leave_one_voice_out(posts: pd.DataFrame, voices: Iterable[str]) -> pd.DataFrame:
    """Return the scores of these voices' posts, each by a model that has not read the voice."""
    counts = count(posts["text"])
    blocks = counts.by_text()
    found = []
    for voice in voices:
        out = (posts["voice"] == voice).to_numpy()
        rarity = rarities(tuple(one[~out] for one in blocks))
        weights, intercepts = fit_scores(weigh(tuple(one[~out] for one in blocks), rarity), posts["kind"][~out])
        whole = weigh(tuple(one[out] for one in blocks), rarity) @ weights + intercepts
        clauses = gravest_windows(counts, np.flatnonzero(out), rarity, weights[:, 0], intercepts[0])
        found.append(pd.DataFrame(np.column_stack([whole, clauses]), posts.index[out], list(Scores._fields)))
    return pd.concat(found)


def gravest_windows(
    counts: Counts, texts: np.ndarray, rarity: list[np.ndarray], weights: np.ndarray, intercept: float
) -> np.ndarray:
    """Return the highest score of each text's windows, as `Model.by_clause` computes them."""
    sums = []
    for block, rare, part in zip(
        (counts.strings, counts.pairs), rarity, np.split(weights, [len(rarity[0])]), strict=True
    ):
        sums.append((block @ (rare * part), block @ rare**2))
    found = []
    for text in texts:
        own = counts.texts[text].indices
        strings, pairs = (over_windows(one[own], squares[own]) for one, squares in sums)
        found.append((strings + PAIRS * pairs).max() + intercept)
    return np.array(found)
