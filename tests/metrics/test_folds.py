"""Comparisons over folds, whose training patients are mostly the same."""

import math

import pytest

from mimic_reg.metrics.comparison import paired, winner
from mimic_reg.metrics.folds import Fold, by_fold, num_folds, repeat

OURS, THEIRS = (0.81, 0.83, 0.79, 0.85, 0.80), (0.80, 0.81, 0.79, 0.82, 0.80)


def scores(values, seeds=1, folds=5):
    """The same mean for each fold whatever the number of seeds."""
    apart = [0.0] if seeds == 1 else [0.01, -0.01]
    return {Fold(n, folds, s): v + apart[s] for n, v in enumerate(values, 1) for s in range(seeds)}


def test_the_variance_is_nadeau_and_bengios():
    # differences 0.01, 0.02, 0, 0.03, 0: mean 0.012, variance 1.7e-4
    # (1 / 5 + 1 / 3) * 1.7e-4 = 9.0667e-5, whose root is 0.0095219; t(0.975, 4) = 2.776445
    found = paired(scores(OURS), scores(THEIRS))
    assert found.n == 5
    assert found.difference == pytest.approx(0.012)
    assert found.t == pytest.approx(0.012 / 0.0095219, rel=1e-4)
    assert found.interval == pytest.approx((0.012 - 0.0264370, 0.012 + 0.0264370), abs=1e-6)
    assert found.p == pytest.approx(0.27609, abs=1e-5)


def test_seeds_of_a_fold_count_once():
    one, two = (paired(scores(OURS, s), scores(THEIRS, s)) for s in (1, 2))
    assert (two.n, two.t) == (5, pytest.approx(one.t))
    ours = scores(OURS, 2)
    assert by_fold(ours)[Fold(1, 5, 0)] == pytest.approx(0.81)
    del ours[Fold(1, 5, 1)]  # a pair needs both: the other seed of the fold is left
    assert paired(ours, scores(THEIRS, 2)).n == 5


def test_one_fold_is_compared_by_seed_and_two_are_too_few():
    seeds = {Fold(2, 5, s): v for s, v in enumerate(OURS)}
    others = {Fold(2, 5, s): v for s, v in enumerate(THEIRS)}
    plain = paired(dict(enumerate(OURS)), dict(enumerate(THEIRS)))
    assert num_folds(seeds) is None
    assert paired(seeds, others) == plain
    two = paired(scores(OURS[:2]), scores(THEIRS[:2]))
    assert (two.p, two.reason) == (None, "fewer than 3 folds with a pair")


def test_plain_seeds_are_as_before():
    assert repeat(3, None, None) == repeat(3, 1, None) == 3
    assert repeat(3, 2, 5) == Fold(2, 5, 3)
    better = {n: v + 0.05 + n * 1e-4 for n, v in enumerate(THEIRS)}
    assert winner({"a": better, "b": dict(enumerate(THEIRS))}) == "a"
    assert math.isnan(paired({}, {}).difference)


def test_folds_of_repeated_divisions_share_patients_too():
    ours, theirs = (dict(scores((*values, *values))) for values in (OURS, THEIRS))
    found = paired(ours, theirs)  # Fold(6, 5, 0) is the first of the second division
    assert found.n == 10
    variance = 2 * 6.8e-4 / 9  # of ten differences, each of the five twice
    assert found.t == pytest.approx(0.012 / math.sqrt((1 / 10 + 1 / 3) * variance))
