"""Gaussian dropout at the model's sites: Srivastava et al., JMLR 15 (2014), section 10.

y = x * N(1, rate / (1 - rate)), drawn for each element in every step; the identity at evaluation.
Mean and variance of the factor are those of dropout with this rate.

Kind: dropout
"""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Fit, Options, Regulariser, require
from mimic_reg.models.base import Model


@final
class NoisyUnits(nn.Module):
    """The module to place at each site."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.deviation, self.generator = math.sqrt(rate / (1 - rate)), generator

    def forward(self, x: Tensor) -> Tensor:
        """Multiply elements of x by noise, in training."""
        if not self.training:
            return x
        return x * torch.empty_like(x).normal_(1, self.deviation, generator=self.generator)


@final
class GaussianDropout(Regulariser):
    """Fills the sites."""

    neutral: ClassVar[Options] = {"rate": 0.0}

    def __init__(self, rate: float) -> None:
        require(0 <= rate < 1, "gaussian_dropout", "rate must be in [0, 1)", rate)
        self.rate = rate

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites."""
        model.fill_sites(lambda dim: NoisyUnits(self.rate, fit.generator))
        return model


def build(rate: float = 0.5) -> GaussianDropout:
    """Return the method; `rate` is that of the dropout with the same variance."""
    return GaussianDropout(rate)
