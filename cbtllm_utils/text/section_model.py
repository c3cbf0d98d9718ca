"""What is learned of marked replies: the words and places of each component's sentences, and what follows what."""

import itertools
import re
from dataclasses import dataclass

import numpy as np

from cbtllm_utils.data.prompts import COMPONENTS

NAMES = tuple(COMPONENTS)
# A sentence goes on to its last stop; a quotation of up to 200 characters is not cut. Possessive, so in linear time.
SENTENCE = re.compile(r"(?>“[^“”\n]{0,200}+”|[^。！？!?…\n])*+(?:[。！？!?…\n]+[”’）)」』]*\s*|\Z)")


@dataclass(frozen=True)
class Model:
    """Weights of n-grams for each component, five with the place of a sentence and five by its words alone."""

    vocabulary: dict[str, int]
    weights: np.ndarray  # n-grams × 10
    place: np.ndarray  # features of place × 5
    bias: np.ndarray  # 10
    first: np.ndarray  # 5: log P(component of the first sentence)
    after: np.ndarray  # 3 × 5 × 5: log P(next | component) in a paragraph, across a break, in a reply without breaks


def sentences(reply: str) -> list[str]:
    """The sentences of a reply; joined they are the reply."""
    return [found[0] for found in SENTENCE.finditer(reply) if found[0]]


def grams(sentence: str) -> set[str]:
    """The characters of a sentence and their pairs, without outer blanks."""
    text = sentence.strip()
    return set(text) | {text[i : i + 2] for i in range(len(text) - 1)}


def places(texts: list[str]) -> np.ndarray:
    """n × 12: where each sentence stands, in nine overlapping bins of the reply; whether first, last, a question."""
    length = np.array([len(text) for text in texts], dtype=float)
    middle = (np.cumsum(length) - length / 2) / length.sum()
    bins = np.maximum(0, 1 - 8 * abs(middle[:, None] - np.linspace(0, 1, 9)))
    end = len(texts) - 1
    marks = [[i == 0, i == end, "？" in text or "?" in text] for i, text in enumerate(texts)]
    return np.hstack([bins, np.array(marks, dtype=float)]) / 6  # words weigh more than places


def learn(marked: list[dict]) -> Model:
    """The model of marked replies: logistic regression for sentences, counts for what follows what. No draws."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    known = [truth(row) for row in marked]
    target = [component for _, path in known for component in path]
    vectorizer = TfidfVectorizer(analyzer=grams, min_df=3, use_idf=False, binary=True)  # a row has length 1
    words = vectorizer.fit_transform([sentence for texts, _ in known for sentence in texts])
    where = csr_matrix(np.vstack([places(texts) for texts, _ in known]))
    placed = LogisticRegression(C=30, max_iter=500).fit(hstack([words, where]).tocsr(), target)
    alone = LogisticRegression(C=30, max_iter=500, class_weight="balanced").fit(words, target)
    n = words.shape[1]
    weights = np.hstack([placed.coef_[:, :n].T, alone.coef_.T])
    bias = np.hstack([placed.intercept_, alone.intercept_])
    return Model(vectorizer.vocabulary_, weights, placed.coef_[:, n:].T, bias, *chances(known))


def truth(row: dict) -> tuple[list[str], list[int]]:
    """A marked reply's sentences, and the component that most characters of each have."""
    texts = sentences("".join(text for _, text in row["sections"]))
    marks = [NAMES.index(name) for name, text in row["sections"] for _ in text]
    ends = itertools.accumulate(map(len, texts))
    parts = [marks[end - len(text) : end] for text, end in zip(texts, ends, strict=True)]
    return texts, [max(range(5), key=part.count) for part in parts]


def chances(known: list[tuple[list[str], list[int]]]) -> tuple[np.ndarray, np.ndarray]:
    """Log P(first component), and log P(next | component) for the three kinds of seam; the unseen count as 0.3."""
    first, after = np.full(5, 0.3), np.full((3, 5, 5), 0.3)
    for texts, path in known:
        first[path[0]] += 1
        for text, one, other in zip(texts, path, path[1:], strict=False):
            after[int("\n" in text), one, other] += 1
            after[2, one, other] += 1
    return np.log(first / first.sum()), np.log(after / after.sum(axis=2, keepdims=True))


def scores(texts: list[str], model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Log P(component) of each sentence with its place, and by its words alone: n × 5 each.

    The sums that scikit-learn would make, at a tenth of its cost for a reply: 15 CPU-seconds for 22,327 of them.
    """
    rows = []
    for text in texts:
        found = [model.vocabulary[gram] for gram in grams(text) if gram in model.vocabulary]
        rows.append(model.weights[found].sum(axis=0) / max(len(found), 1) ** 0.5)
    raw = np.array(rows) + model.bias
    raw[:, :5] += places(texts) @ model.place
    placed, alone = raw[:, :5], raw[:, 5:]
    return tuple(half - np.logaddexp.reduce(half, axis=1, keepdims=True) for half in (placed, alone))


def decode(texts: list[str], placed: np.ndarray, model: Model) -> list[int]:
    """The likeliest components of a reply's sentences taken together (Viterbi); a component may be left out."""
    broken = np.array(["\n" in text for text in texts[:-1]], dtype=int)
    seams = model.after[broken if broken.any() else np.full(len(broken), 2)]
    score, back = model.first + placed[0], []
    for seam, own in zip(seams, placed[1:], strict=True):
        ways = score[:, None] + seam
        back.append(ways.argmax(axis=0))
        score = ways.max(axis=0) + own
    path = [int(score.argmax())]
    for best in reversed(back):
        path.append(int(best[path[-1]]))
    return path[::-1]
