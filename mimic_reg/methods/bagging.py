"""Bagging: train on a bootstrap sample of the patients; fits of several seeds are averaged.

Of S patients, S are drawn with replacement by the trial's seed: about 63 % of the patients take
part. A sample's loss is multiplied by how often its patient was drawn, divided by the mean of that
over the training samples. Patients are drawn, not samples: otherwise all members would share nearly
all patients.

The members are fits that differ in their seed alone; `mimic-reg analyse ensembles` averages them.
They are ordinary trials, so each can be resumed, compared and run in parallel.

Use it if predictions of single fits vary, and you can afford to train several.

Notes:
- The batches stay those of all other methods; patients that were not drawn get the factor 0.
- A term that another method computes from single samples does not know the factors. Methods whose
  terms would train on patients that were not drawn are refused beside bagging.
- What is computed from all training samples is that of all patients: the normaliser, class weights,
  the prevalence (`training.output_bias`), statistics of batch norm, and the share of the loss by
  which early stopping decides.

No neutral setting: a bootstrap sample differs from the training samples.

Kind: data

Paper: Breiman, "Bagging predictors", Machine Learning 24 (1996).

Shapes: B samples of a batch, N training samples, S patients.
"""

import numpy as np
import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Regulariser, Step
from mimic_reg.models.base import Model

_SUBTRACTS = (
    "it replaces a share of the mean loss of all patients, so patients that were not drawn would "
    "count negatively."
)
_USES_ALL = "it would train on samples of patients that were not drawn."
_USERS = (
    *("confidence_penalty", "data_gradient", "distance_covariance", "elr"),
    *("implicit_gradient", "jacobian", "mgs", "mixup"),
)
EXCLUDES = dict.fromkeys(("distillation", "fgsm", "flooding"), _SUBTRACTS)
EXCLUDES |= dict.fromkeys(_USERS, _USES_ALL)


def draw_counts(subject: np.ndarray, generator: torch.Generator) -> Tensor:
    """Return the factor (N,) of each sample's loss, with mean 1.

    subject: (N,) the patient of each sample
    """
    patients, number = np.unique(subject, return_inverse=True)
    size, device = len(patients), generator.device
    drawn = torch.randint(size, (size,), generator=generator, device=device)
    counts = torch.bincount(drawn, minlength=size).float()
    factors = counts[torch.from_numpy(number).to(device)]
    return factors / factors.mean()


class Bagging(Regulariser):
    """Weight the samples by how often their patient was drawn."""

    needs = frozenset({"index"})

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Draw the patients; a resumed fit draws the same."""
        self.factors = None
        if fit.train is not None:
            self.factors = draw_counts(fit.train.subject, fit.generator)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        assert self.factors is not None, "a fit has training samples"
        index = step.batch.index.to(self.factors.device, non_blocking=True)
        return loss + ((self.factors[index] - 1) * step.per_sample).mean()


build = Bagging
