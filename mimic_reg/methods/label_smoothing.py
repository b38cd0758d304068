"""Label smoothing: move a share of the probability from the true class to the others.

The true class gets the probability 1 - rho, and each of the C - 1 others rho / (C - 1). An output
that is yes or no has two classes::

    y <- y * (1 - rho) + (1 - y) * rho

Use it if predictions are too confident. It changes probabilities more than their order: judge it by
calibration as well as by AUROC.

Notes:
- torch's `label_smoothing` = eps spreads eps over all classes. The two agree if
  eps = rho * C / (C - 1).

Kind: data

Paper: Szegedy et al., "Rethinking the Inception architecture for computer vision", CVPR 2016.

Shapes: B samples, C outputs.
"""

from dataclasses import replace

from torch import Tensor

from mimic_reg.methods._targets import num_classes, soft
from mimic_reg.methods.base import Batch, Fit, Regulariser, require
from mimic_reg.models.base import Model

CLASSES_ONLY = True


def smoothed(y: Tensor, rho: float, classes: int) -> Tensor:
    """Return smoothed targets (B, C), of classes or of yes for each output (`classes` = 2)."""
    return y * (1 - rho) + (1 - y) * (rho / (classes - 1))


class LabelSmoothing(Regulariser):
    """Smooth the targets.

    rho: probability that is moved from the true class to the others
    """

    neutral = {"rho": 0.0}
    by_stay = True

    def __init__(self, rho: float = 0.1) -> None:
        require(0 <= rho < 1, "label_smoothing", "rho must be in [0, 1)", rho)
        self.rho = rho

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Check rho.

        Raises:
            InputError: the true class would not be the most probable one.
        """
        most = 1 - 1 / num_classes(fit)
        rule = f"rho must be below {most:g} with {num_classes(fit)} classes"
        require(self.rho < most, "label_smoothing", rule, self.rho)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        if self.rho == 0:
            return batch
        return replace(batch, y=smoothed(soft(batch, fit), self.rho, num_classes(fit)))


build = LabelSmoothing
