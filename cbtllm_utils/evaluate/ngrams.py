"""N-gram counts of single items, and the corpus scores of their sums, from which resampled corpus scores are computed.

BLEU (Papineni et al. 2002) and chrF (Popović 2015) are ratios of sums over all items, not means of items' scores.
"""

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.helpers import extract_all_char_ngrams, extract_word_ngrams

BLEU_ORDER, CHRF_ORDER, BETA = 4, 6, 2  # sacrebleu's and jury's defaults


def bleu_counts(prediction: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Return one item's hits and n-grams of orders 1 to 4, and both texts' numbers of tokens: ten numbers."""
    hits, totals = [], []
    for n in range(1, BLEU_ORDER + 1):
        said, there = extract_word_ngrams(prediction, n), extract_word_ngrams(reference, n)
        hits.append((said & there).total())
        totals.append(said.total())
    return [*hits, *totals, len(prediction), len(reference)]


def bleu(sums: np.ndarray, smooth: bool = False) -> np.ndarray:
    """Return BLEU, 0 to 1, of summed `bleu_counts` (… x 10).

    `smooth` adds one to hits and n-grams of orders 2 to 4 (Lin and Och 2004), for single items: without a common 4-gram
    they would be 0. A text without a token scores 0.
    """
    hits, totals, said, there = np.split(np.asarray(sums, dtype=float), [4, 8, 9], axis=-1)
    more = np.array([0, 1, 1, 1]) if smooth else np.zeros(4)
    with np.errstate(divide="ignore", invalid="ignore"):
        geometric = np.exp(np.log((hits + more) / (totals + more)).mean(-1))
        brevity = np.exp(np.minimum(0, 1 - there / said))[..., 0]
        return np.nan_to_num(geometric * brevity, nan=0.0)


def chrf_counts(prediction: str, reference: str) -> list[int]:
    """Return one item's n-grams of the prediction, of the reference, and common ones, of orders 1 to 6: 18 numbers.

    Characters without whitespace, as sacrebleu counts; a reference too short for an order does not count there.
    """
    rows = []
    for said, there in zip(
        *(extract_all_char_ngrams(text, CHRF_ORDER) for text in (prediction, reference)), strict=True
    ):
        rows.append((said.total() if there else 0, there.total(), (said & there).total()))
    return np.ravel(rows, order="F").tolist()


def chrf(sums: np.ndarray) -> np.ndarray:
    """Return chrF2, 0 to 1, of summed `chrf_counts` (… x 18): mean precision and recall of the orders, then F."""
    said, there, hits = np.split(np.asarray(sums, dtype=float), 3, axis=-1)
    present = (said > 0) & (there > 0)
    orders = np.maximum(present.sum(-1), 1)
    precision = np.where(present, hits / np.maximum(said, 1), 0).sum(-1) / orders
    recall = np.where(present, hits / np.maximum(there, 1), 0).sum(-1) / orders
    below = BETA**2 * precision + recall
    return np.where(below > 0, (1 + BETA**2) * precision * recall / np.where(below > 0, below, 1), 0.0)
