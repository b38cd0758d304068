"""Perpendicular gradients: change the direction of the weights without making them longer.

Formula, for each tensor, before the optimiser's step::

    g <- g - strength * (w . g / ||w||²) * w

Once the training samples are fitted, the gradient mostly scales the logits up; this removes that
part.

Use it if a fit goes on long after its training samples are fitted.

Notes:
- Only weight matrices and kernels change. A bias or a learned strength may be a single number,
  whose gradient is all along itself, so it would never move. A tensor of zeros keeps its gradient.
- `rescale` gives the rest the length of the gradient, as the authors' code does, unlike the paper's
  formula. A rest that is only rounding becomes zero.
- List it after `itps`, which then selects from what is left; the other order is refused.

Kind: optimiser

Paper: Prieto, Barsbey, Mediano, Birdal, "Grokking at the edge of numerical stability", ICLR 2025,
arXiv 2501.04697.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods.base import Fit, OptimizerWrapper, Regulariser, require

AFTER = dict.fromkeys(
    ("itps", "itps_auto", "itps_rank"),
    "parameters that are not selected would get a gradient along the weights and move.",
)

SMALLEST = 1e-30  # a smaller squared norm counts as 0
ROUNDING = 16  # rounding errors of the part along the weights, at most


def perpendicular(gradient: Tensor, weight: Tensor, strength: float, rescale: bool) -> Tensor:
    """Return the gradient without its part along the weights."""
    along = (weight * gradient).sum() / weight.square().sum().clamp(min=SMALLEST)
    rest = gradient - strength * along * weight
    if rescale:
        left, whole = rest.norm(), gradient.norm()
        # of a gradient along the weights only rounding is left: no direction to give its length to
        rounding = ROUNDING * torch.finfo(rest.dtype).eps * whole
        rest = rest * torch.where(left > rounding, whole / left.clamp(min=SMALLEST), 0.0)
    return rest


class PerpGradOptimizer(OptimizerWrapper):
    """Edit the gradients before the step."""

    def __init__(self, base: Optimizer, strength: float, rescale: bool) -> None:
        super().__init__(base)
        self.strength, self.rescale = strength, rescale

    def update(self) -> None:
        for parameter in self.parameters():
            if self.strength and parameter.ndim >= 2 and parameter.grad is not None:
                new = perpendicular(parameter.grad, parameter, self.strength, self.rescale)
                parameter.grad.copy_(new)
        self.base.step()


class PerpGrad(Regulariser):
    """Remove the part of gradients along the weights.

    strength: share of that part that is removed
    rescale:  give the rest the length of the gradient
    """

    neutral = {"strength": 0.0}

    def __init__(self, strength: float = 1.0, rescale: bool = False) -> None:
        require(0 <= strength <= 1, "perp_grad", "strength must be in [0, 1]", strength)
        self.strength, self.rescale = strength, rescale

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        return PerpGradOptimizer(optimizer, self.strength, self.rescale)


build = PerpGrad
