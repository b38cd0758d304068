import math

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from mimic_reg.metrics.calibration import calibrate, net_benefit, treat_all


def test_slope_and_intercept_by_hand():
    """Two predictions, 0.2 and 0.8, whose observed shares are 1/4 and 1/2 of 8 samples each."""
    p = np.repeat([0.2, 0.8], 8)
    y = np.r_[np.repeat([1, 0], [2, 6]), np.repeat([1, 0], 4)]
    found = calibrate(y, p, np.arange(16))
    spread = logit(0.8) - logit(0.2)
    assert found.slope.value == pytest.approx((logit(1 / 2) - logit(1 / 4)) / spread)
    # a saturated model: the log-odds have variances 1 / (n q (1 - q)), here with n / (n - 1)
    error = math.sqrt((8 / 12 + 1 / 2) * 16 / 15) / spread
    assert found.slope.high - found.slope.value == pytest.approx(1.959964 * error)
    # calibrated in the large: with this intercept the mean prediction is 6 / 16
    shifted = expit(logit(p) + found.intercept.value)
    assert shifted.mean() == pytest.approx(6 / 16)
    assert found.intercept.value < 0  # risks of 1/2 on average were too high


def test_it_equals_scikit_learn_and_counts_subjects_not_samples():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y, p = (rng.random(400) < expit(0.5 + 0.7 * x)).astype(int), expit(x)
    found = calibrate(y, p, np.arange(400))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], y)
    assert found.slope.value == pytest.approx(oracle.coef_.item(), abs=1e-5)
    twice = calibrate(np.tile(y, 2), np.tile(p, 2), np.tile(np.arange(400), 2))
    assert vars(twice.slope) == pytest.approx(vars(found.slope))  # the same 400 subjects


def test_what_is_undefined_says_why():
    y, each = np.array([0, 0, 1, 1]), np.arange(4)
    assert calibrate(y * 0, y / 2, each).reason == "all samples have one class"
    assert calibrate(y, y + 0.0, each).reason == "the predictions separate the classes"
    assert calibrate(y, y / 2, each * 0).reason == "all samples are of one subject"
    constant = calibrate(y, np.full(4, 0.2), each)
    assert (constant.slope, constant.reason) == (None, "all predictions are equal")
    assert constant.intercept.value == pytest.approx(-logit(0.2))


def test_net_benefit_by_hand():
    """At 0.2 two of four are treated, one rightly: 1/4 - 1/4 * 0.25; at 0.8 one, rightly."""
    y, p = np.array([1, 0, 0, 1]), np.array([0.9, 0.3, 0.1, 0.1])
    thresholds = np.array([0.2, 0.8])
    low, high = net_benefit(y, p, np.arange(4), thresholds)
    assert (low.value, high.value) == pytest.approx((0.1875, 0.25))
    values = np.array([1, -0.25, 0, 0])
    error = values.std(ddof=1) / 2
    assert high.value - high.low == pytest.approx(1.959964 * 0.25)
    assert low.high - low.value == pytest.approx(1.959964 * error)
    assert treat_all(0.5, thresholds) == pytest.approx([0.5 - 0.5 * 0.25, 0.5 - 0.5 * 4])
