"""Confidence penalty: confident predictions cost something: Pereyra et al., ICLR 2017 (workshop).

L - weight * H(p), H the mean entropy of the predicted distributions: over classes that exclude each
other, or of yes and no, averaged over the outputs as the data loss is.

Shapes: B samples, C outputs.
"""

from typing import ClassVar, final

from torch import Tensor
from torch.nn.functional import logsigmoid

from mimic_reg.methods._targets import refuse_regression
from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require
from mimic_reg.models.base import Model
from mimic_reg.store.spec import Target


def entropy(target: Target, logits: Tensor) -> Tensor:
    """(B, C) -> (B,): the entropy of each sample's prediction, in nats."""
    if target == "multiclass":
        log_p = logits.log_softmax(dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
    p = logits.sigmoid()
    return -(p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits)).mean(dim=1)


@final
class ConfidencePenalty(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float) -> None:
        require(weight >= 0, "confidence_penalty", "weight must be at least 0", weight)
        self.weight = weight

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Refuse a regression."""
        refuse_regression("confidence_penalty", fit)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Subtract the entropy."""
        if self.weight == 0:
            return loss
        return loss - self.weight * entropy(fit.target, step.logits).mean()


def build(weight: float = 0.1) -> ConfidencePenalty:
    """Return the method; `weight` of the entropy."""
    return ConfidencePenalty(weight)
