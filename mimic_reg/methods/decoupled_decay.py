"""Decoupled weight decay: Loshchilov & Hutter, ICLR 2019 (AdamW).

w <- (1 - lr * decay) w, then the step of the optimiser, which does not see the decay: Adam would
divide it by the size of the gradients. Weight matrices and kernels only: no biases or scales of
norms. With plain SGD it equals the L2 penalty l2 = decay / 2.

It moves all weights, also those that another method keeps from moving.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch.optim import Optimizer

from mimic_reg.methods.base import Fit, OptimizerWrapper, Options, Regulariser, require


@final
class DecayingOptimizer(OptimizerWrapper):
    """Shrinks the weights before each step of the base."""

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

    def own_state(self) -> dict[str, Any]:
        """Return nothing: the decay has no memory."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


@final
class DecoupledDecay(Regulariser):
    """Wraps the optimiser."""

    neutral: ClassVar[Options] = {"decay": 0.0}

    def __init__(self, decay: float) -> None:
        require(decay >= 0, "decoupled_decay", "decay must be at least 0", decay)
        self.decay = decay

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap it.

        Raises:
            InputError: a step would turn the weights' signs.
        """
        rate = max(group["lr"] for group in optimizer.param_groups)
        rule = f"learning rate ({rate:g}) times decay must be below 1"
        require(rate * self.decay < 1, "decoupled_decay", rule, self.decay)
        return DecayingOptimizer(optimizer, self.decay)


def build(decay: float = 0.01) -> DecoupledDecay:
    """Return the method; a step shrinks weights by the learning rate times `decay`."""
    return DecoupledDecay(decay)
