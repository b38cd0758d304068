"""Targets as distributions, for methods that change labels.

Shapes: B samples, C outputs.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.methods.base import Batch, Fit


def soft(batch: Batch, fit: Fit) -> Tensor:
    """Return the targets (B, C) as numbers: classes become rows of 0 and 1."""
    if batch.y.dim() == 1 and fit.target == "multiclass":
        return F.one_hot(batch.y, fit.num_outputs).to(torch.get_default_dtype())
    return batch.y


def num_classes(fit: Fit) -> int:
    """Return the number of classes that exclude each other: C, or 2 if outputs are yes or no."""
    return fit.num_outputs if fit.target == "multiclass" else 2
