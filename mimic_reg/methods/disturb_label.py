"""DisturbLabel: some labels are wrong in every step: Xie et al., CVPR 2016.

With probability alpha the label of a sample is replaced by one drawn from all C classes, the true
one among them; so it is true with 1 - (C - 1) alpha / C, and each other class has alpha / C.

Ruling: outputs that are yes or no are two classes each, so each is turned with alpha / 2.
"""

from dataclasses import replace
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.methods._targets import refuse_regression, soft
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require
from mimic_reg.models.base import Model


def disturbed_classes(y: Tensor, num_classes: int, alpha: float, rng: torch.Generator) -> Tensor:
    """(B,) -> (B,): classes, some of them replaced."""
    replaced = torch.rand(y.shape, device=y.device, generator=rng) < alpha
    drawn = torch.randint(num_classes, y.shape, device=y.device, generator=rng)
    return torch.where(replaced, drawn, y)


def disturbed_answers(y: Tensor, alpha: float, rng: torch.Generator) -> Tensor:
    """(B, C) -> (B, C): answers 0 or 1, or between, some of them turned."""
    turned = torch.rand(y.shape, device=y.device, generator=rng) < alpha / 2
    return torch.where(turned, 1 - y, y)


@final
class DisturbLabel(Regulariser):
    """Disturbs labels."""

    neutral: ClassVar[Options] = {"alpha": 0.0}

    def __init__(self, alpha: float) -> None:
        require(0 <= alpha < 1, "disturb_label", "alpha must be in [0, 1)", alpha)
        self.alpha = alpha

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Refuse a regression."""
        refuse_regression("disturb_label", fit)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Disturb labels."""
        if self.alpha == 0:
            return batch
        return replace(batch, y=self._disturbed(batch, fit))

    def _disturbed(self, batch: Batch, fit: Fit) -> Tensor:
        if fit.target != "multiclass":
            return disturbed_answers(batch.y, self.alpha, fit.generator)
        if batch.y.dim() == 1:
            return disturbed_classes(batch.y, fit.num_outputs, self.alpha, fit.generator)
        y = soft(batch, fit)  # another method made it soft: whole rows are replaced
        kept = torch.full((len(y),), -1, device=y.device)
        drawn = disturbed_classes(kept, fit.num_outputs, self.alpha, fit.generator)
        other = F.one_hot(drawn.clamp(min=0), fit.num_outputs).to(y.dtype)
        return torch.where(drawn[:, None] < 0, y, other)


def build(alpha: float = 0.1) -> DisturbLabel:
    """Return the method; `alpha` is the probability that a label is drawn anew."""
    return DisturbLabel(alpha)
