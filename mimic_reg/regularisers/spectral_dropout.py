"""Spectral dropout: drop coefficients of the cosine transform of a site's activations.

Khan, Hayat, Porikli, Neural Networks 110 (2019), arXiv 1711.08591: X = h C', coefficients with
|X| <= tau are weak and set to zero, the others are dropped with probability eta, and the rest is
transformed back: h' = (X * M / (1 - eta)) C. The identity at evaluation.

Rulings: eta is the share of *strong* coefficients that is dropped (keeping only eta of them, the
other reading of "percentage of activations above tau", would keep one in a hundred); the paper's
body was not retrievable. C is the orthonormal DCT-II, the only scaling for which tau means the same
at all N. A site is a vector, so the transform is one-dimensional. `variant="weak_bernoulli"` keeps
strong coefficients and drops weak ones with probability eta; `tau_mode="rel_max"` takes tau as a
share of the largest |X| of a vector; `eval_threshold` keeps the threshold at evaluation.

No neutral setting: with eta = tau = 0 it is the identity, but the transform and its inverse round.

Shapes: N units of a site; h (..., N).
"""

import math
from typing import Literal, final

import torch
from torch import Tensor, nn

from mimic_reg.models.base import Model
from mimic_reg.regularisers.base import Fit, Regulariser, draw_keep, require

Variant = Literal["strong_bernoulli", "weak_bernoulli"]
TauMode = Literal["abs", "rel_max"]


def cosine_matrix(n: int) -> Tensor:
    """The orthonormal DCT-II (N, N) in float64: row k is the k-th frequency."""
    frequency = torch.arange(n, dtype=torch.float64)[:, None]
    position = torch.arange(n, dtype=torch.float64) + 0.5
    matrix = math.sqrt(2 / n) * torch.cos(math.pi / n * frequency * position)
    matrix[0] /= math.sqrt(2)
    return matrix


def strong_coefficients(X: Tensor, tau: float, tau_mode: TauMode) -> Tensor:
    """True where a coefficient is above the threshold."""
    size = X.detach().abs()
    threshold = tau * size.amax(dim=-1, keepdim=True) if tau_mode == "rel_max" else tau
    return size > threshold


def spectral_mask(keep: Tensor, strong: Tensor, variant: Variant) -> Tensor:
    """What multiplies the coefficients, from a pattern `keep` of mean 1."""
    if variant == "strong_bernoulli":
        return torch.where(strong, keep, torch.zeros_like(keep))
    return torch.where(strong, torch.ones_like(keep), keep)


@final
class SpectralUnits(nn.Module):
    """What stands at a site."""

    matrix: Tensor

    def __init__(
        self,
        dim: int,
        eta: float,
        tau: float,
        variant: Variant,
        tau_mode: TauMode,
        eval_threshold: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.eta, self.tau, self.variant, self.tau_mode = eta, tau, variant, tau_mode
        self.eval_threshold, self.generator = eval_threshold, generator
        matrix = cosine_matrix(dim).to(torch.get_default_dtype())
        self.register_buffer("matrix", matrix, persistent=False)  # it follows from dim

    def forward(self, h: Tensor) -> Tensor:
        """(..., N) -> (..., N)."""
        if not (self.training or self.eval_threshold):
            return h
        X = h @ self.matrix.T
        strong = strong_coefficients(X, self.tau, self.tau_mode)
        if self.training:
            keep = draw_keep(X.detach(), self.eta, self.generator)
            X = X * spectral_mask(keep, strong, self.variant)
        else:
            X = X * strong
        return X @ self.matrix


@final
class SpectralDropout(Regulariser):
    """Fills the sites."""

    def __init__(
        self, eta: float, tau: float, variant: Variant, tau_mode: TauMode, eval_threshold: bool
    ) -> None:
        name, variants = "spectral_dropout", ("strong_bernoulli", "weak_bernoulli")
        require(0 <= eta < 1, name, "eta must be in [0, 1)", eta)
        require(tau >= 0, name, "tau must be at least 0", tau)
        require(variant in variants, name, f"variant must be one of {variants}", variant)
        require(tau_mode in ("abs", "rel_max"), name, "tau_mode: 'abs' or 'rel_max'", tau_mode)
        self.eta, self.tau, self.variant, self.tau_mode = eta, tau, variant, tau_mode
        self.eval_threshold = eval_threshold

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites."""
        model.fill_sites(
            lambda dim: SpectralUnits(
                dim,
                self.eta,
                self.tau,
                self.variant,
                self.tau_mode,
                self.eval_threshold,
                fit.generator,
            )
        )
        return model


def build(
    eta: float = 0.1,
    tau: float = 0.1,
    variant: Variant = "strong_bernoulli",
    tau_mode: TauMode = "abs",
    eval_threshold: bool = False,
) -> SpectralDropout:
    """The method; `eta` is the share of strong coefficients that is dropped, `tau` what is weak."""
    return SpectralDropout(eta, tau, variant, tau_mode, eval_threshold)
