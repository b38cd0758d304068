"""L1 and elastic-net penalties on the weights: Tibshirani 1996 (lasso); Zou & Hastie 2005.

L + l1 * sum |w| + l2 * sum w², over weight matrices and kernels only, as in `norm_penalty`, which
it equals with l1 = 0. The gradient is l1 * sign(w) + 2 * l2 * w.

Adam divides each gradient by its size, so weights come near zero but are never exactly zero. The
history has their number below 1e-8 (`near_zero`): a model counts as sparse by that number only.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Event, Fit, Options, Regulariser, Step, require
from mimic_reg.methods.norm_penalty import squared_norm, weights
from mimic_reg.models.base import Model

NEAR_ZERO = 1e-8


def absolute_norm(tensors: list[Tensor]) -> Tensor:
    """Return the sum of absolute values over all tensors."""
    return torch.stack([tensor.abs().sum() for tensor in tensors]).sum()


@final
class ElasticNet(Regulariser):
    """Adds the penalty and counts weights near zero."""

    neutral: ClassVar[Options] = {"l1": 0.0, "l2": 0.0}

    def __init__(self, l1: float, l2: float) -> None:
        require(l1 >= 0, "elastic_net", "l1 must be at least 0", l1)
        require(l2 >= 0, "elastic_net", "l2 must be at least 0", l2)
        self.l1, self.l2 = l1, l2

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, whose weights are counted."""
        self.model = model
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        found = weights(step.model)
        if self.l1 > 0:
            loss = loss + self.l1 * absolute_norm(found)
        if self.l2 > 0:
            loss = loss + self.l2 * squared_norm(found)
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Record the number of weights near zero."""
        if event == "epoch_end" and self.l1 > 0:
            counts = [(w.detach().abs() < NEAR_ZERO).sum() for w in weights(self.model)]
            fit.record("near_zero", torch.stack(counts).sum())


def build(l1: float = 1e-5, l2: float = 0.0) -> ElasticNet:
    """Return the method; `l2` = 0 is the L1 penalty."""
    return ElasticNet(l1, l2)
