"""How far raters agree beyond chance, with intervals from resampled items: Krippendorff's alpha and weighted kappa."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from cbtllm_utils.statistics import SEED, Estimate, quantiles


def krippendorff_alpha(
    matrix: ArrayLike, level: str = "ordinal", *, resamples: int = 500, seed: int = SEED
) -> Estimate:
    """(alpha, low, high): Krippendorff's alpha of raters x items (NaN where a rater gave none), by `krippendorff`.

    `level` is nominal, ordinal, interval or ratio. The interval is the percentile bootstrap over items (columns),
    seeded with `seed`. NaN where alpha does not exist: fewer than two different values, or no item with two ratings.
    """
    ratings = np.asarray(matrix, dtype=float)
    domain, places = np.unique(ratings[~np.isnan(ratings)], return_inverse=True)
    counts = np.zeros((ratings.shape[1], len(domain)))
    np.add.at(counts, (np.nonzero(~np.isnan(ratings))[1], places), 1)
    random = np.random.default_rng(seed)
    drawn = [alpha(counts[random.integers(0, len(counts), len(counts))], domain, level) for _ in range(resamples)]
    return Estimate(alpha(counts, domain, level), *quantiles(np.array(drawn)))


def alpha(counts: np.ndarray, domain: np.ndarray, level: str) -> float:
    """Krippendorff's alpha of how often each value was given to each item, or NaN where it does not exist."""
    import krippendorff

    shared = counts[counts.sum(axis=1) > 1]
    used = shared.sum(axis=0) > 0
    if used.sum() < 2:
        return float("nan")
    return float(
        krippendorff.alpha(value_counts=shared[:, used], value_domain=domain[used], level_of_measurement=level)
    )


def weighted_kappa(
    matrix: ArrayLike, *, pairs: Sequence[tuple[int, int]] | None = None, resamples: int = 500, seed: int = SEED
) -> Estimate:
    """(kappa, low, high): quadratic-weighted Cohen's kappa of raters x items, mean over all pairs of raters or `pairs`.

    Each pair as sklearn.metrics.cohen_kappa_score(weights="quadratic") has it, over the items that both rated; a pair
    for which it does not exist (all scores equal) does not count. Interval: percentile bootstrap over items, `seed`.
    """
    ratings = np.asarray(matrix, dtype=float)
    n, random = ratings.shape[1], np.random.default_rng(seed)
    drawn = [mean_kappa(ratings[:, random.integers(0, n, n)], pairs) for _ in range(resamples)] if n else []
    return Estimate(mean_kappa(ratings, pairs), *quantiles(np.array(drawn, dtype=float)))


def mean_kappa(ratings: np.ndarray, pairs: Sequence[tuple[int, int]] | None = None) -> float:
    """Quadratic-weighted kappa averaged over all pairs of rows (or `pairs`), in closed form (Fleiss and Cohen 1973).

    1 - mean squared difference / (squared difference expected by chance = both variances + squared distance of means).
    """
    kappas = []
    for a, b in combinations(ratings, 2) if pairs is None else ((ratings[i], ratings[k]) for i, k in pairs):
        both = ~np.isnan(a) & ~np.isnan(b)
        x, y = a[both], b[both]
        chance = x.var() + y.var() + (x.mean() - y.mean()) ** 2 if len(x) else 0.0
        if chance > 0:
            kappas.append(1 - np.mean((x - y) ** 2) / chance)
    return float(np.mean(kappas)) if kappas else float("nan")
