"""A bootstrap sample of the patients: what bagging trains each member on (Breiman 1996).

From S patients S are drawn with replacement, by the trial's seed, and each sample counts as often
as its patient was drawn: about 63 % of the patients take part. Patients, not samples, are drawn:
with single samples, members would share nearly every patient.

Fits that differ in their seed alone are the members; `mimic-reg analyse ensembles` averages them.
They are trials like any others, so each can be resumed, compared and run in parallel.

Rulings: a sample's loss is multiplied by the count of its patient, divided by the mean count over
the training samples, which is the objective of the bootstrap sample without a second order of
batches: all methods still see the same batches. Terms that other methods make from single samples
do not know the counts; where that would train something else, the method is refused beside it. The
share of the loss that early stopping looks at is that of all patients.

No neutral setting: a sample drawn with replacement is not the sample itself.

Shapes: B samples of a batch, N of the training split, S patients.
"""

from typing import final

import numpy as np
import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Need, Regulariser, Step
from mimic_reg.models.base import Model

_SUBTRACTS = (
    "it replaces a share of the mean loss of all patients, not of the drawn ones: patients that "
    "were not drawn would count negatively."
)
_USES_ALL = "it would train on samples of patients that were not drawn."
EXCLUDES = dict.fromkeys(("distillation", "fgsm", "flooding"), _SUBTRACTS) | dict.fromkeys(
    ("distance_covariance", "elr", "implicit_gradient", "mgs", "mixup", "ps_kd"), _USES_ALL
)


def draw_counts(subject: np.ndarray, generator: torch.Generator) -> Tensor:
    """Return the factor (N,) of each sample's loss, of mean 1.

    subject: (N,) whom each sample belongs to
    """
    patients, number = np.unique(subject, return_inverse=True)
    size, device = len(patients), generator.device
    drawn = torch.randint(size, (size,), generator=generator, device=device)
    counts = torch.bincount(drawn, minlength=size).float()
    factors = counts[torch.from_numpy(number).to(device)]
    return factors / factors.mean()


@final
class Bagging(Regulariser):
    """Weighs the samples."""

    needs = frozenset[Need]({"index"})

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Draw the patients; a fit that is resumed draws the same."""
        self.factors = None
        if fit.train is not None:
            self.factors = draw_counts(fit.train.subject, fit.generator)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Multiply each sample's loss by its factor."""
        assert self.factors is not None, "a fit has training samples"
        index = step.batch.index.to(self.factors.device)
        return loss + ((self.factors[index] - 1) * step.per_sample).mean()


def build() -> Bagging:
    """Return the method."""
    return Bagging()
