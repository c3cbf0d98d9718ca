"""Which of the five components of a CBT reply (paper §3.2) each of its sentences serves.

A sentence's words and place are weighed by logistic regression, and the order in which components follow each other by
the Viterbi path. Both are learned at first use from the marked replies of the bundled sample (about two seconds).
"""

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cbtllm_utils import files
from cbtllm_utils.prompts import COMPONENTS

MARKED = "data/sample/recorded_replies.jsonl"
NAMES = tuple(COMPONENTS)
# A sentence ends after 。！？… or a line break; a quotation is not cut inside.
SENTENCE = re.compile(r"(?>(?>“[^“”\n]{0,200}+”|[^。！？!?…\n])*+)(?:[。！？!?…\n]+[”’）)」』]*\s*|\Z)")
WHOLE = tuple("。！？!?…”’）)」』~～")  # how a sentence ends that was not broken off
SURE = 0.4  # probability by words alone that makes a sentence speak for its component; 0.2 would be chance
WEIGHT = 3.0  # of words against place: three times the TF-IDF unit length


class Structure(NamedTuple):
    """The components that a reply shows, as they first appear; whether all five do; whether they keep their order."""

    present: tuple[str, ...]
    complete: bool
    in_order: bool


@dataclass(frozen=True)
class Model:
    """What was learned: a vectorizer, a classifier of words and place, one of words alone, and log probabilities of
    beginnings and of transitions.

    The second classifier knows no place and no frequency of components: it says whether a sentence speaks for itself.
    Transitions are components x components, apart for the next sentence within a paragraph and after a line break, and
    together for replies without line breaks.
    """

    vectorizer: object
    classifier: object
    speaker: object
    begin: np.ndarray
    follow: np.ndarray

    def weigh(self, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """(words, all): sentences x components, probabilities by words alone, log probabilities by words and place."""
        from scipy.sparse import csr_matrix, hstack

        words = self.vectorizer.transform(sentences) * WEIGHT
        everything = hstack([words, csr_matrix(place(sentences))]).tocsr()
        return self.speaker.predict_proba(words), self.classifier.predict_log_proba(everything)


def sentences(reply: str) -> list[str]:
    """The reply cut into sentences that join to it exactly."""
    return [found.group() for found in SENTENCE.finditer(reply) if found.group()]


def place(parts: list[str]) -> np.ndarray:
    """sentences x 12: where the middle of each lies in the reply (nine overlapping ramps), first, last, a question."""
    lengths = np.array([len(part) for part in parts])
    middle = (np.cumsum(lengths) - lengths / 2) / lengths.sum()
    ramps = np.maximum(0, 1 - np.abs(middle[:, None] - np.linspace(0, 1, 9)) * 8)
    last = len(parts) - 1
    marks = [[i == 0, i == last, "？" in part or "?" in part] for i, part in enumerate(parts)]
    return np.hstack([ramps, np.array(marks, dtype=float)])


def steps(parts: list[str]) -> list[int]:
    """How each sentence after the first follows: 0 in the same paragraph, 1 after a line break, 2 in a reply with none."""
    breaks = [int("\n" in part) for part in parts[:-1]]
    return breaks if any(breaks) else [2] * len(breaks)


def marked() -> list[list[tuple[str, str]]]:
    """The sample's replies as (component, text) stretches, each also with its line breaks taken out."""
    rows = [[(name, text) for name, text in row["sections"]] for row in files.read_jsonl(MARKED)]
    return rows + [[(name, text.replace("\n", "")) for name, text in row] for row in rows]


def labelled(stretches: list[tuple[str, str]]) -> tuple[list[str], list[int]]:
    """A marked reply's sentences, and the number of the component that holds most characters of each."""
    parts = sentences("".join(text for _, text in stretches))
    owner = [NAMES.index(name) for name, text in stretches for _ in text]
    labels, start = [], 0
    for part in parts:
        labels.append(int(np.bincount(owner[start : start + len(part)], minlength=len(NAMES)).argmax()))
        start += len(part)
    return parts, labels


def fit(replies: list[list[tuple[str, str]]]) -> Model:
    """The model learned from marked replies. Deterministic: nothing is drawn."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    pairs = [labelled(stretches) for stretches in replies]
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), min_df=3, use_idf=False, binary=True)
    words = vectorizer.fit_transform([part for parts, _ in pairs for part in parts]) * WEIGHT
    places = csr_matrix(np.vstack([place(parts) for parts, _ in pairs]))
    truth = np.array([label for _, labels in pairs for label in labels])
    classifier = LogisticRegression(C=3.0, max_iter=300).fit(hstack([words, places]).tocsr(), truth)
    speaker = LogisticRegression(C=3.0, max_iter=300, class_weight="balanced").fit(words, truth)
    begin, follow = np.full(5, 0.3), np.full((3, 5, 5), 0.3)  # 0.3 of a sentence for what was never seen
    for parts, labels in pairs:
        begin[labels[0]] += 1
        for kind, before, after in zip(steps(parts), labels[:-1], labels[1:], strict=True):
            follow[kind, before, after] += 1
    return Model(
        vectorizer, classifier, speaker, np.log(begin / begin.sum()), np.log(follow / follow.sum(2, keepdims=True))
    )


@functools.cache
def fitted() -> Model:
    """The model learned from the whole sample."""
    return fit(marked())


def decode(model: Model, parts: list[str]) -> tuple[list[int], np.ndarray]:
    """(path, evidence): each sentence's component on the likeliest path, and what its words alone say (probabilities)."""
    evidence, scores = model.weigh(parts)
    best, back = model.begin + scores[0], []
    for kind, score in zip(steps(parts), scores[1:], strict=True):
        through = best[:, None] + model.follow[kind]
        back.append(through.argmax(0))
        best = through.max(0) + score
    path = [int(best.argmax())]
    for came_from in reversed(back):
        path.append(int(came_from[path[-1]]))
    return path[::-1], evidence


def segment(reply: str, model: Model | None = None) -> list[tuple[str, str]]:
    """(section, text) stretches that join to the reply exactly; [] for an empty reply."""
    parts = sentences(reply)
    if not parts:
        return []
    path, _ = decode(model or fitted(), parts)
    stretches: list[tuple[str, str]] = []
    for number, part in zip(path, parts, strict=True):
        if stretches and stretches[-1][0] == NAMES[number]:
            part = stretches.pop()[1] + part
        stretches.append((NAMES[number], part))
    return stretches


def structure(reply: str, model: Model | None = None) -> Structure:
    """The reply's structure, strictly: a component counts where a whole sentence's words alone speak for it.

    The shape of a reply, not its sense or its quality.
    """
    parts = sentences(reply)
    if not parts:
        return Structure((), False, False)
    path, evidence = decode(model or fitted(), parts)
    sure = [
        number
        for number, part, words in zip(path, parts, evidence, strict=True)
        if words[number] > SURE and part.rstrip().endswith(WHOLE)
    ]
    present = tuple(dict.fromkeys(NAMES[number] for number in sure))
    complete = set(present) == set(NAMES)
    return Structure(present, complete, list(present) == [name for name in NAMES if name in present])


def crossvalidate(folds: int = 5) -> dict[str, float]:
    """Shares on the sample's replies, each judged by a model that has not seen it: `characters` in the right section,
    replies judged `complete`, and the same when they are `shuffled` by sentence (seed 0) or `cut` after 60 %."""
    replies = marked()
    n = len(replies) // 2
    random, right, found = np.random.default_rng(0), [], []
    for fold in range(folds):
        model = fit([reply for i, reply in enumerate(replies) if i % n % folds != fold])
        for i in range(fold, n, folds):
            reply = "".join(text for _, text in replies[i])
            truth = [name for name, text in replies[i] for _ in text]
            right += [a == b for a, b in zip((s for s, t in segment(reply, model) for _ in t), truth, strict=True)]
            mixed = "".join(random.permutation(np.array(sentences(reply), dtype=object)))
            cut = reply[: len(reply) * 6 // 10]
            found.append([is_cbt(structure(text, model)) for text in (reply, mixed, cut)])
    return {"characters": float(np.mean(right))} | dict(
        zip(("complete", "shuffled", "cut"), map(float, np.mean(found, 0)), strict=True)
    )


def is_cbt(found: Structure) -> bool:
    """Whether a reply has the whole structure: all five components, each first met in the paper's order."""
    return found.complete and found.in_order
