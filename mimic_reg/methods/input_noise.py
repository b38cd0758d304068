"""Input noise: add Gaussian noise to the inputs in each training step.

Formula::

    x + sigma * N(0, 1)

For a linear regression the expected loss is L + sigma² ||w||², that is, an L2 penalty.

Use it if measurements are noisy or the training set is small.

Notes:
- For stays, only channels that are measurements change, and only hours within a sample's length.
  Channels of 0 and 1 (categories, what was observed) and padding stay as they are.
- sigma is in units of the normalised input.

Kind: data

Paper: Bishop, "Training with noise is equivalent to Tikhonov regularization", Neural Computation 7
(1995).
"""

from dataclasses import replace

import torch

from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods.base import Batch, Fit, Regulariser, require
from mimic_reg.models.base import Model


class InputNoise(Regulariser):
    """Add noise to the inputs.

    sigma: standard deviation of the noise
    """

    neutral = {"sigma": 0.0}
    by_stay = True

    def __init__(self, sigma: float = 0.1) -> None:
        require(sigma >= 0, "input_noise", "sigma must be at least 0", sigma)
        self.sigma = sigma

    def prepare(self, model: Model, fit: Fit) -> Model:
        self.channels = continuous_channels(fit.train)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        if self.sigma == 0:
            return batch
        noise = torch.empty_like(batch.x).normal_(0, self.sigma, generator=fit.generator)
        return replace(batch, x=batch.x + noise * changeable(batch, self.channels))


build = InputNoise
