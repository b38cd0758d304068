"""The combined interval and sample sizes: by hand, and as G*Power's manual has them."""

import math

import numpy as np
import pytest
from scipy import stats

from mimic_reg.metrics.uncertainty import combined, power, seeds_needed, subjects_needed


def test_the_variances_add_and_freedom_is_satterthwaites():
    found = combined([0.01, 0.02, 0.03], 0.02, 101)
    of_seeds, of_subjects = 1e-4 / 3, 4e-4
    total = of_seeds + of_subjects
    assert found.freedom == pytest.approx(total**2 / (of_seeds**2 / 2 + of_subjects**2 / 100))
    half = stats.t.ppf(0.975, found.freedom) * math.sqrt(total)
    assert found.bounds == pytest.approx((0.02 - half, 0.02 + half))
    assert (found.seeds, found.subjects) == pytest.approx((math.sqrt(of_seeds), 0.02))
    # without one of the sources it is the other's interval
    assert combined([1, 2, 3], 0.0, 9).bounds == pytest.approx((-0.48414, 4.48414), abs=1e-5)
    assert combined([2, 2, 2], 1.0, 10**9).bounds == pytest.approx((0.04004, 3.95996), abs=1e-5)
    assert combined([1], 1.0, 9) is combined([1, 2], math.nan, 9) is combined([1, 1], 0, 9) is None


@pytest.mark.parametrize(("n", "error"), [(5, 1.0), (2, 0.35)])
def test_it_covers_new_seeds_and_new_subjects_where_seeds_alone_do_not(n, error):
    """With two seeds, Satterthwaite's degrees of freedom alone cover 0.89."""
    rng, covered, alone = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        values = error * rng.normal() + rng.normal(size=n)  # of the test set, and of the seeds
        low, high = combined(values, error, 500).bounds
        covered += low <= 0 <= high
        alone += abs(np.mean(values)) < stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5
    assert 0.93 <= covered / 1000 <= 0.98
    assert alone < covered


@pytest.mark.parametrize(("effect", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_seeds_needed_are_those_of_gpower(effect, n):
    """Two-sided paired t-test, 5 %, power 0.8, for small, medium and large effects."""
    assert seeds_needed(effect, 1.0) == n
    assert power(effect, 1.0, n) >= 0.8 > power(effect, 1.0, n - 1)


def test_limits_of_sample_sizes():
    assert seeds_needed(0.01, 0.0) == seeds_needed(10, 0.1) == 3
    assert seeds_needed(1e-5, 1.0) is None
    # an error of 0.01 with 400 subjects; a power of 0.8 needs delta / 2.8016
    assert subjects_needed(0.01, 0.01, 400) == math.ceil(400 * 2.801585**2)
    assert subjects_needed(0.0280158, 0.01, 400) == 401
