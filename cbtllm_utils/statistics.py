"""Intervals, paired tests and corrections: what a mean over a few raters and items can bear."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES, SEED, LEVEL = 2000, 42, 0.95
CELLS = 4_000_000  # numbers held at a time while resampling: about 32 MB


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """Mean of a - b over items, its interval, and the two-sided p of no difference."""

    difference: float
    low: float
    high: float
    p: float


def bootstrap(
    values: ArrayLike,
    *,
    statistic: Callable[..., np.ndarray] = np.mean,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Estimate:
    """(value, low, high): `statistic` of the values and its percentile interval from resampled items.

    `values` holds one number an item, or items x k (an item's k numbers stay together, as the ratings of one reply do).
    `statistic` gets draws x items (x k) and the `axis` to reduce, as numpy's mean and median do: all but the first; one
    of your own may use the columns, `lambda x, axis: x[..., 0].sum(1) / x[..., 1].sum(1)` being a ratio of sums.
    Method: percentile bootstrap (Efron and Tibshirani 1993, ch. 13), numpy's PCG64 seeded with `seed`. One item
    has no interval (NaN): it says nothing about others; none has no value either. NaN among values is the statistic's
    business (np.nanmean).
    """
    items = np.asarray(values, dtype=float)
    if not len(items):
        return Estimate(np.nan, np.nan, np.nan)
    if len(items) == 1:
        return Estimate(float(statistic(items[None], axis=1 if items.ndim == 1 else (1, 2))[0]), np.nan, np.nan)
    random, n, axis = np.random.default_rng(seed), len(items), 1 if items.ndim == 1 else (1, 2)
    step = max(1, CELLS // items.size)
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    drawn = [statistic(items[random.integers(0, n, (size, n))], axis=axis) for size in sizes]
    return Estimate(float(statistic(items[None], axis=axis)[0]), *quantiles(np.concatenate(drawn), level))


def resampled(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """resamples x k: the sums of the items' k numbers (items x k) over resampled items.

    A draw is how often it holds each item, and its sums are a matrix product: all columns at once, which makes corpus
    scores from counts as cheap as means. Equal seed and number of items give equal draws, so that systems which
    answered the same items are compared draw by draw.
    """
    items = np.asarray(values, dtype=float)
    random, n = np.random.default_rng(seed), len(items)
    step, sums = max(1, CELLS // max(n, 1)), []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = random.integers(0, n, (size, n)) + n * np.arange(size)[:, None]
        often = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums.append(often.astype(float) @ items)
    return np.concatenate(sums)


def quantiles(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The ends of the central share `level` of what was drawn; draws without a value (NaN) do not count."""
    held = drawn[~np.isnan(drawn)]
    low, high = np.quantile(held, [(1 - level) / 2, (1 + level) / 2]) if len(held) else (np.nan, np.nan)
    return float(low), float(high)


def wilson(successes: int, n: int, level: float = LEVEL) -> Estimate:
    """(share, low, high) of so many successes among n: Wilson's score interval (1927), by scipy; no seed is needed."""
    from scipy.stats import binomtest

    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    interval = binomtest(int(successes), int(n)).proportion_ci(level, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high))


def paired(a: ArrayLike, b: ArrayLike, *, seed: int = SEED, resamples: int = RESAMPLES) -> Paired:
    """(difference, low, high, p) of mean(a - b), where a[i] and b[i] belong to the same item.

    p: two-sided sign-flip permutation test, scipy.stats.permutation_test with permutation_type="samples": exact where
    2^n <= resamples, else that many random flips seeded with `seed` (so p >= 2 / (resamples + 1)). The interval is
    `bootstrap`'s over items. Fewer than two items, or equal ones, give p = 1: nothing can be told from them.
    """
    from scipy.stats import permutation_test

    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired values must be two rows of one length; got {first.shape} and {second.shape}")
    found = bootstrap(first - second, seed=seed, resamples=resamples)
    if len(first) < 2 or np.array_equal(first, second):
        return Paired(*found, 1.0)
    test = permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=resamples,
        batch=max(1, CELLS // len(first)),
        rng=np.random.default_rng(seed),
    )
    return Paired(*found, float(test.pvalue))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """The p values corrected for their number, in the given order: Holm (1979), step-down, valid under any dependence.

    The smallest is multiplied by m, the next by m - 1, …; none falls below the one before it, none exceeds 1.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return steps[np.argsort(order, kind="stable")]


def items_needed(difference: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """How many items a two-sided paired test needs to see a mean `difference` whose per-item values spread by `sd`.

    n = ((z(1 - alpha/2) + z(power)) · sd / difference)², rounded up: the normal approximation (Cohen 1988, ch. 2); no
    seed. ValueError for a difference of 0: no number of items would do.
    """
    from scipy.stats import norm

    if not difference:
        raise ValueError("a difference of 0 cannot be told from none; give the smallest one that would matter")
    return int(np.ceil(((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * sd / difference) ** 2))


def difference_seen(items: int, sd: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest mean difference that so many paired items show with this power: `items_needed` turned round."""
    from scipy.stats import norm

    return float((norm.ppf(1 - alpha / 2) + norm.ppf(power)) * sd / np.sqrt(items))
