"""Spectral-norm penalty: keep each layer from stretching any direction much.

Formula, with sigma(W) the largest singular value of a weight matrix::

    L + weight / 2 * sum_l sigma(W_l)²

A kernel counts as the matrix of its output channels. sigma is u' W v, with the singular vectors u
and v from power iteration: one iteration a step, from the vectors of the step before.

Use it if small changes of an input should not change the prediction. It is cheaper than `jacobian`
and `data_gradient`.

Kind: penalty

Paper: Yoshida & Miyato, "Spectral norm regularization for improving the generalizability of deep
learning", 2017, arXiv 1705.10941.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from mimic_reg.methods._penalty import Penalty, weights
from mimic_reg.methods.base import Event, Fit, Step

WARM_UP = 15  # iterations before the first step


def spectral_norm(weight: Tensor, u: Tensor) -> Tensor:
    """Return u' W v, differentiable, with the right vector v of u; W: (N, ...), u: (N,)."""
    W = weight.flatten(1)
    v = normalize(W.detach().T @ u, dim=0)
    return u @ W @ v


@torch.no_grad()
def iterate(weight: Tensor, u: Tensor) -> Tensor:
    """Return a better left singular vector (N,)."""
    W = weight.flatten(1)
    return normalize(W @ normalize(W.T @ u, dim=0), dim=0)


class SpectralNorm(Penalty):
    """Penalise the spectral norms.

    weight: weight of the penalty
    """

    remembered = ("vectors",)

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)
        self.vectors: dict[str, Tensor] = {}  # by the number of the weight

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Draw the vectors and iterate, now that all methods have changed the model."""
        if self.weight > 0:
            self.matrices = weights(self.model)  # also those that are frozen later
            self.vectors = {
                str(i): normalize(W.new_empty(len(W)).normal_(generator=fit.generator), dim=0)
                for i, W in enumerate(self.matrices)
            }
            for _ in range(WARM_UP):
                self._iterate()
        return optimizer

    def _iterate(self) -> None:
        pairs = zip(self.matrices, self.vectors.items(), strict=True)
        self.vectors = {number: iterate(W, u) for W, (number, u) in pairs}

    def _norms(self) -> Tensor:
        pairs = zip(self.matrices, self.vectors.values(), strict=True)
        return torch.stack([spectral_norm(W, u) for W, u in pairs])

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        return self._norms().square().sum() / 2

    def tick(self, event: Event, fit: Fit) -> None:
        """Update the vectors; record the largest norm."""
        if self.weight and event == "step":
            self._iterate()
        elif self.weight and event == "epoch_end":
            with torch.no_grad():
                fit.record("largest", self._norms().max())


build = SpectralNorm
