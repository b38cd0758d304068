"""Progressive self-knowledge distillation (PS-KD): soften labels with the model's own predictions.

Formula, for the targets in epoch e of E, counted from 0::

    y <- (1 - a_e) * y + a_e * P,   a_e = alpha * (e + 1) / E

P is the model's own prediction of this sample when it last trained on it: softmax(z), or sigmoid(z)
if labels do not exclude each other. Before that, the target is y.

Use it if labels are noisy or predictions too confident.

Notes:
- It follows the authors' code.
- P of a step is stored when the step is done, from its first forward pass.
- It stores N x C numbers of 4 bytes.

Kind: penalty

Paper: Kim et al., "Self-knowledge distillation with progressive refinement of targets", ICCV 2021,
arXiv 2006.12000.

Shapes: N training samples, B samples, C outputs.
"""

from dataclasses import replace

import torch
from torch import Tensor

from mimic_reg.methods._targets import soft
from mimic_reg.methods.base import Batch, Event, Fit, Regulariser, Step, require
from mimic_reg.models.base import Model, prediction

CLASSES_ONLY = True
EXCLUDES = {"mixup": "the memory would hold predictions for mixtures."}

UNSEEN = -1.0


def softened(y: Tensor, past: Tensor, alpha: float) -> Tensor:
    """Return (1 - alpha) y + alpha P, and y where P is not known; (B, C) each."""
    return torch.where(past == UNSEEN, y, (1 - alpha) * y + alpha * past)


class PSKD(Regulariser):
    """Soften labels and remember predictions.

    alpha: share of past predictions in the targets of the last epoch
    """

    neutral = {"alpha": 0.0}
    by_stay = True
    needs = frozenset({"index"})
    remembered = ("past",)

    def __init__(self, alpha: float = 0.8) -> None:
        require(0 <= alpha <= 1, "ps_kd", "alpha must be in [0, 1]", alpha)
        self.alpha = alpha
        self._seen: tuple[Tensor, Tensor] | None = None

    def prepare(self, model: Model, fit: Fit) -> Model:
        shape = fit.num_train, fit.num_outputs
        self.past = torch.full(shape, UNSEEN, device=fit.generator.device)
        return super().prepare(model, fit)

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        self._seen = None
        if self.alpha == 0:
            return batch
        share = self.alpha * (fit.epoch + 1) / fit.max_epochs
        past = self.past[batch.index.to(self.past.device, non_blocking=True)]
        return replace(batch, y=softened(soft(batch, fit), past, share))

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Hold the predictions of the step's first forward pass."""
        if self.alpha and self._seen is None:
            self._seen = step.batch.index, prediction(fit.target, step.logits.detach())
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Store them, when the step is done."""
        if event == "step" and self._seen is not None:
            index, predicted = self._seen
            self.past[index.to(self.past.device, non_blocking=True)] = predicted


build = PSKD
