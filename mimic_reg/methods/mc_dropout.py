"""Monte Carlo dropout: predict with many thinned networks, and say how unsure the prediction is.

Training is that of `dropout`. A finished fit predicts the mean probability over `passes` thinned
networks. Their standard deviation is reported beside it, as a measure of what the model does not
know.

Use it if you need the uncertainty of each prediction. A prediction costs `passes` passes.

Notes:
- The thinned networks are drawn once, from a fixed seed. Each has one mask for all samples (and for
  each hour, at a site within the hours). So the prediction for a sample is the same in any batch,
  at any time and on any device.
- Only sites drop; everything else, batch norm included, stays in evaluation mode.
- During a fit, epochs are validated and selected by one pass without dropping, because `passes`
  passes in each epoch would cost more than training.
- List it last: a method that wraps its prediction hides the deviation.

Kind: dropout

Paper: Gal & Ghahramani, "Dropout as a Bayesian approximation: representing model uncertainty in
deep learning", ICML 2016.

Shapes: M passes, B samples, C outputs.
"""

from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from mimic_reg.methods._ensembles import mean_probability, spread
from mimic_reg.methods.base import Event, Fit, Predict, Regulariser, draw_keep, require
from mimic_reg.models.base import Model
from mimic_reg.seeds import derive
from mimic_reg.store.spec import Target


def fixed_keep(shape: tuple[int, ...], rate: float, site: int, member: int) -> Tensor:
    """Return the mask of a thinned network at a site: of this shape, 0 or 1 / (1 - rate).

    A longer shape (T, N) begins with the rows of a shorter one.
    """
    rng = np.random.default_rng(derive("mc_dropout", site, member))
    kept = rng.random(shape, dtype=np.float32) >= rate
    return torch.from_numpy(kept.astype(np.float32) / (1 - rate))


class ThinnedUnits(nn.Module):
    """Drop units: random ones in training, those of the method's `member` in evaluation."""

    def __init__(self, site: int, method: "MCDropout", generator: torch.Generator) -> None:
        super().__init__()
        self.site, self.method, self.generator = site, method, generator

    def forward(self, x: Tensor) -> Tensor:
        rate, member = self.method.rate, self.method.member
        if self.training:
            return x * draw_keep(x, rate, self.generator)
        if member is None:
            return x
        return x * fixed_keep(tuple(x.shape[1:]), rate, self.site, member).to(x.device, x.dtype)


class MonteCarlo:
    """Predict with every thinned network."""

    def __init__(self, predict: Predict, method: "MCDropout", target: Target) -> None:
        self.predict, self.method, self.target = predict, method, target

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, C) of the mean probability."""
        return mean_probability(self.target, self._members(x, lengths))

    def with_spread(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, C) and the standard deviation (B, C) of the probabilities."""
        logits = self._members(x, lengths)
        return mean_probability(self.target, logits), spread(self.target, logits)

    def _members(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the logits (M, B, C)."""
        found = []
        try:
            for member in range(self.method.passes):
                self.method.member = member
                found.append(self.predict(x, lengths))
        finally:
            self.method.member = None
        return torch.stack(found)


class MCDropout(Regulariser):
    """Fill the sites, and change how a finished fit predicts.

    rate:   probability of dropping a unit
    passes: number of thinned networks of a prediction
    """

    neutral = {"rate": 0.0}
    by_stay = True

    def __init__(self, rate: float = 0.5, passes: int = 50) -> None:
        require(0 <= rate < 1, "mc_dropout", "rate must be in [0, 1)", rate)
        require(passes >= 2, "mc_dropout", "passes must be at least 2", passes)
        self.rate, self.passes = rate, passes
        self.validating = False
        self.member: int | None = None  # number of the thinned network that predicts now

    def prepare(self, model: Model, fit: Fit) -> Model:
        site = count()
        model.fill_sites(lambda dim: ThinnedUnits(next(site), self, fit.generator))
        self.target: Target = fit.target
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Tell validation within a fit from predictions after it."""
        self.validating = event == "before_validation"

    def predictor(self, predict: Predict, model: Model) -> Predict:
        if self.validating:
            return predict
        return MonteCarlo(predict, self, self.target)


build = MCDropout
