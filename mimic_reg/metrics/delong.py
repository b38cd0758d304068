"""The variance of AUROCs by DeLong, and the paired test of two, without a bootstrap.

The placement of a positive sample is the share of negatives that it is ranked above; that of a
negative is the share of positives ranked above it; ties count half. The AUROC is the mean of either
kind. Its variance follows from theirs (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988).
Subjects may have several samples (Obuchowski, Biometrics 53, 1997); with one sample each, this is
DeLong's variance. Sorting gives all placements in O(N log N) (Sun and Xu, IEEE Signal Processing
Letters 21, 2014).

Shapes: N samples, S subjects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEAST = 2  # subjects with positives, and with negatives: fewer have no variance


@dataclass(frozen=True)
class Placements:
    """Sums of placements of each subject, which add up like AUROCs.

    positive, negative: (S,) sums over a subject's positives and over its negatives
    num_positive, num_negative: (S,) how many a subject has
    """

    positive: np.ndarray
    negative: np.ndarray
    num_positive: np.ndarray
    num_negative: np.ndarray

    @property
    def auroc(self) -> float:
        """Return the AUROC; of a difference, that of the AUROCs."""
        return float(self.positive.sum() / self.num_positive.sum())


@dataclass(frozen=True)
class Paired:
    """A difference of AUROCs on the same samples, with its standard error and two-sided test."""

    difference: float
    error: float
    z: float
    p: float


def placements(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> Placements | None:
    """Return the placements of predictions; None if a class is missing.

    y, p:    (N,) labels and predictions
    subject: (N,) numbers from 0 on
    """
    positive = y > 0
    if positive.all() or not positive.any():
        return None
    num_subjects = int(subject.max()) + 1
    high, low = p[positive], p[~positive]
    sums = [
        np.bincount(subject[which], _share_below(values, others), num_subjects)
        for which, values, others in ((positive, high, low), (~positive, -low, -high))
    ]
    sizes = [np.bincount(subject[which], minlength=num_subjects) for which in (positive, ~positive)]
    return Placements(sums[0], sums[1], sizes[0], sizes[1])


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return for each value the share of the others that are below it, ties as half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return below / (2 * len(ordered))


def weighted(found: Sequence[Placements], weights: Sequence[float]) -> Placements:
    """Return the placements of a weighted sum of AUROCs on the same samples.

    For example, weights 1 and -1 give a difference, and 1/2 and 1/2 a mean.
    """
    for other in found[1:]:
        assert np.array_equal(found[0].num_positive, other.num_positive), "the same samples"
        assert np.array_equal(found[0].num_negative, other.num_negative), "the same samples"
    pairs = list(zip(found, weights, strict=True))
    return replace(
        found[0],
        positive=np.sum([w * f.positive for f, w in pairs], axis=0),
        negative=np.sum([w * f.negative for f, w in pairs], axis=0),
    )


def variance(found: Placements) -> float | None:
    """Return the variance of an AUROC, or of a weighted sum; None for fewer than two subjects."""
    sizes = (found.num_positive, found.num_negative)
    with_positive, with_negative = (int((n > 0).sum()) for n in sizes)
    if min(with_positive, with_negative) < LEAST:
        return None
    auroc = found.auroc
    positives, negatives = int(found.num_positive.sum()), int(found.num_negative.sum())
    a = (found.positive - auroc * found.num_positive) / positives
    b = (found.negative - auroc * found.num_negative) / negatives
    num_subjects = int(((found.num_positive + found.num_negative) > 0).sum())
    parts = ((a @ a, with_positive), (b @ b, with_negative), (2 * a @ b, num_subjects))
    return max(0.0, float(sum(total * n / (n - 1) for total, n in parts)))


def interval(found: Placements, coverage: float = 0.95) -> tuple[float, float] | None:
    """Return the normal interval of an AUROC within [0, 1].

    None without a variance, or with one of 0: a perfect ranking says nothing about other subjects.
    """
    value = variance(found)
    if not value:
        return None
    half = float(stats.norm.ppf((1 + coverage) / 2)) * math.sqrt(value)
    return max(0.0, found.auroc - half), min(1.0, found.auroc + half)


def paired(difference: Placements) -> Paired | None:
    """Return the test of a difference of AUROCs; None without a variance.

    difference: made by `weighted`. Equal predictions have p = 1.
    """
    value = variance(difference)
    if value is None:
        return None
    change, error = difference.auroc, math.sqrt(value)
    if error <= 1e-12:
        same = abs(change) <= 1e-12
        return Paired(0.0, 0.0, 0.0, 1.0) if same else None
    z = change / error
    return Paired(change, error, z, float(2 * stats.norm.sf(abs(z))))
