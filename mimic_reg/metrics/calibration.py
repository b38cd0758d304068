"""Do predicted risks mean what they say? Calibration intercept and slope, and net benefit.

Intervals are normal, with variances over subjects: all samples of a subject count as one draw.

Shapes: N samples, S subjects, T thresholds.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import expit, logit

CLIP = 1e-7  # predictions of 0 and 1 have no finite log-odds
_MOST_STEPS = 100
_MOST = 30.0  # of slopes and intercepts; larger ones come from classes that are separated


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """The logistic recalibration of predictions: logit P(y = 1) = a + b logit p.

    intercept: a with b = 1: above 0, risks are too low on average; below 0, too high
    slope:     b: below 1, predictions are too extreme; above 1, not extreme enough
    reason:    why both are None
    """

    intercept: Estimate | None = None
    slope: Estimate | None = None
    reason: str = ""


def calibrate(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> Calibration:
    """Return intercept and slope of predictions.

    y, p:    (N,) labels in {0, 1} and probabilities
    subject: (N,) numbers from 0 on
    """
    if not 0 < (y > 0).sum() < len(y):
        return Calibration(reason="all samples have one class")
    if len(np.unique(subject)) < 2:
        return Calibration(reason="all samples are of one subject")
    x = logit(np.clip(p.astype(np.float64), CLIP, 1 - CLIP))
    ones = np.ones((len(x), 1))
    intercept = _logistic(ones, y, x, subject)
    if np.ptp(x) == 0:
        return Calibration(intercept[0] if intercept else None, None, "all predictions are equal")
    both = _logistic(np.column_stack([ones, x]), y, np.zeros(len(x)), subject)
    if intercept is None or both is None:
        return Calibration(reason="the predictions separate the classes")
    return Calibration(intercept[0], both[1])


def _logistic(
    x: np.ndarray, y: np.ndarray, offset: np.ndarray, subject: np.ndarray
) -> list[Estimate] | None:
    """Return the coefficients of a logistic regression by Newton's method; None if they diverge.

    Variances are those of the sandwich over subjects.

    x: (N, K) columns; offset: (N,) added to the log-odds
    """
    beta = np.zeros(x.shape[1])
    for _ in range(_MOST_STEPS):
        p = expit(x @ beta + offset)
        hessian = (x * (p * (1 - p))[:, None]).T @ x
        try:
            step = np.linalg.solve(hessian, x.T @ (y - p))
        except np.linalg.LinAlgError:
            return None
        beta = beta + step * min(1.0, 2 / max(1e-300, float(np.abs(step).max())))
        if not np.isfinite(beta).all() or np.abs(beta).max() > _MOST:
            return None
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None
    scores = x * (y - expit(x @ beta + offset))[:, None]
    sums = np.column_stack([np.bincount(subject, column) for column in scores.T])
    num_subjects = len(np.unique(subject))
    inverse = np.linalg.inv(hessian)
    variance = inverse @ (sums.T @ sums) @ inverse * num_subjects / (num_subjects - 1)
    return [_estimate(b, math.sqrt(v)) for b, v in zip(beta, np.diag(variance), strict=True)]


def net_benefit(
    y: np.ndarray, p: np.ndarray, subject: np.ndarray, thresholds: np.ndarray
) -> list[Estimate]:
    """Return the net benefit of treating predictions of at least each threshold.

    True positives minus false positives, each weighted with the odds of the threshold, over N
    (Vickers and Elkin, Medical Decision Making 26, 2006).

    thresholds: (T,) above 0, below 1
    """
    sizes = np.bincount(subject)
    return [
        _mean(np.where(p >= t, np.where(y > 0, 1.0, -t / (1 - t)), 0.0), subject, sizes)
        for t in thresholds
    ]


def treat_all(prevalence: float, thresholds: np.ndarray) -> np.ndarray:
    """Return (T,) the net benefit of treating everyone; that of treating no one is 0."""
    return prevalence - (1 - prevalence) * thresholds / (1 - thresholds)


def _mean(values: np.ndarray, subject: np.ndarray, sizes: np.ndarray) -> Estimate:
    """Return the mean of values (N,) with its interval over subjects."""
    mean, there = float(values.mean()), sizes > 0
    n = int(there.sum())
    rest = np.bincount(subject, values)[there] - mean * sizes[there]
    variance = float(rest @ rest) / len(values) ** 2 * n / max(1, n - 1)
    return _estimate(mean, math.sqrt(variance))


def _estimate(value: float, error: float) -> Estimate:
    half = float(stats.norm.ppf(0.975)) * error
    return Estimate(float(value), float(value - half), float(value + half))
