"""Adversarial training with the fast gradient sign method: Goodfellow et al., ICLR 2015.

share * L(x) + (1 - share) * L(x + epsilon * sign(dL/dx)): half of the loss is that of inputs that
were changed where it hurts most, each number by epsilon. The changed inputs count as constants.

Rulings: of stays only channels that are measurements, and only hours within their length, are
changed; images are not clipped to valid pixels. epsilon is in units of the normalised input. The
second pass draws its own random numbers, and leaves running statistics of batch norm alone. It
replaces a share of the data loss; penalties stay. Costs two passes, and a gradient for inputs.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require
from mimic_reg.models.base import Model, loss_of


def attack(per_sample: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Return the change of x that raises the losses most, to first order; a constant."""
    (gradient,) = torch.autograd.grad(per_sample.sum(), x, retain_graph=True)
    return epsilon * gradient.sign()


@final
class FGSM(Regulariser):
    """Adds the loss of changed inputs."""

    neutral: ClassVar[Options] = {"epsilon": 0.0}

    def __init__(self, epsilon: float, share: float) -> None:
        require(epsilon >= 0, "fgsm", "epsilon must be at least 0", epsilon)
        require(0 <= share <= 1, "fgsm", "share must be in [0, 1]", share)
        self.epsilon, self.unchanged = epsilon, share
        if epsilon > 0:
            self.needs = frozenset[Need]({"input_grad"})

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the channels that are measurements."""
        self.channels = continuous_channels(fit.train)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Replace a share of the data loss by that of changed inputs."""
        if self.epsilon == 0:
            return loss
        batch = step.batch
        change = attack(step.per_sample, batch.x, self.epsilon)
        with held_buffers(step.model):
            x = batch.x.detach() + change * changeable(batch, self.channels)
            changed = loss_of(fit.target, step.model(x, batch.lengths), batch.y)
        return loss + (1 - self.unchanged) * (changed.mean() - step.per_sample.mean())


def build(epsilon: float = 0.05, share: float = 0.5) -> FGSM:
    """Return the method; `epsilon` changes inputs; `share` of the loss is that without changes."""
    return FGSM(epsilon, share)
