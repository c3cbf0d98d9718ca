"""Statistics against scipy, scikit-learn, Krippendorff's worked example and arithmetic by hand."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import cohen_kappa_score

from cbtllm_utils import statistics

VALUES = np.random.default_rng(7).normal(1.5, 0.5, 60)
NAN = math.nan


def test_bootstrap_of_a_mean_is_scipys():
    ours = statistics.bootstrap(VALUES, resamples=999, seed=1)
    theirs = scipy.stats.bootstrap((VALUES,), np.mean, method="percentile", n_resamples=999, rng=1).confidence_interval
    assert ours == pytest.approx((VALUES.mean(), *theirs), abs=1e-12)


def test_the_numbers_of_an_item_stay_together():
    """Five equal ratings per item say no more than one; flattened, the interval would be 1 / sqrt(5) as wide."""
    one, five = statistics.bootstrap(VALUES), statistics.bootstrap(np.repeat(VALUES[:, None], 5, axis=1))
    assert five == pytest.approx(one)
    flat = statistics.bootstrap(np.repeat(VALUES, 5))
    assert (flat.high - flat.low) / (five.high - five.low) == pytest.approx(1 / math.sqrt(5), rel=0.1)


def test_a_statistic_may_use_the_columns():
    def ratio(x: np.ndarray, axis: object) -> np.ndarray:
        return x[..., 0].sum(1) / x[..., 1].sum(1)

    found = statistics.bootstrap([[1, 2], [1, 2], [3, 6]], statistic=ratio)
    assert found == pytest.approx((0.5, NAN, NAN), nan_ok=True), "all draws are .5"
    assert statistics.bootstrap([3.0, 1.0, 2.0], statistic=np.median).value == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (NAN, NAN, NAN)),
        ([1.5], (1.5, NAN, NAN)),
        ([[1, 2]], (1.5, NAN, NAN)),
        ([2, 2, 2], (2, NAN, NAN)),  # equal items do not say how far others differ
        (np.zeros((0, 5)), (NAN, NAN, NAN)),
    ],
)
def test_bootstrap_of_no_item_and_of_one(values, expected):
    assert statistics.bootstrap(values) == pytest.approx(expected, nan_ok=True)


def test_the_seed_decides():
    assert statistics.bootstrap(VALUES, seed=3) == statistics.bootstrap(VALUES, seed=3)
    assert statistics.bootstrap(VALUES, seed=3) != statistics.bootstrap(VALUES, seed=4)


def test_resampling_in_pieces_draws_the_same_number(monkeypatch):
    seen = []
    monkeypatch.setattr(statistics, "CELLS", 60 * 7)

    def mean(x: np.ndarray, axis: object) -> np.ndarray:
        seen.append(len(x))
        return x.mean(axis)

    statistics.bootstrap(VALUES, statistic=mean, resamples=20)
    assert seen == [7, 7, 6, 1]


@pytest.mark.parametrize(
    ("successes", "n", "expected"),
    [
        (81, 263, (0.3080, 0.2553, 0.3662)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.1014, 0.0624, 0.1605)),
        (0, 20, (0.0, 0.0, 0.1611)),
        (1, 29, (0.0345, 0.0061, 0.1718)),
        (0, 0, (NAN, NAN, NAN)),
    ],
)
def test_wilson_gives_the_published_intervals(successes, n, expected):
    assert statistics.wilson(successes, n) == pytest.approx(expected, abs=5e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("successes", "n", "text"),
    [
        (81, 263, "81 of 263 (26–37 %)"),  # Newcombe 1998, as above: .2553 to .3662
        (0, 20, "0 of 20 (0–16 %)"),
        (1, 3, "1 of 3"),
        (0, 0, "–"),
        (2630, 2630, "2,630 of 2,630 (99.9–100.0 %)"),  # n / (n + 3.8415) = .99854
    ],
)
def test_a_share_is_a_count_with_an_interval(successes, n, text):
    assert statistics.share_text(successes, n) == text


def test_paired_is_exact_for_few_items():
    """Differences 1, 2, 3: of 2^3 = 8 flips only +++ and --- reach |mean| 2, so p = 2/8."""
    found = statistics.paired([2, 4, 6], [1, 2, 3])
    assert found.difference == 2 and found.p == pytest.approx(0.25)
    differences = [0.5, -0.2, 0.9, 0.4, 0.7, -0.1, 0.3]
    flips = [np.mean(np.multiply(signs, differences)) for signs in itertools.product([1, -1], repeat=7)]
    by_hand = np.mean(np.abs(flips) >= abs(np.mean(differences)) - 1e-12)
    assert statistics.paired(differences, np.zeros(7)).p == pytest.approx(by_hand)


def test_paired_is_scipys_permutation_test():
    """Both are random: with p = .03 and 100,000 flips, 4 standard errors of their difference are .003."""
    other = VALUES + np.random.default_rng(8).normal(0.1, 0.4, 60)
    found = statistics.paired(VALUES, other)
    theirs = scipy.stats.permutation_test(
        (VALUES, other), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=100_000, rng=1
    )
    assert found.p == pytest.approx(theirs.pvalue, abs=0.003)
    assert found.p == pytest.approx(scipy.stats.ttest_rel(VALUES, other).pvalue, abs=0.01)
    assert found.low <= found.difference <= found.high
    assert statistics.paired(other, VALUES).difference == pytest.approx(-found.difference)


def test_many_tests_at_once_are_the_single_ones():
    differences = np.random.default_rng(9).normal(0.1, 0.4, (40, 3))
    for column, found in zip(differences.T, statistics.paired_columns(differences), strict=True):
        assert found == pytest.approx(statistics.paired(column, np.zeros(40)))


def test_holms_verdict_does_not_hang_on_the_number_of_flips():
    """Of 40 signs alike, 2 of 2^40 flips reach the mean: p is the least there is, and 60 tests still leave .001."""
    p = statistics.sign_flips(np.ones((40, 1)))
    assert p == pytest.approx(1 / 100_001) and statistics.holm([*p, *[0.5] * 59])[0] < 0.001


@pytest.mark.parametrize(("a", "b"), [([1.0], [2.0]), ([1, 2, 3], [1, 2, 3]), ([], [])])
def test_equal_values_have_p_1(a, b):
    assert statistics.paired(a, b).p == 1


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match=r"one length; got \(2,\) and \(3,\)"):
        statistics.paired([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # 3 · .01; 2 · .03; .04 no less than .06
        ([0.01, 0.02, 0.03, 0.005], [0.03, 0.04, 0.04, 0.02]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p, corrected):
    assert statistics.holm(p).tolist() == pytest.approx(corrected)


@pytest.mark.parametrize(
    ("difference", "sd", "items"),
    [
        (0.5, 1.0, 32),  # (1.95996 + 0.84162)² = 7.8489; / 0.25 = 31.4
        (0.2, 1.0, 197),
        (-0.2, 1.0, 197),
        (0.002, 0.5, 490_555),
        (1.0, 0.0, 0),
    ],
)
def test_items_needed_by_hand(difference, sd, items):
    assert statistics.items_needed(difference, sd) == items


def test_no_number_of_items_shows_a_difference_of_zero():
    with pytest.raises(ValueError, match=r"no number of items shows a difference of 0"):
        statistics.items_needed(0, 1)


def covers(found: statistics.Estimate, truth: float) -> bool:
    """Return whether an interval holds the truth; one without width holds its value."""
    low, high = (found.value if np.isnan(end) else end for end in found[1:])
    return low - 1e-9 <= truth <= high + 1e-9


@pytest.mark.parametrize(("interval", "least", "most"), [("bootstrap", 0.6, 0.72), ("bounded_mean", 0.95, 1)])
def test_coverage_near_a_ceiling(interval, least, most):
    """40 items, 2 with probability .97, else 1: the mean is 1.97, and the number of ones decides the interval."""
    estimate = {
        "bootstrap": statistics.bootstrap,
        "bounded_mean": lambda scores: statistics.bounded_mean(scores, lowest=0, highest=2),
    }[interval]
    weights = scipy.stats.binom.pmf(range(12), 40, 0.03)
    covered = [covers(estimate([1.0] * ones + [2.0] * (40 - ones)), 1.97) for ones in range(12)]
    assert least < weights @ covered <= most


@pytest.mark.parametrize(
    ("shape", "items"),
    [((8, 2), 10), ((8, 2), 40), ((19, 1), 40), ((2, 2), 100)],
)
def test_coverage_of_a_bounded_mean_far_from_its_ends(shape, items):
    """Five raters give 0 to 2 to items whose quality is beta-distributed; 2,000 samples, standard error .005."""
    random = np.random.default_rng(11)
    truth, covered = 2 * shape[0] / sum(shape), 0
    for _ in range(2000):
        quality = random.beta(*shape, size=(items, 1))
        covered += covers(statistics.bounded_mean(random.binomial(2, quality, (items, 5)), lowest=0, highest=2), truth)
    assert 0.935 < covered / 2000 < 0.99


def test_a_bounded_mean_of_zeros_and_ones_is_wilsons_interval_with_t():
    """m (1 - m) / (s² / n) is n - 1 for zeros and ones, by hand; with 2,000 items, t is the normal quantile."""
    ours = statistics.bounded_mean([1.0] * 300 + [0.0] * 1700, lowest=0, highest=1)
    assert ours == pytest.approx(statistics.wilson(300, 2000), abs=2e-5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], (NAN, NAN, NAN)),
        ([2.0], (2, NAN, NAN)),
        ([[2.0, 2.0]], (2, NAN, NAN)),
        ([2.0] * 40, (2, 2 * 40 / (40 + 2.0227**2), 2)),  # all equal at the end: n / (n + t²), t(.975; 39) = 2.0227
        ([0.0] * 40, (0, 0, 2 - 2 * 40 / (40 + 2.0227**2))),
        ([[2.0, NAN], [NAN, NAN], [2.0, 2.0]], (2, 2 * 2 / (2 + 12.7062**2), 2)),  # two items with a score
    ],
)
def test_a_bounded_mean_at_its_ends(values, expected):
    assert statistics.bounded_mean(values, lowest=0, highest=2) == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_items_with_unequal_numbers_of_scores():
    """Item means 2 (two scores) and 1 (one): the mean of all scores is 5/3; residuals 2/3 and -2/3 of 0..2 sum to 0."""
    found = statistics.bounded_mean([[2, 2], [1, NAN], [2, 1]], lowest=0, highest=2)
    assert found.value == pytest.approx(8 / 5) and 0 <= found.low < 1.6 < found.high <= 2


def test_a_95_percent_interval_holds_83_percent_of_replicate_means():
    """Two means of one size differ with sqrt(2) standard errors: P(|Z| < 1.96 / sqrt(2)) = .834."""
    random = np.random.default_rng(12)
    first, second = random.normal(size=(2, 4000, 100))
    half = 1.95996 * first.std(axis=1, ddof=1) / 10
    held = np.abs(second.mean(axis=1) - first.mean(axis=1)) < half
    covered = np.abs(first.mean(axis=1)) < half
    assert np.mean(held) == pytest.approx(0.834, abs=0.02) and np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_resampled_sums_are_sums_of_drawn_items():
    """Three items with numbers 1, 10, 100: each draw's sum says how often each is in it, three in all."""
    sums = statistics.resampled_sums([[1, 1], [10, 1], [100, 1]], resamples=2000, seed=1)
    assert sums.shape == (2000, 2) and (sums[:, 1] == 3).all()
    digits = {int(total) for total in sums[:, 0]}
    assert digits <= {3, 12, 21, 30, 102, 111, 120, 201, 210, 300} and len(digits) == 10
    assert np.mean(sums[:, 0] == 111) == pytest.approx(6 / 27, abs=0.04)  # 3! of 3^3; 4 standard errors are 0.037


def test_systems_are_drawn_alike():
    values = np.random.default_rng(3).random((50, 2))
    both = statistics.resampled_sums(values, resamples=100, seed=1)
    assert both[:, :1] == pytest.approx(statistics.resampled_sums(values[:, :1], resamples=100, seed=1))


def test_an_interval_of_a_mean_is_the_bootstraps():
    """Both are percentile bootstraps: the ends differ by chance, here by less than a twentieth of the width."""
    values = np.random.default_rng(3).random(200)
    sums = statistics.resampled_sums(values[:, None], resamples=20000, seed=1)[:, 0] / 200
    other = statistics.bootstrap(values, resamples=20000, seed=2)
    width = other.high - other.low
    assert statistics.quantiles(sums) == pytest.approx((other.low, other.high), abs=width / 20)


# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


def test_alpha_gives_krippendorffs_own_example():
    found = statistics.krippendorff_alpha(OBSERVERS, resamples=100)
    assert found.value == pytest.approx(0.815, abs=5e-4)
    assert found.low < found.value < found.high <= 1


@pytest.mark.parametrize(
    ("matrix", "alpha"),
    [
        ([[1, 1, 1], [1, 1, 1]], NAN),  # one value: nothing to agree about
        ([[0, 1, 2], [NAN, NAN, NAN]], NAN),  # one rater
        ([[0, 1, NAN], [NAN, NAN, 2]], NAN),  # no item with two ratings
        ([[0, 1, 2], [0, 1, 2]], 1.0),
        ([[0, 0, 1], [0, 0, 1], [0, 0, NAN]], 1.0),
        (np.full((3, 0), NAN), NAN),
    ],
)
def test_alpha_at_the_edges(matrix, alpha):
    assert statistics.krippendorff_alpha(matrix, resamples=20).value == pytest.approx(alpha, nan_ok=True)


def test_kappa_is_scikit_learns_mean_over_pairs():
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 80)
    raters = np.array([np.clip(truth + random.integers(-1, 2, 80), 0, 2) for _ in range(4)])
    pairs = [cohen_kappa_score(a, b, weights="quadratic") for a, b in itertools.combinations(raters, 2)]
    found = statistics.weighted_kappa(raters, resamples=100)
    assert found.value == pytest.approx(np.mean(pairs))
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("matrix", "kappa"),
    [
        ([[0, 1, 2, 0], [0, 1, 2, 0]], 1.0),
        ([[0, 2], [2, 0]], -1.0),
        ([[0, 1, 2, NAN], [0, 1, 2, 2]], 1.0),  # only what both rated
        ([[1, 1], [1, 1]], NAN),
        ([[0, NAN], [NAN, 1]], NAN),
        (np.full((3, 0), NAN), NAN),
    ],
)
def test_kappa_at_the_edges(matrix, kappa):
    assert statistics.weighted_kappa(matrix, resamples=20).value == pytest.approx(kappa, nan_ok=True)
