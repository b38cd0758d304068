"""What penalties share: a weight, which turns them off at 0, and the norms of weights."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require, trainable


class Penalty(Regulariser):
    """L + weight * penalty; with weight 0 nothing is computed."""

    neutral: ClassVar[Options | None] = {"weight": 0.0}

    def __init__(self, weight: float) -> None:
        name = type(self).__module__.rpartition(".")[2]
        require(weight >= 0, name, "weight must be at least 0", weight)
        self.weight = weight
        if weight == 0:  # the plain kernels, hence the baseline's bits
            self.needs = frozenset()

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the weighted penalty."""
        return loss + self.weight * self.penalty(step, fit) if self.weight else loss

    @abstractmethod
    def penalty(self, step: Step, fit: Fit) -> Tensor:
        """Return the penalty, differentiable."""


def weights(model: torch.nn.Module) -> list[Tensor]:
    """Return the trained matrices and kernels: the parameters with two axes or more."""
    return [parameter for parameter in trainable(model) if parameter.ndim >= 2]


def squared_norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the sum of squares over all tensors."""
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()
