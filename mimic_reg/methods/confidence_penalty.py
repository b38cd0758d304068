"""Confidence penalty: penalise confident predictions, that is, reward their entropy.

Formula::

    L - weight * mean_i H(p_i)

H is the entropy of a sample's predicted distribution: over classes that exclude each other, or of
yes and no, averaged over the outputs as the data loss is.

Use it if predictions are too confident; compare calibration as well as ranking.

Kind: penalty

Paper: Pereyra et al., "Regularizing neural networks by penalizing confident output distributions",
ICLR 2017 (workshop).

Shapes: B samples, C outputs.
"""

from torch import Tensor
from torch.nn.functional import logsigmoid

from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Fit, Step
from mimic_reg.store.spec import Target

CLASSES_ONLY = True


def entropy(target: Target, logits: Tensor) -> Tensor:
    """Return the entropy (B,) of each sample's prediction, in nats; logits: (B, C)."""
    if target == "multiclass":
        log_p = logits.log_softmax(dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
    p = logits.sigmoid()
    return -(p * logsigmoid(logits) + (1 - p) * logsigmoid(-logits)).mean(dim=1)


class ConfidencePenalty(Penalty):
    """Subtract the entropy of the predictions.

    weight: weight of the entropy
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(weight)

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        return -entropy(fit.target, step.logits).mean()


build = ConfidencePenalty
