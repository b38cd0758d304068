"""DeLong's variance equals published numbers and an O(N^2) computation from its definition."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mimic_reg.metrics.delong import interval, paired, placements, variance, weighted


def hanley():
    """Ratings of 109 CT images (Hanley and McNeil, Radiology 143, 1982): many ties."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    ratings = np.arange(1.0, 6)
    y = np.repeat([0, 1], [sum(normal), sum(abnormal)])
    return y, np.r_[np.repeat(ratings, normal), np.repeat(ratings, abnormal)]


def by_definition(y, predictions, weights, subject):
    """All pairs of a positive and a negative, then Obuchowski's sums over subjects."""
    pos, neg = np.flatnonzero(y), np.flatnonzero(y == 0)
    psi = np.zeros((len(pos), len(neg)))
    for p, weight in zip(predictions, weights, strict=True):
        psi += weight * ((p[pos, None] > p[neg]) + 0.5 * (p[pos, None] == p[neg]))
    theta, v10, v01 = psi.mean(), psi.mean(1), psi.mean(0)
    s10 = s01 = s11 = 0.0
    for s in np.unique(subject):
        a = sum(v - theta for v, i in zip(v10, pos, strict=True) if subject[i] == s)
        b = sum(v - theta for v, i in zip(v01, neg, strict=True) if subject[i] == s)
        s10, s01, s11 = s10 + a * a, s01 + b * b, s11 + a * b
    i10, i01, i = (len(np.unique(subject[rows])) for rows in (pos, neg, slice(None)))
    m, n = len(pos), len(neg)
    s10, s01, s11 = s10 * i10 / (i10 - 1) / m, s01 * i01 / (i01 - 1) / n, s11 * i / (i - 1)
    return theta, s10 / m + s01 / n + 2 * s11 / (m * n)


def test_it_equals_the_published_example():
    """Stata's manual, roctab: area 0.8932, standard error 0.0307, 0.83295 to 0.95339."""
    y, p = hanley()
    found = placements(y, p, np.arange(len(y)))
    assert found.auroc == pytest.approx(0.8932, abs=5e-5)
    assert variance(found) ** 0.5 == pytest.approx(0.0307, abs=5e-5)
    assert interval(found) == pytest.approx((0.83295, 0.95339), abs=5e-6)


@pytest.mark.parametrize("num_subjects", [60, 15])
def test_it_equals_all_pairs_also_with_several_samples_a_subject(num_subjects):
    rng = np.random.default_rng(num_subjects)
    y = rng.permutation(np.repeat([0, 1], [40, 20]))
    subject = np.arange(60) if num_subjects == 60 else rng.integers(num_subjects, size=60)
    predictions = [np.round(y * s + rng.normal(size=60), 1) for s in (0.4, 1.0, 1.2)]
    each = [placements(y, p, subject) for p in predictions]
    assert [f.auroc for f in each] == pytest.approx([roc_auc_score(y, p) for p in predictions])
    for weights in ((1, 0, 0), (1, -1, 0), (-1, 0.5, 0.5)):
        found = weighted(each, weights)
        theta, expected = by_definition(y, predictions, weights, subject)
        assert (found.auroc, variance(found)) == pytest.approx((theta, expected))


def test_the_paired_test_by_hand_and_its_limits():
    y, subject = np.array([0, 0, 1, 1]), np.arange(4)
    a, b = (placements(y, np.array(p), subject) for p in ([1, 3, 2, 4], [1, 2, 3, 4]))
    # a: the positives are above 1/2 and 1 of the negatives, variance (1/8 + 1/8) / 2; b is perfect
    assert variance(a) == pytest.approx(0.125)
    found = paired(weighted([a, b], [1, -1]))
    assert (found.difference, found.error) == pytest.approx((-0.25, 0.125**0.5))
    assert (found.z, found.p) == pytest.approx((-0.70711, 0.47950), abs=1e-5)
    assert interval(b) is None  # nothing varies
    assert paired(weighted([a, a], [1, -1])).p == 1.0
    assert placements(np.zeros(4), np.arange(4.0), subject) is None
    assert variance(placements(np.array([0, 0, 0, 1]), np.arange(4.0), subject)) is None
