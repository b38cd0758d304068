"""The learning rate of each step: constant, a cosine, or lower on plateaus; after a warm-up.

Steps and epochs are those of the fit, so a resumed fit continues the schedule. With the default
settings nothing here touches the optimiser: a method may have a schedule of its own.
"""

import math
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from mimic_reg.methods._optimizers import cosine_rate
from mimic_reg.methods.base import Fit
from mimic_reg.settings import Training


class Schedule:
    """Set the learning rate of an optimiser.

    factor: of the plateau schedule, in addition to the warm-up
    best, waited: the best validation score, and the epochs since then
    """

    def __init__(self, optimizer: Optimizer, training: Training) -> None:
        self.optimizer, self.training = optimizer, training
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.active = training.schedule != "constant" or training.warmup_epochs > 0
        self.factor, self.best, self.waited = 1.0, -math.inf, 0

    def begin_step(self, fit: Fit) -> None:
        """Set the learning rate of the next step."""
        if self.active:
            for group, first in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = self.rate(first, fit.step, fit.epoch_steps)

    def rate(self, first: float, step: int, epoch_steps: int) -> float:
        """Return the learning rate of a step, counted from 0.

        first: the learning rate in the settings
        """
        warm = self.training.warmup_epochs * epoch_steps
        if step < warm:
            return first * (step + 1) / warm
        if self.training.schedule == "cosine":
            length = self.training.max_epochs * epoch_steps - warm
            # a task of several that are drawn may take more steps than expected
            return cosine_rate(first, min(step - warm, length - 1), length)
        return first * self.factor

    def end_epoch(self, fit: Fit) -> None:
        """Lower the learning rate after `plateau_patience` epochs without a better score.

        As for early stopping, epochs do not count before the model has learned.
        """
        if not self.active:
            return
        fit.record("learning_rate", self.optimizer.param_groups[0]["lr"])
        if self.training.schedule != "plateau" or fit.score is None or not fit.learned:
            return
        if fit.score > self.best:
            self.best, self.waited = fit.score, 0
            return
        self.waited += 1
        if self.waited == self.training.plateau_patience:
            self.factor, self.waited = self.factor * self.training.plateau_factor, 0

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs, as a part of the fit's state; nothing without a plateau."""
        if self.training.schedule != "plateau":
            return {}
        state = {"factor": self.factor, "best": self.best, "waited": self.waited}
        return {"schedule": state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a fit's state."""
        for name, value in state.get("schedule", {}).items():
            setattr(self, name, value)
