"""Penalties on the norm of the weights: L2 (Krogh & Hertz, NIPS 1991).

L + l2 * sum of squared weights, over weight matrices and kernels only: no biases, norms' scales or
learned strengths. Keras's convention, hence the gradient 2 * l2 * w, where torch's `weight_decay`
is l2 * w. A term of the loss, not the optimiser's decay, so that a method that selects
parameters goes by the gradient of the whole objective and moves nothing else.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require, trainable


def weights(model: torch.nn.Module) -> list[Tensor]:
    """Matrices and kernels: what has two axes or more."""
    return [parameter for parameter in trainable(model) if parameter.ndim >= 2]


def squared_norm(tensors: list[Tensor]) -> Tensor:
    """Sum of squares over all tensors."""
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()


@final
class NormPenalty(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"l2": 0.0}

    def __init__(self, l2: float) -> None:
        require(l2 >= 0, "norm_penalty", "l2 must be at least 0", l2)
        self.l2 = l2

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add l2 * sum of squared weights."""
        return loss + self.l2 * squared_norm(weights(step.model))


def build(l2: float) -> NormPenalty:
    """The method; Table II has `l2` per model."""
    return NormPenalty(l2)
