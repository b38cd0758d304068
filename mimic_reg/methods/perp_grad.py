"""Perpendicular gradients: steps that turn the weights without making them longer.

Prieto, Barsbey, Mediano, Birdal, "Grokking at the edge of numerical stability", ICLR 2025, arXiv
2501.04697: g <- g - (w . g / ||w||²) w for each tensor, before the optimiser's step. Once training
samples are fitted, the gradient mostly scales the logits up; that part is taken out.

Rulings: weight matrices and kernels only. A bias or a learned strength may be a single number,
whose gradient is all along itself: it would never move. A tensor of zeros keeps its gradient.
`rescale` gives the rest the length that the gradient had, as the authors' code does, beyond the
formula of the paper. `strength` is the share of the part along w that is taken out. List it after
itps, which then selects from what is left; the other order is refused.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods.base import Fit, OptimizerWrapper, Options, Regulariser, require

AFTER = {
    "itps": "parameters that are not selected would get a gradient along the weights and move."
}

SMALLEST = 1e-30  # a squared norm that is as good as 0


def perpendicular(gradient: Tensor, weight: Tensor, strength: float, rescale: bool) -> Tensor:
    """Return the gradient without its part along the weights."""
    along = (weight * gradient).sum() / weight.square().sum().clamp(min=SMALLEST)
    rest = gradient - strength * along * weight
    if rescale:
        rest = rest * (gradient.norm() / rest.norm().clamp(min=SMALLEST))
    return rest


@final
class PerpGradOptimizer(OptimizerWrapper):
    """Edits the gradients before the step."""

    def __init__(self, base: Optimizer, strength: float, rescale: bool) -> None:
        super().__init__(base)
        self.strength, self.rescale = strength, rescale

    def update(self) -> None:
        """Take out the part along the weights, then step."""
        for parameter in self.parameters():
            if self.strength and parameter.ndim >= 2 and parameter.grad is not None:
                new = perpendicular(parameter.grad, parameter, self.strength, self.rescale)
                parameter.grad.copy_(new)
        self.base.step()

    def own_state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Nothing."""


@final
class PerpGrad(Regulariser):
    """Wraps the optimiser."""

    neutral: ClassVar[Options] = {"strength": 0.0}

    def __init__(self, strength: float, rescale: bool) -> None:
        require(0 <= strength <= 1, "perp_grad", "strength must be in [0, 1]", strength)
        self.strength, self.rescale = strength, rescale

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap it."""
        return PerpGradOptimizer(optimizer, self.strength, self.rescale)


def build(strength: float = 1.0, rescale: bool = False) -> PerpGrad:
    """The method.

    strength: share of the part along the weights that is taken out
    rescale:  give the rest the gradient's length
    """
    return PerpGrad(strength, rescale)
