"""Early-learning regularisation (ELR): stay with the predictions from before labels were memorised.

Formula, with p = softmax(z) clamped to [1e-4, 1 - 1e-4], and a running mean t for each sample::

    t <- beta * t + (1 - beta) * p / sum(p)     without a gradient; 0 at first
    L + weight * mean_i log(1 - <t_i, p_i>)

Use it if training labels are noisy: networks learn clean labels first, wrong ones later.

Notes:
- It follows the authors' code; the defaults are those of the paper for CIFAR-10.
- A label with a sigmoid is a softmax of two classes (p, 1 - p), each with a target, and the mean is
  over labels too. So a binary task gives the same with one logit as with two.
- The mean of a step is stored when the step is done, from its first forward pass.
- It stores N x C numbers of 4 bytes, with sigmoids twice as many.

Kind: penalty

Paper: Liu et al., "Early-learning regularization prevents memorization of noisy labels", NeurIPS
2020, arXiv 2007.00151.

Shapes: N training samples, B samples, C outputs.
"""

import torch
from torch import Tensor

from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Batch, Event, Fit, Step, require
from mimic_reg.models.base import Model
from mimic_reg.store.spec import Target

CLASSES_ONLY = True
EXCLUDES = {"mixup": "the memory would hold predictions for mixtures."}

SMALLEST = 1e-4


def class_probabilities(target: Target, logits: Tensor) -> Tensor:
    """Return clamped probabilities: (B, C), or (B, C, 2) of labels that may be true together."""
    if target == "multiclass":
        p = logits.softmax(1)
    else:
        p = torch.stack([logits, torch.zeros_like(logits)], dim=-1).softmax(-1)
    return p.clamp(SMALLEST, 1 - SMALLEST)


def updated_target(old: Tensor, p: Tensor, beta: float) -> Tensor:
    """Return the running mean of predictions."""
    p = p.detach()
    return beta * old + (1 - beta) * p / p.sum(-1, keepdim=True)


def early_learning_penalty(p: Tensor, target: Tensor) -> Tensor:
    """Return mean log(1 - <t, p>): lower if the model still predicts what it did."""
    return (1 - (target * p).sum(-1)).log().mean()


class ELR(Penalty):
    """Penalise predictions that leave their running mean.

    weight: weight of the penalty
    beta:   share of the running mean that is kept in a step
    """

    needs = frozenset({"index"})
    by_stay = True
    remembered = ("targets",)

    def __init__(self, weight: float = 3.0, beta: float = 0.7) -> None:
        super().__init__(weight)
        require(0 <= beta < 1, "elr", "beta must be in [0, 1)", beta)
        self.beta = beta
        self._new: tuple[Tensor, Tensor] | None = None

    def prepare(self, model: Model, fit: Fit) -> Model:
        shape = (fit.num_train, fit.num_outputs, *([] if fit.target == "multiclass" else [2]))
        self.targets = torch.zeros(shape, device=fit.generator.device)
        return super().prepare(model, fit)

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        self._new = None
        return batch

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        index = step.batch.index.to(self.targets.device, non_blocking=True)
        p = class_probabilities(fit.target, step.logits)
        target = updated_target(self.targets[index], p, self.beta)
        if self._new is None:  # SAM evaluates again, with other weights
            self._new = index, target
        return early_learning_penalty(p, target)

    def tick(self, event: Event, fit: Fit) -> None:
        """Store the targets, when the step is done."""
        if event == "step" and self._new is not None:
            index, target = self._new
            self.targets[index] = target
            self._new = None


build = ELR
