"""Mixup: train on mixtures of two samples and of their labels.

Formula, with m ~ Beta(alpha, alpha) drawn once a step and j a permutation of the batch::

    x = m * x_i + (1 - m) * x_j
    y = m * y_i + (1 - m) * y_j

Use it if labels are noisy or the training set is small, and inputs may be averaged (images do).

Notes:
- Stays are mixed from their first hour on. A mixture is as long as the longer sample; the hours
  that the shorter one lacks count as zeros, the padding.
- `batch.index` is that of the samples i.

Kind: data

Paper: Zhang et al., "mixup: beyond empirical risk minimization", ICLR 2018.

Shapes: B samples.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mimic_reg.methods._targets import soft
from mimic_reg.methods.base import Batch, Fit, Regulariser, require

LEAST = 0.05  # for a smaller alpha, gamma variables underflow and their ratio is undefined


def draw_share(alpha: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return m ~ Beta(alpha, alpha), as the ratio of two gamma variables; stays on the device."""
    shape = torch.full((2,), alpha, dtype=torch.float64, device=like.device)
    first, second = torch._standard_gamma(shape, generator=generator)
    share: Tensor = first / (first + second)
    return share.to(like.dtype)


def mixed(values: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """Return each of (B, ...) mixed with the one at its place in `order`."""
    return share * values + (1 - share) * values[order]


class Mixup(Regulariser):
    """Mix samples.

    alpha: of the Beta distribution: the larger, the more even the mixtures
    """

    neutral = {"alpha": 0.0}

    def __init__(self, alpha: float = 0.2) -> None:
        rule = f"alpha must be 0, or at least {LEAST}"
        require(alpha == 0 or alpha >= LEAST, "mixup", rule, alpha)
        self.alpha = alpha

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        if self.alpha == 0:
            return batch
        device = batch.x.device
        share = draw_share(self.alpha, batch.x, fit.generator)
        order = torch.randperm(len(batch.x), generator=fit.generator, device=device)
        there = order.to(batch.lengths.device)
        return replace(
            batch,
            x=mixed(batch.x, order, share),
            lengths=torch.maximum(batch.lengths, batch.lengths[there]),
            y=mixed(soft(batch, fit), order, share),
        )


build = Mixup
