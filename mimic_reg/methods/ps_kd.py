"""Progressive self-knowledge distillation: labels are softened by what the model predicted before.

Kim et al., ICCV 2021, arXiv 2006.12000, as its code: in epoch e of E, counted from 0, the targets
are (1 - a_e) y + a_e P with a_e = alpha (e + 1) / E. P is the model's own prediction of this sample
when it last trained on it, and y before that: softmax(z), or sigmoid(z) where labels do not exclude
each other.

Rulings: P of a step is kept once the step is done, from its first forward pass. Where an epoch is
not one pass, P is that of the last time the sample was seen. Memory: N x C numbers of four bytes.

Shapes: N training samples, B samples, C outputs.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional as F

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Batch, Event, Fit, Need, Options, Regulariser, Step, require
from mimic_reg.models.base import Model

EXCLUDES = {"mixup": "the memory would hold predictions for mixtures."}

UNSEEN = -1.0


def softened(y: Tensor, past: Tensor, alpha: float) -> Tensor:
    """Return (1 - alpha) y + alpha P, and y where P is not known; (B, C) each."""
    return torch.where(past == UNSEEN, y, (1 - alpha) * y + alpha * past)


def as_soft(y: Tensor, num_outputs: int) -> Tensor:
    """Return labels (B, C): classes one-hot, others as they are."""
    return F.one_hot(y, num_outputs).float() if not y.is_floating_point() else y


def probabilities(fit: Fit, logits: Tensor) -> Tensor:
    """Return what the model predicts, (B, C), without a graph."""
    logits = logits.detach()
    return logits.softmax(1) if fit.target == "multiclass" else logits.sigmoid()


def refuse_regression(method: str, fit: Fit) -> None:
    """Raise InputError where labels are real numbers."""
    if fit.target == "regression":
        raise InputError(f"{method} works on the probabilities of classes; a regression has none.")


@final
class PSKD(Regulariser):
    """Softens labels and remembers predictions."""

    neutral: ClassVar[Options] = {"alpha": 0.0}
    needs = frozenset[Need]({"index"})

    def __init__(self, alpha: float) -> None:
        require(0 <= alpha <= 1, "ps_kd", "alpha must be in [0, 1]", alpha)
        self.alpha = alpha
        self.past = torch.empty(0)
        self._seen: tuple[Tensor, Tensor] | None = None

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Make the memory.

        Raises:
            InputError: the labels are real numbers.
        """
        refuse_regression("ps_kd", fit)
        shape = fit.num_train, fit.num_outputs
        self.past = torch.full(shape, UNSEEN, device=fit.generator.device)
        return model

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Soften the labels."""
        self._seen = None
        if self.alpha == 0:
            return batch
        share = self.alpha * (fit.epoch + 1) / fit.max_epochs
        y = as_soft(batch.y, fit.num_outputs)
        past = self.past[batch.index.to(self.past.device)]
        return replace(batch, y=softened(y, past, share))

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Hold what the step's first forward pass predicts."""
        if self.alpha and self._seen is None:
            self._seen = step.batch.index, probabilities(fit, step.logits)
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Remember it, once the step is done."""
        if event == "step" and self._seen is not None:
            index, predicted = self._seen
            self.past[index.to(self.past.device)] = predicted

    def state_dict(self) -> dict[str, Any]:
        """The memory."""
        return {"past": self.past}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.past = state["past"].to(self.past.device, copy=True)


def build(alpha: float = 0.8) -> PSKD:
    """The method; `alpha`: share of past predictions in the last epoch's targets."""
    return PSKD(alpha)
