"""Bootstrap over subjects: scores as functions of how often each subject is drawn.

A replicate draws subjects with replacement, so all samples of a subject have the same weight: the
number of times that it was drawn. Samples are sorted and summed only once for all replicates, so a
replicate of half a million samples takes milliseconds.

Shapes: N samples, S subjects, R replicates.
"""

from collections.abc import Callable

import numpy as np

from mimic_reg.seeds import derive

# (S,) draws of every subject → values of one or more scores; nan if they are undefined
Statistic = Callable[[np.ndarray], np.ndarray]


def draw_counts(num_subjects: int, num_replicates: int, fold: int = 0) -> np.ndarray:
    """Return (R, S) how often each replicate draws each subject; the same for every trial.

    fold: another one has other draws
    """
    rng = np.random.default_rng(derive("bootstrap", num_subjects, *([fold] if fold else [])))
    counts = np.empty((num_replicates, num_subjects), np.int32)
    for row in counts:
        row[:] = np.bincount(rng.integers(num_subjects, size=num_subjects), minlength=num_subjects)
    return counts


def replicate(statistic: Statistic, counts: np.ndarray) -> np.ndarray:
    """Return (R, ...) the statistic of every replicate."""
    return np.stack([statistic(row) for row in counts])


def percentile_interval(values: np.ndarray, coverage: float = 0.95) -> tuple[float, float] | None:
    """Return the central interval of the finite values; None if less than half are finite."""
    finite = values[np.isfinite(values)]
    if not len(finite) or 2 * len(finite) < len(values):
        return None
    low, high = np.quantile(finite, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)


def basic_interval(
    estimate: float, values: np.ndarray, coverage: float = 0.95
) -> tuple[float, float] | None:
    """Return the central interval reflected at the estimate, for an error that resampling inflates.

    A replicate of a mean of absolute gaps is about as far above the estimate as the estimate is
    above the truth, so the percentile interval is too high. This interval (Davison and Hinkley
    1997, 5.2) corrects for that. It is not below 0. The estimate is inflated too, and can be above
    the interval.
    """
    found = percentile_interval(values, coverage)
    if found is None:
        return None
    return max(2 * estimate - found[1], 0.0), max(2 * estimate - found[0], 0.0)


def ranking_statistic(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> Statistic:
    """Return the weighted area under the ROC curve and average precision of one label.

    For every positive, both need only the weight of the negatives ranked below it; ties count half
    for the area. This is one running sum over the negatives, which are sorted once.
    """
    positive = y > 0
    order = np.argsort(p[~positive], kind="stable")
    negative_p, negative_subject = p[~positive][order], subject[~positive][order]
    order = np.argsort(p[positive], kind="stable")[::-1]
    positive_p, positive_subject = p[positive][order], subject[positive][order]
    below = np.searchsorted(negative_p, positive_p, side="left")
    not_above = np.searchsorted(negative_p, positive_p, side="right")
    # of positives with equal p, the last one has the sum of their group
    end_of_tie = np.searchsorted(-positive_p, -positive_p, side="right") - 1

    def statistic(counts: np.ndarray) -> np.ndarray:
        negatives = np.concatenate([[0], np.cumsum(counts[negative_subject])])
        weight = counts[positive_subject]
        num_positives, num_negatives = weight.sum(), negatives[-1]
        if not num_positives:
            return np.array([np.nan, np.nan])
        true_positives = np.cumsum(weight)[end_of_tie]
        called = true_positives + (num_negatives - negatives[below])
        precision = np.divide(true_positives, called, out=np.zeros(len(called)), where=called > 0)
        average_precision = weight @ precision / num_positives
        if not num_negatives:
            return np.array([np.nan, average_precision])
        wins = weight @ (negatives[below] + negatives[not_above])
        return np.array([0.5 * wins / (num_positives * num_negatives), average_precision])

    return statistic


def mean_statistic(values: np.ndarray, subject: np.ndarray) -> Statistic:
    """Return the weighted mean of one value for each sample."""
    sums, sizes = np.bincount(subject, values), np.bincount(subject)

    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.asarray(counts @ sums / (counts @ sizes))

    return statistic


def calibration_statistic(
    hit: np.ndarray, confidence: np.ndarray, subject: np.ndarray, num_bins: int
) -> Statistic:
    """Return the weighted expected calibration error: mean |hits - confidence| over bins.

    hit, confidence: (N, C); the error of each column, averaged over columns
    """
    num_columns = hit.shape[1]
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    cell = (subject[:, None] * num_columns + np.arange(num_columns)) * num_bins + bins
    num_subjects = int(subject.max()) + 1
    size = num_subjects * num_columns * num_bins
    gap = np.bincount(cell.ravel(), (hit - confidence).ravel(), minlength=size)
    gap = gap.reshape(num_subjects, num_columns * num_bins)
    sizes = np.bincount(subject)

    def statistic(counts: np.ndarray) -> np.ndarray:
        error = np.abs(counts @ gap).sum() / num_columns
        return np.asarray(error / (counts @ sizes))

    return statistic
