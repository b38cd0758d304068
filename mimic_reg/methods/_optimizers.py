"""Parts of an optimiser's step that methods and `training` settings share."""

import math

import torch
from torch.optim import Optimizer

from mimic_reg.methods.base import OptimizerWrapper


def cosine_rate(first: float, step: int, length: int) -> float:
    """Return the learning rate of a step, counted from 0, in cycles of `length` steps."""
    return first / 2 * (math.cos(math.pi * (step % length) / length) + 1)


class DecayingOptimizer(OptimizerWrapper):
    """Shrink the weights before each step of the base."""

    def __init__(self, base: Optimizer, decay: float) -> None:
        super().__init__(base)
        self.decay = decay

    def update(self) -> None:
        """Shrink the weights that have a gradient, then take the step."""
        for group in self.param_groups:
            shrunk = [p for p in group["params"] if p.ndim >= 2 and p.grad is not None]
            if shrunk and self.decay > 0:
                torch._foreach_mul_(shrunk, 1 - group["lr"] * self.decay)
        self.base.step()


class ClippingOptimizer(OptimizerWrapper):
    """Shorten the gradient before each step of the base if it is longer than `norm`."""

    def __init__(self, base: Optimizer, norm: float) -> None:
        super().__init__(base)
        self.norm = norm

    def update(self) -> None:
        """Clip the gradient of all parameters together, then take the step."""
        torch.nn.utils.clip_grad_norm_(self.parameters(), self.norm)
        self.base.step()
