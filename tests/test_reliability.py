"""Agreement of raters against scikit-learn, Krippendorff's worked example and cases by hand."""

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from cbtllm_utils import reliability

NAN = math.nan
# Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
    [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
]


@pytest.mark.parametrize(
    ("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_gives_krippendorffs_own_example(level, alpha):
    found = reliability.krippendorff_alpha(OBSERVERS, level, resamples=100)
    assert found.value == pytest.approx(alpha, abs=5e-4)
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
    assert reliability.krippendorff_alpha(matrix, resamples=20).value == pytest.approx(alpha, nan_ok=True)


def test_alpha_of_chance_is_about_zero_and_its_interval_holds_it():
    found = reliability.krippendorff_alpha(np.random.default_rng(0).integers(0, 3, (5, 400)))
    assert abs(found.value) < 0.05 and found.low < 0 < found.high


def test_kappa_is_scikit_learns_mean_over_pairs():
    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 80)
    raters = np.array([np.clip(truth + random.integers(-1, 2, 80), 0, 2) for _ in range(4)])
    pairs = [cohen_kappa_score(a, b, weights="quadratic") for a, b in itertools.combinations(raters, 2)]
    found = reliability.weighted_kappa(raters, resamples=100)
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
    assert reliability.weighted_kappa(matrix, resamples=20).value == pytest.approx(kappa, nan_ok=True)
