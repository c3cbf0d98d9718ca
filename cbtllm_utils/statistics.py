"""Intervals, paired tests and agreement coefficients for means over few raters and items."""

import warnings
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES, SEED, LEVEL = 2000, 42, 0.95
FLIPS = 100_000  # random sign flips of a permutation test: p is then known to within .0014 at .05
FEWEST = 5  # cases of which a percentage is printed
CELLS = 4_000_000  # numbers in memory at a time while resampling: about 32 MB
INTERVAL = {"low": "95% CI low", "high": "95% CI high"}  # how tables call the two ends of an interval


class Estimate(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


class Paired(NamedTuple):
    """The mean of a - b over items, its interval, and the two-sided p of no difference."""

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
) -> Estimate:
    """Return a statistic of the values and its percentile interval over resampled items.

    Args:
        values: One number per item, or items x k (the k numbers of an item stay together, as the ratings of one reply).
        statistic: Gets draws x items (x k) and the `axis` to reduce, as numpy's mean and median do. One of your own may
            use the columns: `lambda x, axis: x[..., 0].sum(1) / x[..., 1].sum(1)` is a ratio of sums.

    Returns:
        Value, low, high. The interval is NaN for one item, which says nothing about others, and for equal items,
        whose draws are all the same (see `quantiles`); without items the value is NaN as well. NaN among the
        values is left to the statistic (np.nanmean). For a mean on a bounded scale use `bounded_mean`: near a bound
        this interval is too short.
    """
    items = np.asarray(values, dtype=float)
    axis = 1 if items.ndim == 1 else (1, 2)
    if not len(items):
        return Estimate(np.nan, np.nan, np.nan)
    drawn = resample(
        len(items),
        lambda chosen: statistic(items[chosen], axis=axis),
        resamples=resamples,
        seed=seed,
        batch=max(1, CELLS // items.size),
    )
    return Estimate(float(statistic(items[None], axis=axis)[0]), *quantiles(drawn))


def resample(
    items: int, statistic: Callable[[np.ndarray], np.ndarray], *, resamples: int, seed: int, batch: int | None = None
) -> np.ndarray:
    """Return a statistic of resampled items, by scipy.stats.bootstrap (Efron and Tibshirani 1993, ch. 13).

    Args:
        items: How many items there are. Equal seeds and numbers of items give equal draws.
        statistic: Gets the numbers of the drawn items, draws x items, and returns one value per draw as its last axis.
        batch: How many draws the statistic gets at a time; by default all.

    Returns:
        … x draws; no draw where there are fewer than two items.
    """
    from scipy.stats import bootstrap

    if items < 2:
        return np.empty(0)
    with warnings.catch_warnings():
        # scipy warns that its interval is NaN if a draw has no value; `quantiles` leaves such draws out.
        warnings.simplefilter("ignore")
        found = bootstrap(
            (np.arange(items),),
            lambda chosen, axis: statistic(chosen),
            vectorized=True,
            method="percentile",
            n_resamples=resamples,
            batch=batch,
            rng=np.random.default_rng(seed),
        )
    return found.bootstrap_distribution


def resampled_sums(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Return resamples x k: the sums of the items' k numbers (items x k) over resampled items.

    A draw is described by how often it holds each item, and its sums are a matrix product. Corpus scores from counts
    thus cost as little as means. Systems that answered the same items get the same draws.
    """
    items = np.asarray(values, dtype=float)

    def sums(chosen: np.ndarray) -> np.ndarray:
        draws, n = chosen.shape
        places = chosen + n * np.arange(draws)[:, None]
        often = np.bincount(places.ravel(), minlength=draws * n).reshape(draws, n)
        return (often.astype(float) @ items).T

    return resample(len(items), sums, resamples=resamples, seed=seed, batch=max(1, CELLS // max(len(items), 1))).T


def quantiles(drawn: np.ndarray) -> tuple[float, float]:
    """Return the ends of the central 95 % of the draws; draws without a value (NaN) do not count.

    The interval of equal draws is NaN: from equal items, resampling cannot tell how far others differ.
    """
    valid = drawn[~np.isnan(drawn)]
    if not len(valid) or np.isclose(valid.min(), valid.max(), rtol=1e-12, atol=0):
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def bounded_mean(values: ArrayLike, *, lowest: float, highest: float) -> Estimate:
    """Return the mean of scores on a bounded scale, with Wilson's interval for the effective number of items.

    A mean of n items on 0..1 with the variance v has the effective number m (1 - m) / (v / n) of all-or-nothing items,
    about n or more. Wilson's score interval (1927) of that many, with Student's t for the normal quantile, never leaves
    the scale and has a width even where all items are equal. Franco et al. (2019, PMC6690503) recommend the form for
    clustered samples; here an item is a cluster of its ratings. Percentile intervals of resampled items fail near an
    end: with 97 % twos and n = 40 they cover the mean in 70 of 100 samples, this one in 96 (tests/test_statistics.py).

    Args:
        values: One score per item, or items x raters, NaN where a rater gave none; the mean is over all scores.
        lowest, highest: The ends of the scale.

    Returns:
        Value, low, high; one item has no interval (NaN).
    """
    from scipy.stats import t

    scores = (np.asarray(values, dtype=float) - lowest) / (highest - lowest)
    scores = scores[:, None] if scores.ndim == 1 else scores
    scores = scores[~np.isnan(scores).all(axis=1)]
    n = len(scores)
    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    mean = np.nanmean(scores)
    if n == 1:
        return Estimate(float(lowest + (highest - lowest) * mean), np.nan, np.nan)
    # Of a ratio of sums, as items may have unequal numbers of scores: Cochran 1977, §6.3.
    residuals = np.nansum(scores - mean, axis=1)
    variance = n / (n - 1) * (residuals**2).sum() / np.isfinite(scores).sum() ** 2
    effective = mean * (1 - mean) / variance if variance > 1e-12 else n
    z = t.ppf((1 + LEVEL) / 2, n - 1)
    center = (mean + z**2 / (2 * effective)) / (1 + z**2 / effective)
    half = z * np.sqrt(mean * (1 - mean) / effective + (z / (2 * effective)) ** 2) / (1 + z**2 / effective)
    ends = np.clip([mean, center - half, center + half], 0, 1)
    return Estimate(*map(float, lowest + (highest - lowest) * ends))


def wilson(successes: int, n: int) -> Estimate:
    """Return the share of successes among n and Wilson's score interval (1927), by scipy."""
    from scipy.stats import binomtest

    if not n:
        return Estimate(np.nan, np.nan, np.nan)
    interval = binomtest(int(successes), int(n)).proportion_ci(LEVEL, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high))


def share_text(successes: int, n: int) -> str:
    """Return a share as tables print it: "2 of 13 (4–42 %)", the count and Wilson's interval; "1 of 3" below 5.

    Below five cases the count says more than a percentage. Ends have one decimal from 1000 cases on.
    """
    if n < FEWEST:
        return f"{successes} of {n}" if n else "–"
    _, low, high = wilson(successes, n)
    digits = int(n >= 1000)
    return f"{successes:,} of {n:,} ({100 * low:.{digits}f}–{100 * high:.{digits}f} %)"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: "a, b and c"; "" of none."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def paired(a: ArrayLike, b: ArrayLike, *, seed: int = SEED, resamples: int = RESAMPLES) -> Paired:
    """Return mean(a - b), its interval and p, where a[i] and b[i] belong to the same item.

    The interval is `bootstrap`'s over items, p that of `sign_flips`.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"paired values must be two rows of one length; got {first.shape} and {second.shape}")
    found = bootstrap(first - second, seed=seed, resamples=resamples)
    return Paired(*found, float(sign_flips((first - second)[:, None], seed=seed)[0]))


def paired_columns(differences: ArrayLike, *, seed: int = SEED, resamples: int = RESAMPLES) -> list[Paired]:
    """Return `paired` of each column of differences (items x k): the same draws and flips for all, so that many tests
    cost little more than one."""
    values = np.asarray(differences, dtype=float)
    drawn = resampled_sums(values, resamples=resamples, seed=seed) / len(values) if len(values) > 1 else values[:0]
    ends = [quantiles(column) for column in drawn.T]
    p = sign_flips(values, seed=seed)
    return [Paired(float(m), *e, float(q)) for m, e, q in zip(values.mean(axis=0), ends, p, strict=True)]


def sign_flips(differences: ArrayLike, *, flips: int = FLIPS, seed: int = SEED) -> np.ndarray:
    """Return p of each column's mean difference (items x k) by a two-sided sign-flip permutation test.

    p is the share of sign flips whose mean is at least as far from 0 (Fisher's randomization test): exact where all
    2^n flips are no more than `flips`, else of that many random ones and the identity, so that p >= 1 / (flips + 1).
    scipy.stats.permutation_test (permutation_type="samples") gives the same, more than 20 times slower, as it draws a
    permutation for each item of each column.
    """
    values = np.asarray(differences, dtype=float)
    items = len(values)
    # A flip's sum is as far as the observed one when it is equal but for rounding.
    least = np.abs(values.sum(axis=0)) - 1e-12 * np.abs(values).sum(axis=0)
    if 2**items <= flips:
        signs = 1.0 - 2 * (np.arange(2**items)[:, None] >> np.arange(items) & 1)
        return (np.abs(signs @ values) >= least).mean(axis=0)
    random, reached, batch = np.random.default_rng(seed), 1, max(1, CELLS // items)
    for start in range(0, flips, batch):
        signs = 1.0 - 2 * random.integers(0, 2, (min(batch, flips - start), items), dtype=np.int8)
        reached = reached + (np.abs(signs @ values) >= least).sum(axis=0)
    return reached / (flips + 1)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return the p values corrected for their number, in the given order: Holm (1979), valid under any dependence.

    The smallest is multiplied by m, the next by m - 1, …; none falls below the one before it, none exceeds 1.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return steps[np.argsort(order, kind="stable")]


def items_needed(difference: float, sd: float, power: float = 0.8) -> int:
    """Return how many items a two-sided paired test at the level .05 needs to detect a mean difference.

    n = ((z(.975) + z(power)) · sd / difference)², rounded up: the normal approximation (Cohen 1988, ch. 2).

    Args:
        difference: The smallest mean difference that would matter.
        sd: The standard deviation of the items' differences.

    Raises:
        ValueError: For a difference of 0, which cannot be shown with any number of items.
    """
    from scipy.stats import norm

    if not difference:
        raise ValueError("no number of items shows a difference of 0; give the smallest one that would matter")
    return int(np.ceil(((norm.ppf((1 + LEVEL) / 2) + norm.ppf(power)) * sd / difference) ** 2))


def minimum_detectable_difference(items: int, sd: float, power: float = 0.8) -> float:
    """Return the smallest mean difference that so many paired items show with this power; see `items_needed`."""
    from scipy.stats import norm

    return float((norm.ppf((1 + LEVEL) / 2) + norm.ppf(power)) * sd / np.sqrt(items))


def krippendorff_alpha(matrix: ArrayLike, *, resamples: int = 500, seed: int = SEED) -> Estimate:
    """Return Krippendorff's alpha of ordinal ratings and its interval over items, by the library `krippendorff`.

    Args:
        matrix: Raters x items, NaN where a rater did not rate.

    Returns:
        Value, low, high; NaN where alpha does not exist: fewer than two different values, or no item with two ratings.
    """
    ratings = np.asarray(matrix, dtype=float)
    domain, places = np.unique(ratings[~np.isnan(ratings)], return_inverse=True)
    counts = np.zeros((ratings.shape[1], len(domain)))
    np.add.at(counts, (np.nonzero(~np.isnan(ratings))[1], places), 1)
    drawn = resample(
        len(counts),
        lambda chosen: np.array([alpha_of_counts(counts[one], domain) for one in chosen]),
        resamples=resamples,
        seed=seed,
    )
    return Estimate(alpha_of_counts(counts, domain), *quantiles(drawn))


def alpha_of_counts(counts: np.ndarray, domain: np.ndarray) -> float:
    """Return Krippendorff's ordinal alpha of how often each item got each value, or NaN where alpha does not exist."""
    import krippendorff

    shared = counts[counts.sum(axis=1) > 1]
    used = shared.sum(axis=0) > 0
    if used.sum() < 2:
        return float("nan")
    return float(
        krippendorff.alpha(value_counts=shared[:, used], value_domain=domain[used], level_of_measurement="ordinal")
    )


def weighted_kappa(
    matrix: ArrayLike, *, pairs: Sequence[tuple[int, int]] | None = None, resamples: int = 500, seed: int = SEED
) -> Estimate:
    """Return Cohen's kappa with quadratic weights, as a mean over pairs of raters, and its interval over items.

    Each pair has the value of sklearn.metrics.cohen_kappa_score(weights="quadratic") over the items that both rated; a
    pair for which it does not exist (all scores equal) does not count.

    Args:
        matrix: Raters x items, NaN where a rater did not rate.
        pairs: Which raters are compared; by default all pairs.
    """
    ratings = np.asarray(matrix, dtype=float)
    drawn = resample(
        ratings.shape[1],
        lambda chosen: np.array([mean_kappa(ratings[:, one], pairs) for one in chosen]),
        resamples=resamples,
        seed=seed,
    )
    return Estimate(mean_kappa(ratings, pairs), *quantiles(drawn))


def mean_kappa(ratings: np.ndarray, pairs: Sequence[tuple[int, int]] | None = None) -> float:
    """Return the mean of kappa with quadratic weights over pairs of rows, in closed form (Fleiss and Cohen 1973).

    1 - mean squared difference / (squared difference expected by chance = both variances + squared distance of means).
    """
    kappas = []
    for i, k in combinations(range(len(ratings)), 2) if pairs is None else pairs:
        both = ~np.isnan(ratings[i]) & ~np.isnan(ratings[k])
        x, y = ratings[i][both], ratings[k][both]
        chance = x.var() + y.var() + (x.mean() - y.mean()) ** 2 if len(x) else 0.0
        if chance > 0:
            kappas.append(1 - np.mean((x - y) ** 2) / chance)
    return float(np.mean(kappas)) if kappas else float("nan")
