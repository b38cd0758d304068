"""Curriculum dropout: the rate of dropout grows from 0 to its final value over the fit.

Morerio et al., ICCV 2017, arXiv 1703.06229: the probability of being kept after t of T steps is
theta(t) = (1 - theta) exp(-speed t / T) + theta, with theta = 1 - rate. Early steps see the whole
network, later ones ever more noise. `anti` is the paper's anti-curriculum,
theta(t) = 1 - (1 - theta) exp(-speed t / T): from the final rate down to 0.

Rulings: t counts optimiser steps, and T is the longest fit (`max_epochs`), so the paper's gamma is
speed / T; with speed = 10, its choice, the rate is 63 % of the final one after a tenth of the fit.
A fit that stops early has a lower rate than the final one at its end. The sites are dropout's.

Kind: dropout
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

from mimic_reg.methods.base import Event, Fit, Options, Regulariser, require
from mimic_reg.methods.dropout import DropUnits
from mimic_reg.models.base import Model


def rate_at(progress: float, rate: float, speed: float, anti: bool) -> float:
    """Return the rate at a share of the fit: 0 to `rate`, or back for the anti-curriculum."""
    decay = math.exp(-speed * progress)
    return rate * decay if anti else rate * (1 - decay)


@final
class CurriculumDropout(Regulariser):
    """Fills the sites and moves their rate after each step."""

    neutral: ClassVar[Options] = {"rate": 0.0}

    def __init__(self, rate: float, speed: float, anti: bool) -> None:
        require(0 <= rate < 1, "curriculum_dropout", "rate must be in [0, 1)", rate)
        require(speed > 0, "curriculum_dropout", "speed must be above 0", speed)
        self.rate, self.speed, self.anti = rate, speed, anti
        self.units: list[DropUnits] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fill the sites, at the first rate."""

        def make(dim: int) -> DropUnits:
            self.units.append(DropUnits(0.0, fit.generator))
            return self.units[-1]

        model.fill_sites(make)
        self._set(rate_at(0, self.rate, self.speed, self.anti))
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Set the rate of the next step; record it at the end of an epoch."""
        if event == "step":
            progress = fit.step / (fit.epoch_steps * fit.max_epochs)
            self._set(rate_at(progress, self.rate, self.speed, self.anti))
        elif event == "epoch_end":
            fit.record("dropout_rate", self.now)

    def _set(self, rate: float) -> None:
        self.now = rate
        for units in self.units:
            units.rate = rate

    def state_dict(self) -> dict[str, Any]:
        """The rate of the next step."""
        return {"rate": self.now}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self._set(float(state["rate"]))


def build(rate: float = 0.5, speed: float = 10.0, anti: bool = False) -> CurriculumDropout:
    """The method.

    rate:  the final probability of being dropped
    speed: how fast it is approached, in units of 1 / length of the fit
    anti:  begin with it, and go down to 0
    """
    return CurriculumDropout(rate, speed, anti)
