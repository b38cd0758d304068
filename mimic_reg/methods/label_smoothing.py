"""Label smoothing: Szegedy et al., CVPR 2016.

The true class has the probability 1 - rho, each of the C - 1 others rho / (C - 1). torch's
`label_smoothing` = eps spreads eps over all classes; the two agree with eps = rho * C / (C - 1).
An output that is yes or no has two classes: y becomes y (1 - rho) + (1 - y) rho.

It changes probabilities more than their order: judge it by calibration as well as by AUROC.
"""

from dataclasses import replace
from typing import ClassVar, final

from torch import Tensor

from mimic_reg.methods._targets import num_classes, refuse_regression, soft
from mimic_reg.methods.base import Batch, Fit, Options, Regulariser, require
from mimic_reg.models.base import Model


def smoothed(y: Tensor, rho: float, classes: int) -> Tensor:
    """(B, C) -> (B, C): probabilities of classes, or of yes for each output (`classes` = 2)."""
    return y * (1 - rho) + (1 - y) * (rho / (classes - 1))


@final
class LabelSmoothing(Regulariser):
    """Makes targets soft."""

    neutral: ClassVar[Options] = {"rho": 0.0}

    def __init__(self, rho: float) -> None:
        require(0 <= rho < 1, "label_smoothing", "rho must be in [0, 1)", rho)
        self.rho = rho

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Refuse what would make the true class less probable than others.

        Raises:
            InputError: rho is too large for so many classes; a regression.
        """
        refuse_regression("label_smoothing", fit)
        most = 1 - 1 / num_classes(fit)
        rule = f"rho must be below {most:g} with {num_classes(fit)} classes"
        require(self.rho < most, "label_smoothing", rule, self.rho)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Smooth the targets."""
        if self.rho == 0:
            return batch
        return replace(batch, y=smoothed(soft(batch, fit), self.rho, num_classes(fit)))


def build(rho: float = 0.1) -> LabelSmoothing:
    """Return the method; `rho` is the probability that is taken from the true class."""
    return LabelSmoothing(rho)
