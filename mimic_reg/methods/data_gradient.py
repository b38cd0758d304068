"""Data-gradient penalty: the loss should not change when the input changes a little.

L + weight * mean over samples of the squared norm of d loss_i / d x_i. Drucker & LeCun, IEEE TNN 3
(1992); Ororbia et al., Neural Computation 29 (2017); Varga et al., arXiv 1712.09936.

Rulings: the squared norm; the gradient of each sample's own loss. That of the mean loss would be
smaller by the batch size, and the penalty by its square. Padded hours have no gradient. Layers that
mix samples (batch norm) mix the gradients.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require


def data_gradient_penalty(per_sample: Tensor, x: Tensor) -> Tensor:
    """Mean over samples of the squared norm of the loss's gradient, differentiable.

    per_sample: (B,) losses of x: (B, ...)
    """
    (gradient,) = torch.autograd.grad(per_sample.sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean()


@final
class DataGradient(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float) -> None:
        require(weight >= 0, "data_gradient", "weight must be at least 0", weight)
        self.weight = weight
        if weight > 0:  # else the plain kernels, hence the baseline's bits
            self.needs = frozenset[Need]({"input_grad", "double_backward"})

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        return loss + self.weight * data_gradient_penalty(step.per_sample, step.batch.x)


def build(weight: float) -> DataGradient:
    """The method; Table II has `weight` per model."""
    return DataGradient(weight)
