"""What several predictions of the same samples say together.

Shapes: M members, B samples, C outputs.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mimic_reg.store.spec import Target


def mean_probability(target: Target, logits: Tensor) -> Tensor:
    """(M, B, C) -> (B, C): the logits of the members' mean probability.

    In logarithms, so that probabilities near 0 and 1 keep their digits. A regression's mean.
    """
    if target == "regression":
        return logits.mean(dim=0)
    count = math.log(len(logits))
    if target == "multiclass":
        return logits.log_softmax(dim=2).logsumexp(dim=0) - count
    return logsigmoid(logits).logsumexp(dim=0) - logsigmoid(-logits).logsumexp(dim=0)


def spread(target: Target, logits: Tensor) -> Tensor:
    """(M, B, C) -> (B, C): the deviation of the members' probabilities, or of their values."""
    if target == "regression":
        return logits.std(dim=0, correction=0)
    p = logits.softmax(dim=2) if target == "multiclass" else torch.sigmoid(logits)
    return p.std(dim=0, correction=0)
