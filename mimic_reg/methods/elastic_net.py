"""L1 and elastic-net penalty: penalise the absolute and the squared weights.

Formula::

    L + l1 * sum |w| + l2 * sum w²

Only weight matrices and kernels count, as in `norm_penalty`, which it equals with l1 = 0. The
gradient is l1 * sign(w) + 2 * l2 * w.

Use it if many weights should be near zero. With Adam none becomes exactly zero, because Adam
divides each gradient by its size. The history counts the weights below 1e-8 (`near_zero`).

Kind: penalty

Paper: Tibshirani, "Regression shrinkage and selection via the lasso", JRSS B 58 (1996); Zou &
Hastie, "Regularization and variable selection via the elastic net", JRSS B 67 (2005).
"""

import torch
from torch import Tensor

from mimic_reg.methods._penalty import squared_norm, weights
from mimic_reg.methods.base import Event, Fit, Regulariser, Step, require

NEAR_ZERO = 1e-8


def absolute_norm(tensors: list[Tensor]) -> Tensor:
    """Return the sum of absolute values over all tensors."""
    return torch.stack([tensor.abs().sum() for tensor in tensors]).sum()


class ElasticNet(Regulariser):
    """Add both penalties; count weights near zero.

    l1: weight of the absolute values
    l2: weight of the squares; 0 leaves the L1 penalty
    """

    neutral = {"l1": 0.0, "l2": 0.0}

    def __init__(self, l1: float = 1e-5, l2: float = 0.0) -> None:
        require(l1 >= 0, "elastic_net", "l1 must be at least 0", l1)
        require(l2 >= 0, "elastic_net", "l2 must be at least 0", l2)
        self.l1, self.l2 = l1, l2

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        found = weights(step.model)
        if self.l1 > 0:
            loss = loss + self.l1 * absolute_norm(found)
        if self.l2 > 0:
            loss = loss + self.l2 * squared_norm(found)
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        if event == "epoch_end" and self.l1 > 0:
            counts = [(w.detach().abs() < NEAR_ZERO).sum() for w in weights(self.model)]
            fit.record("near_zero", torch.stack(counts).sum())


build = ElasticNet
