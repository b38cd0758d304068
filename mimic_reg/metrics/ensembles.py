"""Predictions of an ensemble, from those of its members.

Shapes: M members, N samples, C outputs.
"""

import numpy as np
from scipy.special import expit, logit, softmax

from mimic_reg.store.spec import Target

# Probabilities are stored with 24 bits: those nearer to 0 or 1 became 0 or 1, without a logit.
_SURE = 2.0**-24


def mean_of_logits(target: Target, p: np.ndarray) -> np.ndarray:
    """(M, N, C) -> (N, C): the probability that belongs to the members' mean logit.

    A regression's mean.
    """
    if target == "regression":
        mean: np.ndarray = p.mean(axis=0)
        return mean
    sure = np.clip(p.astype(np.float64), _SURE, 1 - _SURE)
    if target == "multiclass":  # logits are logarithms of probabilities, up to a constant a sample
        shares: np.ndarray = softmax(np.log(sure).mean(axis=0), axis=1)
        return shares
    answers: np.ndarray = expit(logit(sure).mean(axis=0))
    return answers


def mean_of_probabilities(p: np.ndarray) -> np.ndarray:
    """(M, N, C) -> (N, C): the mean of the members' probabilities, or of their values."""
    mean: np.ndarray = p.astype(np.float64).mean(axis=0)
    return mean


def disagreement(p: np.ndarray) -> float:
    """(M, N, C) -> the members' deviation from each other, a mean over samples and outputs."""
    return float(p.astype(np.float64).std(axis=0, ddof=1).mean())
