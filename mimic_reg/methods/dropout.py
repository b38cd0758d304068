"""Dropout at the model's sites.

Kind: dropout

Srivastava et al., JMLR 15 (2014): y = x * k / (1 - rate), each element of k Bernoulli(1 - rate) and
drawn anew in every step; the identity at evaluation. Ruling: one set of sites per model serves all
dropout-like methods; none lies between the steps of a recurrence (that is `variational_lstm`).
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Fit, Options, Regulariser, draw_keep, require
from mimic_reg.models.base import Model


@final
class DropUnits(nn.Module):
    """What stands at a site."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate, self.generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x, in training."""
        return x * draw_keep(x, self.rate, self.generator) if self.training else x


@final
class Dropout(Regulariser):
    """Fills the sites."""

    neutral: ClassVar[Options] = {"rate": 0.0}

    def __init__(self, rate: float) -> None:
        require(0 <= rate < 1, "dropout", "rate must be in [0, 1)", rate)
        self.rate = rate

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites."""
        model.fill_sites(lambda dim: DropUnits(self.rate, fit.generator))
        return model


def build(rate: float = 0.5) -> Dropout:
    """The method; `rate` is the probability of being dropped."""
    return Dropout(rate)
