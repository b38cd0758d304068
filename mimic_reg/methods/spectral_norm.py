"""Spectral-norm penalty: Yoshida & Miyato 2017, arXiv 1705.10941.

L + weight / 2 * sum of squared spectral norms of weight matrices, so that no layer stretches any
direction much. A kernel counts as the matrix of its output channels. The norm is u' W v with the
singular vectors from power iteration: one iteration a step, from the vectors of the step before.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from mimic_reg.methods.base import Event, Fit, Options, Regulariser, Step, require
from mimic_reg.methods.norm_penalty import weights
from mimic_reg.models.base import Model

WARM_UP = 15  # iterations before the first step


def spectral_norm(weight: Tensor, u: Tensor) -> Tensor:
    """Return u' W v, differentiable, v the right vector that belongs to u; W: (N, ...), u: (N,)."""
    W = weight.flatten(1)
    v = normalize(W.detach().T @ u, dim=0)
    return u @ W @ v


@torch.no_grad()
def iterate(weight: Tensor, u: Tensor) -> Tensor:
    """Return a better left singular vector (N,)."""
    W = weight.flatten(1)
    return normalize(W @ normalize(W.T @ u, dim=0), dim=0)


@final
class SpectralNorm(Regulariser):
    """Adds the penalty and keeps the singular vectors."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float) -> None:
        require(weight >= 0, "spectral_norm", "weight must be at least 0", weight)
        self.weight = weight
        self.vectors: list[Tensor] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, whose weights are complete when the optimiser is made."""
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Draw the vectors and let them settle."""
        if self.weight > 0:
            self.matrices = weights(self.model)  # also those that are frozen later
            self.vectors = [
                normalize(W.new_empty(len(W)).normal_(generator=fit.generator), dim=0)
                for W in self.matrices
            ]
            for _ in range(WARM_UP):
                self._iterate()
        return optimizer

    def _iterate(self) -> None:
        pairs = zip(self.matrices, self.vectors, strict=True)
        self.vectors = [iterate(W, u) for W, u in pairs]

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        pairs = zip(self.matrices, self.vectors, strict=True)
        norms = torch.stack([spectral_norm(W, u) for W, u in pairs])
        return loss + self.weight / 2 * norms.square().sum()

    def tick(self, event: Event, fit: Fit) -> None:
        """Follow the weights; record the largest norm."""
        if self.weight == 0:
            return
        if event == "step":
            self._iterate()
        elif event == "epoch_end":
            pairs = zip(self.matrices, self.vectors, strict=True)
            with torch.no_grad():
                fit.record("largest", torch.stack([spectral_norm(W, u) for W, u in pairs]).max())

    def state_dict(self) -> dict[str, Any]:
        """Return the vectors, in the order of the weights."""
        return {"vectors": dict(zip(map(str, range(len(self.vectors))), self.vectors, strict=True))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        given = state["vectors"]
        self.vectors = [given[str(i)].to(u.device) for i, u in enumerate(self.vectors)]


def build(weight: float = 0.01) -> SpectralNorm:
    """Return the method; `weight` of the penalty."""
    return SpectralNorm(weight)
