"""Gaussian dropout: multiply units by Gaussian noise in each training step.

Formula, at each site of the model::

    y = x * N(1, rate / (1 - rate))    for each element

The factor has the mean and variance of dropout with this rate. Evaluation uses y = x.

Use it as an alternative to dropout that sets no unit to zero.

Kind: dropout

Paper: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR
15 (2014), section 10.
"""

import math

import torch

from mimic_reg.methods._noise import InTraining
from mimic_reg.methods.base import Fit, Regulariser, require
from mimic_reg.models.base import Model


class GaussianDropout(Regulariser):
    """Multiply units by noise.

    rate: rate of the dropout with the same variance
    """

    neutral = {"rate": 0.0}

    def __init__(self, rate: float = 0.5) -> None:
        require(0 <= rate < 1, "gaussian_dropout", "rate must be in [0, 1)", rate)
        self.deviation = math.sqrt(rate / (1 - rate))

    def prepare(self, model: Model, fit: Fit) -> Model:
        def noise(x: torch.Tensor) -> torch.Tensor:
            return x * torch.empty_like(x).normal_(1, self.deviation, generator=fit.generator)

        model.fill_sites(lambda dim: InTraining(noise))
        return model


build = GaussianDropout
