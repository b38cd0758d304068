"""Gaussian noise on inputs, in training: Bishop, Neural Computation 7 (1995).

x + sigma * N(0, 1), drawn anew in every step. For a linear regression the expected loss is
L + sigma² ||w||², hence an L2 penalty.

Ruling: of stays only channels that are measurements, and only hours within their length. Channels
of 0 and 1 (categories, what was observed) and padding stay as they are. sigma is in units of the
normalised input.
"""

from dataclasses import replace
from typing import ClassVar, final

import torch

from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require
from mimic_reg.models.base import Model


@final
class InputNoise(Regulariser):
    """Adds the noise."""

    neutral: ClassVar[Options] = {"sigma": 0.0}

    def __init__(self, sigma: float) -> None:
        require(sigma >= 0, "input_noise", "sigma must be at least 0", sigma)
        self.sigma = sigma

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the channels that are measurements."""
        self.channels = continuous_channels(fit.train)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Add the noise."""
        if self.sigma == 0:
            return batch
        noise = torch.empty_like(batch.x).normal_(0, self.sigma, generator=fit.generator)
        return replace(batch, x=batch.x + noise * changeable(batch, self.channels))


def build(sigma: float = 0.1) -> InputNoise:
    """Return the method; `sigma` is the deviation of the noise."""
    return InputNoise(sigma)
