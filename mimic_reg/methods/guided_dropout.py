"""Guided dropout: units that have become strong are dropped, so that weak ones have to learn.

Kind: dropout

Keshari, Singh, Vatsa, AAAI 2019 (arXiv 1812.03965). Each unit of a site has a learned strength t,
and y = x * t. After a warm-up without dropping, units outside the fullest of 100 equal bins of |t|
are "active" and are dropped with probability `rate`; the others stay.

Rulings, for we know the paper's mask only from two public codes, which contradict each other and
are no oracles: one mask a unit, shared by batch and time; kept active units are divided by
1 - rate, so every unit keeps its mean; equal strengths mean that all units are active (plain
dropout is a special case); warm-up is 20 % of the longest fit, then the rate is constant. No mask
at evaluation, where y = x * t. Patience of early stopping counts from the end of the warm-up, else
many fits would end before anything was dropped.

`variant="topk"`: drop the floor(rate * N) strongest units, without rescaling.

No neutral setting: t is trained, so even without dropping the model has further parameters.

Shapes: N units of a site.
"""

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from mimic_reg.methods.base import Event, Fit, Regulariser, draw_keep, require
from mimic_reg.models.base import Model

Variant = Literal["bernoulli", "topk"]

NUM_BINS = 100
SMALLEST_SPREAD = 1e-12  # of strengths; below it they say nothing about the units


def active_units(t: Tensor) -> Tensor:
    """(N,) bool: units outside the fullest bin of |t|; all of them if all |t| are equal."""
    strength = t.detach().abs()
    spread = strength.max() - strength.min()
    position = (strength - strength.min()) / spread.clamp(min=SMALLEST_SPREAD)
    bins = (position * NUM_BINS).long().clamp_(max=NUM_BINS - 1)
    counts = (bins[:, None] == torch.arange(NUM_BINS, device=t.device)).sum(dim=0)
    return (bins != counts.argmax()) | (spread < SMALLEST_SPREAD)


def guided_mask(t: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """(N,): for active units 0 or 1 / (1 - rate), for the others 1."""
    keep = draw_keep(t.detach(), rate, generator)
    return torch.where(active_units(t), keep, torch.ones_like(keep))


def topk_mask(t: Tensor, rate: float) -> Tensor:
    """(N,): 0 for the floor(rate * N) strongest units, else 1."""
    strongest = t.detach().abs().topk(int(rate * len(t))).indices
    return torch.ones_like(t).index_fill_(0, strongest, 0)


@final
class GuidedUnits(nn.Module):
    """What stands at a site; drops once `dropping` is set."""

    def __init__(self, dim: int, rate: float, variant: Variant, generator: torch.Generator) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.ones(dim))
        self.rate, self.variant, self.generator = rate, variant, generator
        self.dropping = False

    def forward(self, x: Tensor) -> Tensor:
        """Scale by the strengths, and drop in training."""
        y = x * self.t
        if not (self.training and self.dropping):
            return y
        if self.variant == "topk":
            return y * topk_mask(self.t, self.rate)
        return y * guided_mask(self.t, self.rate, self.generator)


@final
class GuidedDropout(Regulariser):
    """Fills the sites and ends the warm-up."""

    def __init__(self, rate: float, warm_up: float, variant: Variant) -> None:
        name = "guided_dropout"
        require(0 <= rate < 1, name, "rate must be in [0, 1)", rate)
        require(0 <= warm_up <= 1, name, "warm_up must be a share of the epochs, 0 to 1", warm_up)
        require(variant in ("bernoulli", "topk"), name, "variant: 'bernoulli' or 'topk'", variant)
        self.rate, self.warm_up, self.variant = rate, warm_up, variant
        self.units: list[GuidedUnits] = []
        self.dropping = False

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites."""

        def make(dim: int) -> GuidedUnits:
            self.units.append(GuidedUnits(dim, self.rate, self.variant, fit.generator))
            return self.units[-1]

        model.fill_sites(make)
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """End the warm-up when its share of the epochs is over."""
        if event == "epoch_start" and fit.epoch >= self.warm_up * fit.max_epochs:
            self._drop(True)
        if event == "epoch_end" and not self.dropping:
            fit.started = False

    def _drop(self, dropping: bool) -> None:
        self.dropping = dropping
        for units in self.units:
            units.dropping = dropping

    def state_dict(self) -> dict[str, Any]:
        """The phase; the strengths are parameters of the model."""
        return {"dropping": self.dropping}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self._drop(bool(state["dropping"]))


def build(rate: float = 0.5, warm_up: float = 0.2, variant: Variant = "bernoulli") -> GuidedDropout:
    """The method; `warm_up` is the share of `max_epochs` before units are dropped."""
    return GuidedDropout(rate, warm_up, variant)
