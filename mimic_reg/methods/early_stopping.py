"""Early stopping: end the fit when the validation score has not improved for `patience` epochs.

The first best score wins ties. The engine tests the best model, not the last one.

Use it with every method: the files of the tasks add it. An experiment without it says
`stopping: false`.

Notes:
- Patience counts from the first epoch that has learned: its training loss is below that of the best
  constant prediction, the prevalence, by the share `min_explained`. Both losses are means over the
  same batches, without penalties. Before that, the model knows no more than how common the labels
  are, so its validation score says nothing about when to stop, and can be high by chance. A fit
  that never learns ends after `max_epochs`.
- For the same reason an epoch that has learned is selected before all that have not, whatever their
  scores. If none has, the best of all is selected, and evaluation marks it.
- Epochs do not count while another method's effect has not begun, for example while a method
  selects no parameter. List early stopping last: the others report that before it decides.
- An epoch that cannot be selected is not a best score and does not count.
- `min_explained: null` turns the first two rules off.

Kind: stopping

Paper: Prechelt, "Early stopping, but when?", 1998.
"""

import math

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Event, Fit, Regulariser, require
from mimic_reg.metrics.trained import MIN_EXPLAINED


class EarlyStopping(Regulariser):
    """Watch `Fit.score` and call `Fit.stop`.

    patience:      epochs without a better validation score that end the fit
    min_delta:     a better score exceeds the best one by more than this
    min_explained: share of the constant prediction's training loss that an epoch must have removed
                   to count; null: every epoch counts
    """

    neutral = {"patience": 1_000_000, "min_explained": None}
    remembered = ("best", "waited", "learned")

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        min_explained: float | None = MIN_EXPLAINED,
    ) -> None:
        require(patience >= 1, "early_stopping", "patience must be at least 1", patience)
        require(min_delta >= 0, "early_stopping", "min_delta must be at least 0", min_delta)
        possible = min_explained is None or 0 <= min_explained < 1
        rule = "min_explained must be at least 0 and below 1, or null"
        require(possible, "early_stopping", rule, min_explained)
        self.patience, self.min_delta = patience, min_delta
        self.min_explained = min_explained
        self.best, self.waited, self.learned = -math.inf, 0, False

    def tick(self, event: Event, fit: Fit) -> None:
        """Judge whether the model has learned; compare the epoch's score with the best one.

        Raises:
            InputError: there is no score.
        """
        if event == "before_validation":
            least, found = self.min_explained, fit.explained
            fit.learned = least is None or found is None or found >= least
        elif event == "epoch_end":
            self._compare(fit)

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


build = EarlyStopping
