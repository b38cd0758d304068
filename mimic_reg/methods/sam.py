"""Sharpness-aware minimisation: Foret et al., ICLR 2021.

The step at w is taken with the gradient at w + e, e = rho * g / ||g||, g the gradient at w: the
worst point of a ball around w, to first order. Both gradients are of the same batch with the same
random draws (dropout's patterns, say). Costs two passes a step.

Rulings: one norm over all parameters; running statistics of batch norm are those of the pass at w,
as in Foret's code; the loss in the history is that at w. Other methods that wrap the optimiser
stand before it in the list: they edit the gradient at w + e, once a step. With pruning, e moves
pruned weights, too, for the second pass; after the step they are zero.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mimic_reg.methods._weights import held_buffers
from mimic_reg.methods.base import Fit, OptimizerWrapper, Options, Regulariser, require
from mimic_reg.models.base import Model

_TINY = 1e-12  # added to the norm of a gradient


@final
class SAMOptimizer(OptimizerWrapper):
    """Evaluates the closure at w and at w + e, then lets the base step from w."""

    def __init__(
        self, base: Optimizer, rho: float, generator: torch.Generator, model: nn.Module
    ) -> None:
        super().__init__(base)
        self.rho, self.generator, self.model = rho, generator, model

    # no default: a wrapper that evaluates the closure itself cannot stand around this one
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

    def update(self) -> None:
        """Step with the gradients that are there."""
        self.base.step()

    def own_state(self) -> dict[str, Any]:
        """Return nothing: a step has no memory of the one before."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


@final
class SAM(Regulariser):
    """Wraps the optimiser."""

    neutral: ClassVar[Options] = {"rho": 0.0}

    def __init__(self, rho: float) -> None:
        require(rho >= 0, "sam", "rho must be at least 0", rho)
        self.rho = rho

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, for its running statistics."""
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap it."""
        return SAMOptimizer(optimizer, self.rho, fit.generator, self.model)


def build(rho: float = 0.05) -> SAM:
    """Return the method; `rho` is the radius of the ball, in the units of the weights."""
    return SAM(rho)
