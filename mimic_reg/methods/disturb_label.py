"""DisturbLabel: replace some labels by random ones, anew in each step.

With probability alpha a sample's label is drawn from all C classes. So it is true with probability
1 - (C - 1) * alpha / C, and each other class has alpha / C.

Use it if a network memorises labels; it needs no change of the network or the loss.

Notes:
- An output that is yes or no has two classes, so it is flipped with probability alpha / 2.

Kind: data

Paper: Xie et al., "DisturbLabel: regularizing CNN on the loss layer", CVPR 2016.

Shapes: B samples, C outputs.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.methods._targets import soft
from mimic_reg.methods.base import Batch, Fit, Regulariser, require

CLASSES_ONLY = True


def disturbed_classes(y: Tensor, num_classes: int, alpha: float, rng: torch.Generator) -> Tensor:
    """Return classes (B,), some of them replaced."""
    replaced = torch.rand(y.shape, device=y.device, generator=rng) < alpha
    drawn = torch.randint(num_classes, y.shape, device=y.device, generator=rng)
    return torch.where(replaced, drawn, y)


def disturbed_answers(y: Tensor, alpha: float, rng: torch.Generator) -> Tensor:
    """Return answers (B, C) of 0 or 1, or between, some of them flipped."""
    turned = torch.rand(y.shape, device=y.device, generator=rng) < alpha / 2
    return torch.where(turned, 1 - y, y)


class DisturbLabel(Regulariser):
    """Disturb labels.

    alpha: probability that a label is drawn anew
    """

    neutral = {"alpha": 0.0}
    by_stay = True

    def __init__(self, alpha: float = 0.1) -> None:
        require(0 <= alpha < 1, "disturb_label", "alpha must be in [0, 1)", alpha)
        self.alpha = alpha

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        return replace(batch, y=self._disturbed(batch, fit)) if self.alpha else batch

    def _disturbed(self, batch: Batch, fit: Fit) -> Tensor:
        if fit.target != "multiclass":
            return disturbed_answers(batch.y, self.alpha, fit.generator)
        if batch.y.dim() == 1:
            return disturbed_classes(batch.y, fit.num_outputs, self.alpha, fit.generator)
        y = soft(batch, fit)  # another method made it soft: replace whole rows
        kept = torch.full((len(y),), -1, device=y.device)
        drawn = disturbed_classes(kept, fit.num_outputs, self.alpha, fit.generator)
        other = F.one_hot(drawn.clamp(min=0), fit.num_outputs).to(y.dtype)
        return torch.where(drawn[:, None] < 0, y, other)


build = DisturbLabel
