"""Which of the five components of CBT each sentence of a reply belongs to (§3.2), learned from the marked sample.

A classifier scores each sentence by its characters and its place; a path through the sentences (Viterbi) makes them
agree. It reads which characters a sentence has, not what it means. It is cross-fitted: replies to a post of the sample,
whoever wrote them, are judged by a model that has not learned from the marked reply to this post (`model_for`). What it
gets right that way is measured in `section_measures`.
"""

import functools
import itertools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from cbtllm_utils import files
from cbtllm_utils.data.prompts import COMPONENTS

MARKED = "data/sample/recorded_replies.jsonl"  # 360 replies, each cut into its components
NAMES = tuple(COMPONENTS)
FOLDS = 5  # models for posts of the sample, each of which has learned from four fifths of its replies
# A sentence runs to its last stop; a quotation of up to 200 characters is not cut. Possessive, so in linear time.
SENTENCE = re.compile(r"(?>“[^“”\n]{0,200}+”|[^。！？!?…\n])*+(?:[。！？!?…\n]+[”’）)」』]*\s*|\Z)")
LEAST_PROBABILITY = 0.4  # P(component | characters) of the sentence that shows a component to be present
LEAST_AGREEMENT = 0.6  # share of characters whose sentence alone tells the component they are given: .59–1 in replies
MOST_REPETITION = 0.1  # share of a reply that may have occurred in it before: at most .01 in the sample
UNFINISHED = "，、，:：;；（(“‘《-—"  # a text that ends in one of these, or in a word, was cut off


class Structure(NamedTuple):
    """The components that a reply holds, by first appearance; whether all five; whether in the prompt's order."""

    present: tuple[str, ...]
    complete: bool
    in_order: bool


@dataclass(frozen=True)
class Model:
    """What distinguishes components: a sentence's characters, with its place and alone, and transitions."""

    vectorizer: TfidfVectorizer
    placed: LogisticRegression
    alone: LogisticRegression
    first: np.ndarray  # 5: log P(component of the first sentence)
    after: np.ndarray  # 3 × 5 × 5: log P(next | component) in a paragraph, across a break, in a reply without breaks


def segment(reply: str, model: Model | None = None) -> list[tuple[str, str]]:
    """Cut a reply into its components.

    Args:
        model: `model_for` the post that the reply answers; by default the model of the whole sample, which is right for
            replies to other posts alone.

    Returns:
        (component, text) in order; the texts join to the reply exactly. Empty for an empty reply.
    """
    texts, path, _ = read(reply, model or fitted())
    runs = itertools.groupby(zip(path, texts, strict=True), key=lambda pair: pair[0])
    return [(NAMES[component], "".join(text for _, text in run)) for component, run in runs]


def structure(reply: str, model: Model | None = None) -> Structure:
    """Return which components a reply holds: its form, not its meaning.

    `present`: a whole sentence shows the component by its characters; place alone shows nothing. `in_order`: as in the
    prompt; advice on safety may come first, as the prompt asks. `complete`: all five, in order, in a readable text: its
    sentences agree with the components given to them (not so when shuffled), it ends a sentence, and hardly repeats.
    `model` is that of `segment`.
    """
    texts, path, alone = read(reply, model or fitted())
    if not reply.strip():
        return Structure((), False, False)
    shown = {
        k
        for text, k, scores in zip(texts, path, alone, strict=True)
        if ends_sentence(text) and scores[k] >= np.log(LEAST_PROBABILITY)
    }
    runs = [k for k, _ in itertools.groupby(path) if k in shown]
    length = np.array([len(text) for text in texts])
    agreement = length[alone.argmax(axis=1) == path].sum() / length.sum()
    repeated = repetition(re.sub(r"\s", "", reply), 6)
    readable = bool(agreement >= LEAST_AGREEMENT) and repeated <= MOST_REPETITION and ends_sentence(reply)
    complete = readable and len(shown) == len(NAMES) and in_order(runs)
    return Structure(tuple(NAMES[k] for k in dict.fromkeys(runs)), complete, in_order(runs))


def model_for(post: int | str | None) -> Model:
    """Return the model that judges replies to a post: it has not learned from the marked replies of the post's fold.

    Replies to a post that is not in the sample are judged by the model of the whole sample.

    Args:
        post: Its questionID; None of a reply to no post. Of a copy of a marked reply, the post it was written for.
    """
    return fitted(*(fold for fold in folds() if post in fold))


@functools.cache
def folds() -> tuple[frozenset[int | str], ...]:
    """Return the sample's posts in `FOLDS` parts: the first has every fifth from the first on, and so forth.

    Near duplicates must share a fold; the sample has none (tests/text/test_sections.py looks for them).
    """
    posts = [row["questionID"] for row in files.read_jsonl(MARKED)]
    return tuple(frozenset(posts[start::FOLDS]) for start in range(FOLDS))


@functools.cache
def fitted(without: frozenset[int | str] = frozenset()) -> Model:
    """Return the model of all marked replies but those to the posts `without`, trained at first use (half a second)."""
    return learn([row for row in files.read_jsonl(MARKED) if row["questionID"] not in without])


def read(reply: str, model: Model) -> tuple[list[str], list[int], np.ndarray]:
    """Return a reply's sentences, the component of each, and log P(component | characters alone), n × 5."""
    texts = sentences(reply)
    if not texts:
        return [], [], np.empty((0, 5))
    placed, alone = log_probabilities(texts, model)
    return texts, decode(texts, placed, model), alone


def in_order(runs: list[int]) -> bool:
    """Return whether components follow in the prompt's order; of several strategies only the last counts."""
    strategy = NAMES.index("strategy")
    last = max((i for i, k in enumerate(runs) if k == strategy), default=-1)
    counted = [k for k, _ in itertools.groupby(k for i, k in enumerate(runs) if k != strategy or i == last)]
    return bool(counted) and counted == sorted(set(counted))


def ends_sentence(text: str) -> bool:
    """Return whether a text ends a sentence: with a stop, a closing mark or an emoji, not in a word or at a comma."""
    last = text.rstrip()[-1:]
    return bool(last) and not last.isalnum() and last not in UNFINISHED


def repetition(text: str, n: int) -> float:
    """Return the share of a text's runs of n characters that occurred in it before: 1 - different runs / runs.

    seq-rep-n of Welleck et al. (2020), over characters; 0 for a text shorter than n.
    """
    found = ngrams(text, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def ngrams(text: str, n: int) -> list[str]:
    """Return the text's runs of n characters, one from each position."""
    return [text[i : i + n] for i in range(len(text) - n + 1)]


def sentences(reply: str) -> list[str]:
    """Split a reply into sentences; joined they are the reply."""
    return [found[0] for found in SENTENCE.finditer(reply) if found[0]]


def grams(sentence: str) -> set[str]:
    """Return the characters of a sentence and their pairs, without outer blanks."""
    text = sentence.strip()
    return {*text, *ngrams(text, 2)}


def places(texts: list[str]) -> np.ndarray:
    """Return where each sentence is in the reply, n × 12.

    Nine overlapping bins of the reply's length; whether the sentence is the first, the last, a question.
    """
    length = np.array([len(text) for text in texts], dtype=float)
    middle = (np.cumsum(length) - length / 2) / length.sum()
    bins = np.maximum(0, 1 - 8 * abs(middle[:, None] - np.linspace(0, 1, 9)))
    end = len(texts) - 1
    marks = [[i == 0, i == end, "？" in text or "?" in text] for i, text in enumerate(texts)]
    return np.hstack([bins, np.array(marks, dtype=float)]) / 6  # so that characters weigh more than places


def learn(marked: list[dict]) -> Model:
    """Train a model on marked replies: logistic regression for sentences, counts for transitions.

    Args:
        marked: Rows with `sections`, a list of (component, text). No random numbers are drawn.
    """
    known = [sentence_components(row) for row in marked]
    target = [component for _, path in known for component in path]
    vectorizer = TfidfVectorizer(analyzer=grams, min_df=3, use_idf=False, binary=True)  # each row has length 1
    words = vectorizer.fit_transform([sentence for texts, _ in known for sentence in texts])
    where = csr_matrix(np.vstack([places(texts) for texts, _ in known]))
    solve = {"C": 30, "solver": "newton-cg"}  # 6 iterations; lbfgs needs 50 to 100 and gives the same components
    placed = LogisticRegression(**solve).fit(hstack([words, where]).tocsr(), target)
    alone = LogisticRegression(**solve, class_weight="balanced").fit(words, target)
    return Model(vectorizer, placed, alone, *transitions(known))


def sentence_components(row: dict) -> tuple[list[str], list[int]]:
    """Return a marked reply's sentences, and the component that most characters of each belong to."""
    texts = sentences("".join(text for _, text in row["sections"]))
    marks = [NAMES.index(name) for name, text in row["sections"] for _ in text]
    ends = itertools.accumulate(map(len, texts))
    own = [marks[end - len(text) : end] for text, end in zip(texts, ends, strict=True)]
    return texts, [max(range(5), key=characters.count) for characters in own]


def transitions(known: list[tuple[list[str], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return log P(first component), and log P(next | component) for the three kinds of seam.

    What never occurs in the sample counts as 0.3 occurrences.
    """
    first, after = np.full(5, 0.3), np.full((3, 5, 5), 0.3)
    for texts, path in known:
        first[path[0]] += 1
        for text, one, other in zip(texts, path, path[1:], strict=False):
            after[int("\n" in text), one, other] += 1
            after[2, one, other] += 1
    return np.log(first / first.sum()), np.log(after / after.sum(axis=2, keepdims=True))


def log_probabilities(texts: list[str], model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Return log P(component) of each sentence with its place, and by its characters alone, n × 5 each."""
    words = model.vectorizer.transform(texts)
    placed = model.placed.predict_log_proba(hstack([words, csr_matrix(places(texts))]).tocsr())
    return placed, model.alone.predict_log_proba(words)


def decode(texts: list[str], placed: np.ndarray, model: Model) -> list[int]:
    """Return the most likely sequence of components of a reply's sentences (Viterbi); a component may be absent."""
    breaks = np.array(["\n" in text for text in texts[:-1]], dtype=int)
    seams = model.after[breaks if breaks.any() else np.full(len(breaks), 2)]
    score, back = model.first + placed[0], []
    for seam, own in zip(seams, placed[1:], strict=True):
        ways = score[:, None] + seam
        back.append(ways.argmax(axis=0))
        score = ways.max(axis=0) + own
    path = [int(score.argmax())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    return path[::-1]
