"""Weight noise: add Gaussian noise to the weights in each training step.

Each forward pass in training uses, in place of a weight matrix or kernel w::

    w + sigma * N(0, 1)

The gradient is that at the noisy weights; the step moves the weights themselves. Evaluation uses
the weights without noise.

Use it if solutions of the optimiser do not generalise, above all with recurrent networks.

Kind: network

Paper: Graves, "Practical variational inference for neural networks", NIPS 2011; Murray & Edwards,
"Enhanced MLP performance and fault tolerance resulting from synaptic weight noise during training",
IEEE TNN 5 (1994).
"""

import torch
from torch import Tensor

from mimic_reg.methods._noise import InTraining
from mimic_reg.methods._weights import parametrize_weights
from mimic_reg.methods.base import Fit, Regulariser, require
from mimic_reg.models.base import Model


class WeightNoise(Regulariser):
    """Add noise to the weights.

    sigma: standard deviation of the noise
    """

    neutral = {"sigma": 0.0}

    def __init__(self, sigma: float = 0.01) -> None:
        require(sigma >= 0, "weight_noise", "sigma must be at least 0", sigma)
        self.sigma = sigma

    def prepare(self, model: Model, fit: Fit) -> Model:
        def noisy(w: Tensor) -> Tensor:
            return w + torch.empty_like(w).normal_(0, self.sigma, generator=fit.generator)

        if self.sigma > 0:
            parametrize_weights(model, lambda: InTraining(noisy))
        return model


build = WeightNoise
