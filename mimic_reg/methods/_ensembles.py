"""Combine several predictions of the same samples.

Shapes: M members, B samples, C outputs.
"""

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from mimic_reg.store.spec import Target


def mean_probability(target: Target, logits: Tensor) -> Tensor:
    """Return logits (B, C) of the members' mean probability, or a regression's mean.

    It is computed in logarithms, so that probabilities near 0 and 1 keep their digits.

    logits: (M, B, C)
    """
    if target == "regression":
        return logits.mean(dim=0)
    count = math.log(len(logits))
    if target == "multiclass":
        return logits.log_softmax(dim=2).logsumexp(dim=0) - count
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)


def spread(target: Target, logits: Tensor) -> Tensor:
    """Return the standard deviation (B, C) of the members' probabilities, or of their values."""
    if target == "regression":
        return logits.std(dim=0, correction=0)
    p = logits.softmax(dim=2) if target == "multiclass" else logits.sigmoid()
    return p.std(dim=0, correction=0)
