"""Early stopping: end the fit when the validation score has not improved for a while.

Prechelt, "Early stopping, but when?" (1998). The first best score wins ties; that the best model is
tested is the engine's part. Ruling: while another method's effect has not begun (a method selects
nothing in its first steps), epochs do not count. List it last: the others say so before it looks.
An epoch that cannot be selected is no best score, and does not count either.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

from mimic_reg.errors import InputError
from mimic_reg.regularisers.base import Event, Fit, Options, Regulariser, require


@final
class EarlyStopping(Regulariser):
    """Watches `Fit.score` and calls `Fit.stop`."""

    neutral: ClassVar[Options] = {"patience": 1_000_000}

    def __init__(self, patience: int, min_delta: float) -> None:
        require(patience >= 1, "early_stopping", "patience must be at least 1", patience)
        require(min_delta >= 0, "early_stopping", "min_delta must be at least 0", min_delta)
        self.patience, self.min_delta = patience, min_delta
        self.best = -math.inf
        self.waited = 0

    def tick(self, event: Event, fit: Fit) -> None:
        """Compare the epoch's score with the best one.

        Raises:
            InputError: there is no score.
        """
        if event != "epoch_end":
            return
        if fit.score is None:
            raise InputError("early_stopping: there is no validation score to judge by.")
        counts, fit.started = fit.started, True
        if not fit.eligible:
            self.waited = 0
        elif fit.score > self.best + self.min_delta:  # a NaN is no improvement
            self.best, self.waited = fit.score, 0
        else:
            self.waited = self.waited + 1 if counts else 0
        if self.waited >= self.patience:
            fit.stop(f"no better validation score for {self.patience} epochs")

    def state_dict(self) -> dict[str, Any]:
        """The best score and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.best, self.waited = state["best"], state["waited"]


def build(patience: int = 10, min_delta: float = 0.0) -> EarlyStopping:
    """The method; `patience` in epochs."""
    return EarlyStopping(patience, min_delta)
