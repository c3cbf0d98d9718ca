"""N-gram counts of single items, and the corpus scores that their sums make: what resampling a corpus score needs.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) are ratios of sums over all items, not means of items' scores.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.helpers import extract_all_char_ngrams

BLEU_ORDER, CHRF_ORDER, BETA = 4, 6, 2  # sacrebleu's and jury's defaults


def grams(tokens: Sequence[str], n: int) -> Counter:
    """How often each run of n tokens occurs."""
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def bleu_counts(prediction: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Ten numbers of one item: hits of orders 1 to 4, n-grams of orders 1 to 4, tokens of prediction and reference."""
    hits, totals = [], []
    for n in range(1, BLEU_ORDER + 1):
        said = grams(prediction, n)
        hits.append((said & grams(reference, n)).total())
        totals.append(said.total())
    return [*hits, *totals, len(prediction), len(reference)]


def bleu(counts: np.ndarray, axis: int | tuple = 0, smooth: bool = False) -> np.ndarray:
    """BLEU, 0 to 1, of the summed counts (… x items x 10; all axes of `axis` but the last one are summed).

    `smooth` adds one to hits and n-grams of orders 2 to 4 (Lin and Och 2004), as jury does when asked: for single items,
    which would else be 0 without a common 4-gram. No token, no score: 0.
    """
    sums = np.asarray(counts, dtype=float).sum(axis[:-1] if isinstance(axis, tuple) else axis)
    hits, totals, said, there = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    more = np.array([0, 1, 1, 1]) if smooth else np.zeros(4)
    with np.errstate(divide="ignore", invalid="ignore"):
        geometric = np.exp(np.log((hits + more) / (totals + more)).mean(-1))
        brevity = np.exp(np.minimum(0, 1 - there / said))
        return np.nan_to_num(geometric * brevity, nan=0.0)


def chrf_counts(prediction: str, reference: str) -> list[int]:
    """Eighteen numbers of one item: n-grams of the prediction, of the reference, and common ones, by orders 1 to 6.

    Characters without whitespace, by sacrebleu; a reference too short for an order does not count there.
    """
    said, there = (extract_all_char_ngrams(text, CHRF_ORDER) for text in (prediction, reference))
    rows = [(p.total() if r else 0, r.total(), (p & r).total()) for p, r in zip(said, there, strict=True)]
    return [number for column in zip(*rows, strict=True) for number in column]


def chrf(counts: np.ndarray, axis: int | tuple = 0) -> np.ndarray:
    """chrF2, 0 to 1, of the summed counts (… x items x 18): mean precision and recall of the orders, then F."""
    sums = np.asarray(counts, dtype=float).sum(axis[:-1] if isinstance(axis, tuple) else axis)
    said, there, hits = (sums[..., i : i + CHRF_ORDER] for i in (0, CHRF_ORDER, 2 * CHRF_ORDER))
    present = (said > 0) & (there > 0)
    orders = np.maximum(present.sum(-1), 1)
    precision = np.where(present, hits / np.maximum(said, 1), 0).sum(-1) / orders
    recall = np.where(present, hits / np.maximum(there, 1), 0).sum(-1) / orders
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1), 0.0)
