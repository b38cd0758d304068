"""Sharpness-aware minimisation (SAM): step with the gradient at the worst point nearby.

Formula, with g the gradient at w::

    e = rho * g / ||g||
    step from w with the gradient at w + e

w + e is, to first order, the worst point of a ball around w. Both gradients use the same batch and
the same random draws (dropout masks, for example).

Use it if solutions of the optimiser do not generalise. A step costs two passes.

Notes:
- The norm is over all parameters together. As in the authors' code, running statistics of batch
  norm are those of the pass at w. The history has the loss at w.
- List other methods that wrap the optimiser before it: they edit the gradient at w + e.
- With pruning, e moves pruned weights too in the second pass; after the step they are zero.

Kind: optimiser

Paper: Foret et al., "Sharpness-aware minimization for efficiently improving generalization", ICLR
2021.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, OptimizerWrapper, Regulariser, require

_TINY = 1e-12  # added to the norm of a gradient


class SAMOptimizer(OptimizerWrapper):
    """Evaluate the closure at w and at w + e, then let the base step from w."""

    def __init__(
        self, base: Optimizer, rho: float, generator: torch.Generator, model: nn.Module
    ) -> None:
        super().__init__(base)
        self.rho, self.generator, self.model = rho, generator, model

    # no default: a wrapper that evaluates the closure itself cannot wrap this one
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Take one step and return the loss at w."""
        if self.rho == 0:
            return super().step(closure)
        draws = self.generator.get_state()
        with torch.enable_grad():
            loss = closure()
        before = self._climb()
        self.generator.set_state(draws)
        with torch.enable_grad(), held_buffers(self.model):
            closure()
        with torch.no_grad():
            for parameter, weight in before:
                parameter.copy_(weight)
            self.update()
        return loss

    @torch.no_grad()
    def _climb(self) -> list[tuple[Tensor, Tensor]]:
        """Move to w + e; return the parameters with their copies at w."""
        moved = [p for p in self.parameters() if p.grad is not None]
        gradients = [p.grad for p in moved if p.grad is not None]
        before = [(p, p.clone()) for p in moved]
        scale = self.rho / (nn.utils.get_total_norm(gradients) + _TINY)
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.add_(gradient * scale)
        return before


class SAM(Regulariser):
    """Step with the gradient at w + e.

    rho: radius of the ball, in units of the weights
    """

    neutral = {"rho": 0.0}

    def __init__(self, rho: float = 0.05) -> None:
        require(rho >= 0, "sam", "rho must be at least 0", rho)
        self.rho = rho

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        return SAMOptimizer(optimizer, self.rho, fit.generator, self.model)


build = SAM
