"""Adversarial training (FGSM): train on inputs that were changed where the loss rises most.

Formula::

    share * L(x) + (1 - share) * L(x + epsilon * sign(dL/dx))

The changed inputs count as constants.

Use it if small changes of an input should not change the prediction. A step costs two passes and a
gradient for the inputs.

Notes:
- For stays, only channels that are measurements change, and only hours within a sample's length.
  Images are not clipped to valid pixels. epsilon is in units of the normalised input.
- The second pass draws its own random numbers, and does not change running statistics of batch
  norm.
- It replaces a share of the data loss; penalties of other methods stay as they are.

Kind: penalty

Paper: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015.
"""

import torch
from torch import Tensor

from mimic_reg.methods._inputs import changeable, continuous_channels
from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, Regulariser, Step, require
from mimic_reg.models.base import Model, loss_of


def attack(per_sample: Tensor, x: Tensor, epsilon: float) -> Tensor:
    """Return the change of x that raises the losses most, to first order; a constant."""
    (gradient,) = torch.autograd.grad(per_sample.sum(), x, retain_graph=True)
    return epsilon * gradient.sign()


class FGSM(Regulariser):
    """Add the loss of changed inputs.

    epsilon: change of each input number
    share:   share of the loss that is computed without changes
    """

    neutral = {"epsilon": 0.0}

    def __init__(self, epsilon: float = 0.05, share: float = 0.5) -> None:
        require(epsilon >= 0, "fgsm", "epsilon must be at least 0", epsilon)
        require(0 <= share <= 1, "fgsm", "share must be in [0, 1]", share)
        self.epsilon, self.unchanged = epsilon, share
        if epsilon > 0:
            self.needs = frozenset({"input_grad"})

    def prepare(self, model: Model, fit: Fit) -> Model:
        self.channels = continuous_channels(fit.train)
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        if self.epsilon == 0:
            return loss
        batch = step.batch
        change = attack(step.per_sample, batch.x, self.epsilon)
        with held_buffers(step.model):
            x = batch.x.detach() + change * changeable(batch, self.channels)
            logits = step.model(x, batch.lengths)
            changed = loss_of(fit.target, logits, batch.y, fit.class_weights)
        return loss + (1 - self.unchanged) * (changed.mean() - step.per_sample.mean())


build = FGSM
