"""Predictions of an ensemble from those of its members.

Shapes: M members, N samples, C outputs.
"""

import numpy as np
from scipy.special import expit, logit, softmax

from mimic_reg.store.spec import Target

# Probabilities are stored with 24 bits: those closer to 0 or 1 became 0 or 1, which have no logit.
_SURE = 2.0**-24


def mean_of_logits(target: Target, p: np.ndarray) -> np.ndarray:
    """Return (N, C) the probability of the members' mean logit, from p (M, N, C).

    For a regression it is the mean.
    """
    if target == "regression":
        return p.mean(axis=0)
    sure = np.clip(p.astype(np.float64), _SURE, 1 - _SURE)
    if target == "multiclass":  # logits are logarithms of probabilities up to a constant
        return softmax(np.log(sure).mean(axis=0), axis=1)
    return expit(logit(sure).mean(axis=0))


def mean_of_probabilities(p: np.ndarray) -> np.ndarray:
    """Return (N, C) the mean of the members' probabilities or values, from p (M, N, C)."""
    return p.astype(np.float64).mean(axis=0)


def disagreement(p: np.ndarray) -> float:
    """Return the standard deviation over members, a mean over samples and outputs."""
    return float(p.astype(np.float64).std(axis=0, ddof=1).mean())
