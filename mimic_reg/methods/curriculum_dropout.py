"""Curriculum dropout: raise the dropout rate from 0 to its final value during the fit.

At step t of T::

    rate(t) = rate * (1 - exp(-speed * t / T))

Early steps train the whole network, later steps see more and more noise. `anti` is the paper's
anti-curriculum, rate(t) = rate * exp(-speed * t / T), from the final rate down to 0.

Use it if dropout slows down the first epochs of a fit.

Notes:
- T is the number of steps of the longest fit (`max_epochs`), so the paper's gamma is speed / T.
  With speed = 10, its choice, the rate is 63 % of the final one after a tenth of the fit.
- A fit that stops early ends with a lower rate than the final one.
- The sites are those of `dropout`.

Kind: dropout

Paper: Morerio et al., "Curriculum dropout", ICCV 2017, arXiv 1703.06229.
"""

import math

from mimic_reg.methods.base import Event, Fit, require
from mimic_reg.methods.dropout import Dropout


def rate_at(progress: float, rate: float, speed: float, anti: bool) -> float:
    """Return the rate after a share of the fit: from 0 to `rate`, or back with `anti`."""
    decay = math.exp(-speed * progress)
    return rate * decay if anti else rate * (1 - decay)


class CurriculumDropout(Dropout):
    """Drop units at a rate that changes after each step.

    rate:  final probability of dropping a unit
    speed: how fast the rate approaches it, in units of 1 / length of the fit
    anti:  start at `rate` and go down to 0
    """

    remembered = ("rate",)

    def __init__(self, rate: float = 0.5, speed: float = 10.0, anti: bool = False) -> None:
        require(0 <= rate < 1, "curriculum_dropout", "rate must be in [0, 1)", rate)
        require(speed > 0, "curriculum_dropout", "speed must be above 0", speed)
        self.final, self.speed, self.anti = rate, speed, anti
        self.rate = rate_at(0, rate, speed, anti)  # of the next step

    def tick(self, event: Event, fit: Fit) -> None:
        """Set the rate of the next step; record it at the end of an epoch."""
        if event == "step":
            progress = fit.step / (fit.epoch_steps * fit.max_epochs)
            self.rate = rate_at(progress, self.final, self.speed, self.anti)
        elif event == "epoch_end":
            fit.record("dropout_rate", self.rate)


build = CurriculumDropout
