"""Guided dropout: drop strong units, so that weak units have to learn.

Each unit of a site has a learned strength t, and y = x * t. After a warm-up without dropping, the
"active" units are dropped with probability `rate`; the others stay. Active units are those outside
the fullest of 100 equal bins of |t|. Evaluation uses y = x * t.

Use it as an alternative to dropout if a few units do most of the work.

Notes:
- We know the paper's mask only from two public implementations, which contradict each other.
- One mask serves all samples and hours. Kept active units are divided by 1 - rate, so each unit
  keeps its mean. If all strengths are equal, all units are active, as in plain dropout.
- Warm-up takes `warm_up` of `max_epochs`; then the rate is constant. Patience of early stopping
  counts from the end of the warm-up, because many fits would otherwise end before it.
- `variant: topk` drops the floor(rate * N) strongest units, without rescaling.

No neutral setting: t is trained, so even without dropping the model has more parameters.

Kind: dropout

Paper: Keshari, Singh, Vatsa, "Guided dropout", AAAI 2019, arXiv 1812.03965.

Shapes: N units of a site.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Event, Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model

Variant = Literal["bernoulli", "topk"]

NUM_BINS = 100
SMALLEST_SPREAD = 1e-12  # of strengths; a smaller spread says nothing about the units


def active_units(t: Tensor) -> Tensor:
    """Return (N,) bool: units outside the fullest bin of |t|; all units if all |t| are equal."""
    strength = t.detach().abs()
    spread = strength.max() - strength.min()
    position = (strength - strength.min()) / spread.clamp(min=SMALLEST_SPREAD)
    bins = (position * NUM_BINS).long().clamp_(max=NUM_BINS - 1)
    counts = (bins[:, None] == torch.arange(NUM_BINS, device=t.device)).sum(dim=0)
    return (bins != counts.argmax()) | (spread < SMALLEST_SPREAD)


def guided_mask(t: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return (N,): 0 or 1 / (1 - rate) for active units, 1 for the others."""
    keep = draw_keep(t.detach(), rate, generator)
    return torch.where(active_units(t), keep, torch.ones_like(keep))


def topk_mask(t: Tensor, rate: float) -> Tensor:
    """Return (N,): 0 for the floor(rate * N) strongest units, else 1."""
    strongest = t.detach().abs().topk(int(rate * len(t))).indices
    return torch.ones_like(t).index_fill_(0, strongest, 0)


class GuidedUnits(nn.Module):
    """Scale units by their strengths; drop strong ones in training after the warm-up."""

    def __init__(self, dim: int, method: "GuidedDropout", generator: torch.Generator) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.ones(dim))
        self.method, self.generator = method, generator

    def forward(self, x: Tensor) -> Tensor:
        y, method = x * self.t, self.method
        if not (self.training and method.dropping):
            return y
        if method.variant == "topk":
            return y * topk_mask(self.t, method.rate)
        return y * guided_mask(self.t, method.rate, self.generator)


class GuidedDropout(Regulariser):
    """Fill the sites, and end the warm-up.

    rate:    probability of dropping an active unit
    warm_up: share of `max_epochs` before units are dropped
    variant: drop active units at random, or the strongest units
    """

    remembered = ("dropping",)  # the strengths are parameters of the model

    def __init__(
        self, rate: float = 0.5, warm_up: float = 0.2, variant: Variant = "bernoulli"
    ) -> None:
        name = "guided_dropout"
        require(0 <= rate < 1, name, "rate must be in [0, 1)", rate)
        require(0 <= warm_up <= 1, name, "warm_up must be a share of the epochs, 0 to 1", warm_up)
        known = variant in ("bernoulli", "topk")
        require(known, name, "variant must be 'bernoulli' or 'topk'", variant)
        self.rate, self.warm_up, self.variant = rate, warm_up, variant
        self.dropping = False

    def prepare(self, model: Model, fit: Fit) -> Model:
        model.fill_sites(lambda dim: GuidedUnits(dim, self, fit.generator))
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        if event == "epoch_start" and fit.epoch >= self.warm_up * fit.max_epochs:
            self.dropping = True
        if event == "epoch_end" and not self.dropping:
            fit.started = False


build = GuidedDropout
