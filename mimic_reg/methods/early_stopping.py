"""Early stopping: end the fit when the validation score has not improved for a while.

Kind: stopping

Prechelt, "Early stopping, but when?" (1998). The first best score wins ties; that the best model is
tested is the engine's part.

Rulings:
- Patience counts from the first epoch whose training loss is below that of the best constant
  prediction, the prevalence, by the share `min_explained`. Both losses are means over the epoch's
  batches, so they share their noise, and penalties are left out. Until then the model has learned
  no more than how common the labels are, and its validation score is about that of the initial
  weights: it can be high by chance, and it says nothing about when training is over. The rule is
  the same for every method. A fit that never gets there ends with its last epoch, `max_epochs`.
- For the same reason the first epoch that has learned is selected before all that have not,
  whatever their scores. Where none has, the best of all is, and evaluation marks it.
- While another method's effect has not begun (a method selects nothing in its first steps), epochs
  do not count either. List it last: the others say so before it looks.
- An epoch that cannot be selected is no best score, and does not count.

`min_explained: null` is the rule without the first two.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, final

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Event, Fit, Options, Regulariser, require
from mimic_reg.metrics.trained import MIN_EXPLAINED


@final
class EarlyStopping(Regulariser):
    """Watches `Fit.score` and calls `Fit.stop`."""

    neutral: ClassVar[Options] = {"patience": 1_000_000, "min_explained": None}

    def __init__(self, patience: int, min_delta: float, min_explained: float | None) -> None:
        require(patience >= 1, "early_stopping", "patience must be at least 1", patience)
        require(min_delta >= 0, "early_stopping", "min_delta must be at least 0", min_delta)
        possible = min_explained is None or 0 <= min_explained < 1
        rule = "min_explained must be at least 0 and below 1, or null"
        require(possible, "early_stopping", rule, min_explained)
        self.patience, self.min_delta = patience, min_delta
        self.min_explained = min_explained
        self.best = -math.inf
        self.waited = 0
        self.learned = False

    def tick(self, event: Event, fit: Fit) -> None:
        """Judge whether the model has learned; compare the epoch's score with the best one.

        Raises:
            InputError: there is no score.
        """
        if event == "before_validation":
            fit.learned = self._has_learned(fit.explained)
        elif event == "epoch_end":
            self._compare(fit)

    def _has_learned(self, explained: float | None) -> bool:
        if self.min_explained is None or explained is None:
            return True
        return explained >= self.min_explained

    def _compare(self, fit: Fit) -> None:
        if fit.score is None:
            raise InputError("early_stopping: there is no validation score to judge by.")
        self.learned = self.learned or fit.learned
        counts, fit.started = fit.started and self.learned, True
        if not fit.eligible:
            self.waited = 0
        elif fit.learned and fit.score > self.best + self.min_delta:  # a NaN is no improvement
            self.best, self.waited = fit.score, 0
        else:
            self.waited = self.waited + 1 if counts else 0
        fit.may_end_in = self.patience - self.waited
        if self.waited >= self.patience:
            fit.stop(f"no better validation score for {self.patience} epochs")

    def state_dict(self) -> dict[str, Any]:
        """The best score, the epochs since, and whether the model has ever learned."""
        return {"best": self.best, "waited": self.waited, "learned": self.learned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.best, self.waited, self.learned = state["best"], state["waited"], state["learned"]


def build(
    patience: int = 10, min_delta: float = 0.0, min_explained: float | None = MIN_EXPLAINED
) -> EarlyStopping:
    """The method.

    patience:      epochs without a better validation score
    min_delta:     what a better score exceeds the best one by
    min_explained: share of the constant prediction's training loss that an epoch must have taken
                   away to count; null: every epoch counts
    """
    return EarlyStopping(patience, min_delta, min_explained)
