"""DropConnect: single weights are dropped, in training: Wan et al., ICML 2013.

Each forward pass reads w * k / (1 - rate) in place of every weight matrix and kernel, each element
of k Bernoulli(1 - rate). The weights themselves at evaluation.

Rulings: one pattern for all samples of a batch, where Wan et al. draw one a sample: that would need
a matrix product for each sample. Their inference from a Gaussian fitted to each unit's input is
replaced by its mean, which the plain weights give. All layers, the recurrence too, are dropped.

Kind: dropout
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mimic_reg.methods._weights import parametrize_weights
from mimic_reg.methods.base import Fit, Options, Regulariser, draw_keep, require
from mimic_reg.models.base import Model


@final
class DropWeights(nn.Module):
    """A weight as it is read."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, weight: Tensor) -> Tensor:
        """Drop elements, in training."""
        if not self.training:
            return weight
        return weight * draw_keep(weight.detach(), self.rate, self.generator)


@final
class DropConnect(Regulariser):
    """Makes the weights incomplete."""

    neutral: ClassVar[Options] = {"rate": 0.0}

    def __init__(self, rate: float) -> None:
        require(0 <= rate < 1, "drop_connect", "rate must be in [0, 1)", rate)
        self.rate = rate

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Change how weights are read."""
        if self.rate > 0:
            parametrize_weights(model, lambda: DropWeights(self.rate, fit.generator))
        return model


def build(rate: float = 0.2) -> DropConnect:
    """Return the method; `rate` is the probability that a weight is dropped."""
    return DropConnect(rate)
