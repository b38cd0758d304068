"""Gaussian noise on weights, in training: Graves, NIPS 2011; Murray & Edwards 1994.

Each forward pass reads w + sigma * N(0, 1) in place of every weight matrix and kernel. The gradient
is that at the noisy weights, the step moves the weights themselves. No noise at evaluation.
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from mimic_reg.methods._weights import parametrize_weights
from mimic_reg.methods.base import Fit, Options, Regulariser, require
from mimic_reg.models.base import Model


@final
class Noisy(nn.Module):
    """A weight as it is read."""

    def __init__(self, sigma: float, generator: torch.Generator) -> None:
        super().__init__()
        self.sigma, self.generator = sigma, generator

    def forward(self, weight: Tensor) -> Tensor:
        """Add the noise, in training."""
        if not self.training:
            return weight
        noise = torch.empty_like(weight).normal_(0, self.sigma, generator=self.generator)
        return weight + noise


@final
class WeightNoise(Regulariser):
    """Makes the weights noisy."""

    neutral: ClassVar[Options] = {"sigma": 0.0}

    def __init__(self, sigma: float) -> None:
        require(sigma >= 0, "weight_noise", "sigma must be at least 0", sigma)
        self.sigma = sigma

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Change how weights are read."""
        if self.sigma > 0:
            parametrize_weights(model, lambda: Noisy(self.sigma, fit.generator))
        return model


def build(sigma: float = 0.01) -> WeightNoise:
    """Return the method; `sigma` is the deviation of the noise."""
    return WeightNoise(sigma)
