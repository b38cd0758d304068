"""Jacobian regularisation: the logits should not change when the input changes a little.

L + weight * R with R = 1/2 mean over samples of ||dz_i / dx_i||_F^2, z the logits. Sokolic et al.,
IEEE TSP 65 (2017); Hoffman, Roberts, Yaida, arXiv 1908.02729, whose estimate with random directions
this is: R = C/2 mean ||v' dz/dx||^2, v uniform on the unit sphere.

Ruling: the paper's "Jacobian of loss" would be the data gradient; its references use the outputs.
With one output the direction is 1 and R exact; `projections=0` is exact for all (C passes).

Shapes: B samples, C outputs.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require


def directional_penalty(logits: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """1/2 mean over samples of ||v_i' dz_i/dx_i||^2, differentiable; v: (B, C) or (C,)."""
    (gradient,) = torch.autograd.grad((logits * v).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2


def exact_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """R, one backward pass an output."""
    basis = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return torch.stack([directional_penalty(logits, x, v) for v in basis]).sum()


def random_directions(logits: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C) directions, uniform on the sphere."""
    v = torch.empty_like(logits).normal_(generator=generator)
    return torch.nn.functional.normalize(v, dim=1)


def projected_penalty(
    logits: Tensor, x: Tensor, projections: int, generator: torch.Generator
) -> Tensor:
    """An unbiased estimate of R from random directions."""
    estimates = [
        directional_penalty(logits, x, random_directions(logits.detach(), generator))
        for _ in range(projections)
    ]
    return logits.shape[1] * torch.stack(estimates).mean()


@final
class Jacobian(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float, projections: int) -> None:
        require(weight >= 0, "jacobian", "weight must be at least 0", weight)
        require(projections >= 0, "jacobian", "projections must be at least 0", projections)
        self.weight, self.projections = weight, projections
        if weight > 0:  # else the plain kernels, hence the baseline's bits
            self.needs = frozenset[Need]({"input_grad", "double_backward"})

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        logits, x = step.logits, step.batch.x
        if self.projections == 0 or logits.shape[1] == 1:
            return loss + self.weight * exact_penalty(logits, x)
        return loss + self.weight * projected_penalty(logits, x, self.projections, fit.generator)


def build(weight: float, projections: int = 1) -> Jacobian:
    """The method; Table II has `weight` per model; `projections` a step, 0 for the exact norm."""
    return Jacobian(weight, projections)
