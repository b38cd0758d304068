"""Monte Carlo dropout: Gal & Ghahramani, ICML 2016.

Trained as `dropout`. A finished fit predicts with dropout on: the prediction is the mean
probability over `passes` thinned networks, and their deviation is reported beside it, as a measure
of what the model does not know.

Rulings:
- The thinned networks are drawn once, from a fixed seed: each has one pattern for all samples (and
  for each hour, where a site lies within the hours). So the prediction for a sample is the same in
  any batch, at any time and on any device; over the networks it has the distribution of patterns
  drawn anew.
- Only sites drop; batch norm and all else stay in evaluation mode.
- While a fit is under way, epochs are validated, and the best one is selected, by one pass without
  dropping, for `passes` passes an epoch would cost more than training.
- List it last: what wraps its prediction hides the deviation.

Shapes: M passes, B samples, C outputs.

Kind: dropout
"""

from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor, nn

from mimic_reg.methods._ensembles import mean_probability, spread
from mimic_reg.methods.base import (
    Event,
    Fit,
    Options,
    Predict,
    Regulariser,
    draw_keep,
    require,
)
from mimic_reg.models.base import Model
from mimic_reg.seeds import derive
from mimic_reg.store.spec import Target


def fixed_keep(shape: tuple[int, ...], rate: float, site: int, member: int) -> Tensor:
    """Return the pattern of a thinned network at a site: of this shape, 0 or 1 / (1 - rate).

    A longer shape (T, N) begins with the rows of a shorter one.
    """
    rng = np.random.default_rng(derive("mc_dropout", site, member))
    kept = rng.random(shape, dtype=np.float32) >= rate
    return torch.from_numpy(kept.astype(np.float32) / (1 - rate))


@final
class ThinnedUnits(nn.Module):
    """The module to place at each site.

    member: the number of the thinned network that predicts; None: no unit is dropped
    """

    def __init__(self, site: int, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.site, self.rate, self.generator = site, rate, generator
        self.member: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop elements of x, in training; in evaluation those of the member."""
        if self.training:
            return x * draw_keep(x, self.rate, self.generator)
        if self.member is None:
            return x
        keep = fixed_keep(tuple(x.shape[1:]), self.rate, self.site, self.member)
        return x * keep.to(x.device, x.dtype)


@final
class MonteCarlo:
    """Predicts with every thinned network."""

    def __init__(
        self, predict: Predict, units: list[ThinnedUnits], passes: int, target: Target
    ) -> None:
        self.predict, self.units, self.passes, self.target = predict, units, passes, target

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) of the mean probability."""
        return mean_probability(self.target, self._members(x, lengths))

    def with_spread(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and the deviation (B, C) of the probabilities."""
        logits = self._members(x, lengths)
        return mean_probability(self.target, logits), spread(self.target, logits)

    def _members(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (M, B, C)."""
        found = []
        try:
            for member in range(self.passes):
                self._be(member)
                found.append(self.predict(x, lengths))
        finally:
            self._be(None)
        return torch.stack(found)

    def _be(self, member: int | None) -> None:
        for units in self.units:
            units.member = member


@final
class MCDropout(Regulariser):
    """Fills the sites and changes how a finished fit predicts."""

    neutral: ClassVar[Options] = {"rate": 0.0}

    def __init__(self, rate: float, passes: int) -> None:
        require(0 <= rate < 1, "mc_dropout", "rate must be in [0, 1)", rate)
        require(passes >= 2, "mc_dropout", "passes must be at least 2", passes)
        self.rate, self.passes = rate, passes
        self.units: list[ThinnedUnits] = []
        self.validating = False

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites."""

        def make(dim: int) -> ThinnedUnits:
            self.units.append(ThinnedUnits(len(self.units), self.rate, fit.generator))
            return self.units[-1]

        model.fill_sites(make)
        self.target: Target = fit.target
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Tell validation within a fit from what comes after it."""
        self.validating = event == "before_validation"

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Predict with every thinned network, once the fit is over."""
        if self.validating:
            return predict
        return MonteCarlo(predict, self.units, self.passes, self.target)


def build(rate: float = 0.5, passes: int = 50) -> MCDropout:
    """Return the method; `rate` as in `dropout`; `passes` of a prediction."""
    return MCDropout(rate, passes)
