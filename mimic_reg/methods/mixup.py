"""Mixup: a step sees mixtures of two samples and of their labels: Zhang et al., ICLR 2018.

x = m x_i + (1 - m) x_j and y = m y_i + (1 - m) y_j, with j from a permutation of the batch and
m ~ Beta(alpha, alpha), one m a step.

Rulings: hours are mixed from the first one on, and a mixture is as long as the longer sample; what
the shorter one lacks counts as zeros, the padding. The order of a batch's samples stays, so
`batch.index` is that of the i.

Shapes: B samples.
"""

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods._targets import soft
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require

LEAST = 0.05  # below it gamma variables are too small for numbers, and their ratio is undefined


def draw_share(alpha: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Return m ~ Beta(alpha, alpha), as the ratio of two gamma variables; stays on the device."""
    shape = torch.full((2,), alpha, dtype=torch.float64, device=like.device)
    first, second = torch._standard_gamma(shape, generator=generator)
    share: Tensor = first / (first + second)
    return share.to(like.dtype)


def mixed(values: Tensor, order: Tensor, share: Tensor) -> Tensor:
    """(B, ...) -> (B, ...): share of each sample, and the rest of the one that `order` names."""
    return share * values + (1 - share) * values[order]


@final
class Mixup(Regulariser):
    """Mixes samples."""

    neutral: ClassVar[Options] = {"alpha": 0.0}

    def __init__(self, alpha: float) -> None:
        rule = f"alpha must be 0, or at least {LEAST}"
        require(alpha == 0 or alpha >= LEAST, "mixup", rule, alpha)
        self.alpha = alpha

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Mix the batch with a permutation of itself."""
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


def build(alpha: float = 0.2) -> Mixup:
    """Return the method; `alpha` of the Beta distribution: the larger, the more even a mixture."""
    return Mixup(alpha)
