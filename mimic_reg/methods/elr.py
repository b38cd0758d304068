"""Early-learning regularisation: hold on to what the model predicted before it memorised labels.

Liu et al., NeurIPS 2020, arXiv 2007.00151, as its code: with p = softmax(z), clamped to [1e-4,
1 - 1e-4], a sample's target is the running mean T = beta T + (1 - beta) p / sum(p), T = 0 at first,
updated before use and without a gradient; L + weight * mean log(1 - <T, p>).

Rulings: a label with a sigmoid is a softmax of two classes, (p, 1 - p), with a target for each, and
the mean goes over labels, too: so a binary task gives the same with one logit as with two. T of a
step is kept once the step is done, from its first forward pass. The defaults are those of the
paper's CIFAR-10 configuration. Memory: N x C numbers of four bytes, twice that with sigmoids.

Shapes: N training samples, B samples, C outputs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Batch, Event, Fit, Need, Options, Regulariser, Step, require
from mimic_reg.methods.ps_kd import refuse_regression
from mimic_reg.models.base import Model
from mimic_reg.store.spec import Target

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
    """Return mean log(1 - <T, p>): lower where the model still predicts what it did."""
    return (1 - (target * p).sum(-1)).log().mean()


@final
class ELR(Regulariser):
    """Adds the penalty and remembers predictions."""

    neutral: ClassVar[Options] = {"weight": 0.0}
    needs = frozenset[Need]({"index"})

    def __init__(self, weight: float, beta: float) -> None:
        require(weight >= 0, "elr", "weight must be at least 0", weight)
        require(0 <= beta < 1, "elr", "beta must be in [0, 1)", beta)
        self.weight, self.beta = weight, beta
        self.targets = torch.empty(0)
        self._new: tuple[Tensor, Tensor] | None = None

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Make the memory.

        Raises:
            InputError: the labels are real numbers.
        """
        refuse_regression("elr", fit)
        shape = (fit.num_train, fit.num_outputs, *([] if fit.target == "multiclass" else [2]))
        self.targets = torch.zeros(shape, device=fit.generator.device)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Begin a step."""
        self._new = None
        return batch

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        index = step.batch.index.to(self.targets.device)
        p = class_probabilities(fit.target, step.logits)
        target = updated_target(self.targets[index], p, self.beta)
        if self._new is None:  # SAM evaluates again, with other weights
            self._new = index, target
        return loss + self.weight * early_learning_penalty(p, target)

    def tick(self, event: Event, fit: Fit) -> None:
        """Keep the targets, once the step is done."""
        if event == "step" and self._new is not None:
            index, target = self._new
            self.targets[index] = target
            self._new = None

    def state_dict(self) -> dict[str, Any]:
        """The targets."""
        return {"targets": self.targets}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.targets = state["targets"].to(self.targets.device, copy=True)


def build(weight: float = 3.0, beta: float = 0.7) -> ELR:
    """The method; `beta`: how slowly the targets follow the predictions."""
    return ELR(weight, beta)
