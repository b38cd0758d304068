"""Spectral dropout: drop coefficients of the cosine transform of a site's activations.

Formula, with C the cosine transform and M = 0 for coefficients that are dropped, else 1::

    X = h C'
    h' = (X * M / (1 - eta)) C

Coefficients with |X| <= tau are weak and always set to zero. Each other one is dropped with
probability eta. Evaluation uses h' = h.

Use it as an alternative to dropout if activations of neighbouring units are related. Search eta.

Notes:
- eta is the share of strong coefficients that is dropped. The other reading, keeping only eta of
  them, would keep one in a hundred. We could not obtain the paper's full text.
- C is the orthonormal DCT-II, the only scaling for which tau means the same at all N. The transform
  is one-dimensional, because a site is a vector.
- `variant: weak_bernoulli` keeps strong coefficients and drops weak ones with probability eta.
  `tau_mode: rel_max` takes tau as a share of the largest |X| of a vector. `eval_threshold` keeps
  the threshold in evaluation.

No neutral setting: with eta = tau = 0 it is the identity, but the transform and its inverse round.

Kind: dropout

Paper: Khan, Hayat, Porikli, "Regularization of deep neural networks with spectral dropout", Neural
Networks 110 (2019), arXiv 1711.08591.

Shapes: N units of a site; h (..., N).
"""

import math
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model

Variant = Literal["strong_bernoulli", "weak_bernoulli"]
TauMode = Literal["abs", "rel_max"]


class CosineTransform(nn.Module):
    """The orthonormal DCT-II of vectors of N numbers, and its inverse, by a real FFT.

    With v = (h0, h2, ..., h3, h1), V its Fourier transform and W_k = V_k exp(-i pi k / 2N), scaled,
    X_k = Re W_k and X_(N-k) = -Im W_k (Makhoul 1980). At N = 1024 and 32 vectors this takes 10 % of
    the time of a product with the matrix (benchmarks/cosine.py).
    """

    order: Tensor
    inverse_order: Tensor
    twiddle: Tensor

    def __init__(self, n: int, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.n = n
        order = torch.cat([torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)])
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        scale = torch.full_like(k, math.sqrt(2 / n))
        scale[0] = math.sqrt(1 / n)
        twiddle = torch.view_as_real(torch.polar(scale, -math.pi * k / (2 * n)))
        # not saved, since they follow from n; pairs, since `Module.to` drops imaginary parts
        for name, value in (
            ("order", order),
            ("inverse_order", torch.argsort(order)),
            ("twiddle", twiddle.to(dtype or torch.get_default_dtype())),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        """Return the coefficients (..., N) of vectors (..., N)."""
        return _apply(h, self, False)

    def inverse(self, X: Tensor) -> Tensor:
        """Return the vectors (..., N) of coefficients (..., N)."""
        return _apply(X, self, True)

    def _transform(self, h: Tensor) -> Tensor:
        V = torch.fft.rfft(h.index_select(-1, self.order))
        W = V * torch.view_as_complex(self.twiddle)
        rest = W.imag[..., 1 : (self.n + 1) // 2].flip(-1).neg()
        return torch.cat([W.real, rest], dim=-1)

    def _inverse(self, X: Tensor) -> Tensor:
        num = self.n // 2 + 1
        imaginary = torch.zeros_like(X[..., :num])
        imaginary[..., 1:] = X[..., self.n - num + 1 :].flip(-1).neg()
        V = torch.complex(X[..., :num].contiguous(), imaginary)
        v: Tensor = torch.fft.irfft(V / torch.view_as_complex(self.twiddle), n=self.n)
        return v.index_select(-1, self.inverse_order)


class _Cosine(torch.autograd.Function):
    """The transform is orthonormal, so its gradient is its inverse, and the other way round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, transform: CosineTransform, inverted: bool) -> Tensor:
        ctx.transform, ctx.inverted = transform, inverted
        return transform._inverse(x) if inverted else transform._transform(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _apply(gradient, ctx.transform, not ctx.inverted), None, None


def _apply(x: Tensor, transform: CosineTransform, inverted: bool) -> Tensor:
    return cast(Tensor, _Cosine.apply(x, transform, inverted))  # type: ignore[no-untyped-call]


def strong_coefficients(X: Tensor, tau: float, tau_mode: TauMode) -> Tensor:
    """Return a mask that is True where a coefficient is above the threshold."""
    size = X.detach().abs()
    threshold = tau * size.amax(dim=-1, keepdim=True) if tau_mode == "rel_max" else tau
    return size > threshold


def spectral_mask(keep: Tensor, strong: Tensor, variant: Variant) -> Tensor:
    """Return the factors of the coefficients, from a mask `keep` of mean 1."""
    if variant == "strong_bernoulli":
        return torch.where(strong, keep, torch.zeros_like(keep))
    return torch.where(strong, torch.ones_like(keep), keep)


class SpectralUnits(nn.Module):
    """Drop coefficients of vectors (..., N)."""

    def __init__(self, dim: int, options: "SpectralDropout", generator: torch.Generator) -> None:
        super().__init__()
        self.options, self.generator = options, generator
        self.cosine = CosineTransform(dim)

    def forward(self, h: Tensor) -> Tensor:
        options = self.options
        if not (self.training or options.eval_threshold):
            return h
        X = self.cosine(h)
        strong = strong_coefficients(X, options.tau, options.tau_mode)
        if self.training:
            keep = draw_keep(X.detach(), options.eta, self.generator)
            X = X * spectral_mask(keep, strong, options.variant)
        else:
            X = X * strong
        return self.cosine.inverse(X)


class SpectralDropout(Regulariser):
    """Fill the sites.

    eta:            share of the strong coefficients that is dropped
    tau:            size up to which a coefficient is weak
    variant:        drop strong coefficients at random, or weak ones
    tau_mode:       tau is absolute, or a share of the largest coefficient
    eval_threshold: keep the threshold in evaluation
    """

    def __init__(
        self,
        eta: float = 0.1,
        tau: float = 0.1,
        variant: Variant = "strong_bernoulli",
        tau_mode: TauMode = "abs",
        eval_threshold: bool = False,
    ) -> None:
        name, variants = "spectral_dropout", ("strong_bernoulli", "weak_bernoulli")
        require(0 <= eta < 1, name, "eta must be in [0, 1)", eta)
        require(tau >= 0, name, "tau must be at least 0", tau)
        require(variant in variants, name, f"variant must be one of {variants}", variant)
        modes = ("abs", "rel_max")
        require(tau_mode in modes, name, f"tau_mode must be one of {modes}", tau_mode)
        self.eta, self.tau, self.variant, self.tau_mode = eta, tau, variant, tau_mode
        self.eval_threshold = eval_threshold

    def prepare(self, model: Model, fit: Fit) -> Model:
        model.fill_sites(lambda dim: SpectralUnits(dim, self, fit.generator))
        return model


build = SpectralDropout
