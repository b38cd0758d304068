"""Jacobian regularisation: keep the logits from changing when the input changes a little.

Formula, with z the logits, C outputs, and v uniform on the unit sphere::

    L + weight * R,   R = 1/2 * mean_i ||dz_i / dx_i||_F²  =  C/2 * mean_i E_v ||v' dz_i / dx_i||²

Use it if inputs are noisy, or small changes of an input should not change the prediction. A step
needs second derivatives, which makes recurrent networks slow.

Notes:
- R is estimated with `projections` random directions v in each step. With one output it is exact,
  and so it is with `projections: 0`, which takes C backward passes.
- Thakur et al. write "Jacobian of loss", which would be `data_gradient`; the works that they cite
  use the outputs.

Kind: penalty

Paper: Sokolic et al., "Robust large margin deep neural networks", IEEE TSP 65 (2017); Hoffman,
Roberts, Yaida, "Robust learning with Jacobian regularization", 2019, arXiv 1908.02729.

Shapes: B samples, C outputs.
"""

import torch
from torch import Tensor

from mimic_reg.methods._penalty import Penalty
from mimic_reg.methods.base import Fit, Step, require


def directional_penalty(logits: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """Return 1/2 mean over samples of ||v_i' dz_i/dx_i||², differentiable; v: (B, C) or (C,)."""
    (gradient,) = torch.autograd.grad((logits * v).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / 2


def exact_penalty(logits: Tensor, x: Tensor) -> Tensor:
    """Return R, with one backward pass for each output."""
    basis = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return torch.stack([directional_penalty(logits, x, v) for v in basis]).sum()


def random_directions(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return directions (B, C), uniform on the sphere."""
    v = torch.empty_like(logits).normal_(generator=generator)
    return torch.nn.functional.normalize(v, dim=1)


def projected_penalty(
    logits: Tensor, x: Tensor, projections: int, generator: torch.Generator
) -> Tensor:
    """Return an unbiased estimate of R from random directions."""
    estimates = [
        directional_penalty(logits, x, random_directions(logits.detach(), generator))
        for _ in range(projections)
    ]
    return logits.shape[1] * torch.stack(estimates).mean()


class Jacobian(Penalty):
    """Penalise the Jacobian of the logits.

    weight:      weight of the penalty; `configs/methods` has the paper's Table II for each model
    projections: random directions in each step; 0 for the exact norm
    """

    needs = frozenset({"input_grad", "double_backward"})

    def __init__(self, weight: float, projections: int = 1) -> None:
        super().__init__(weight)
        require(projections >= 0, "jacobian", "projections must be at least 0", projections)
        self.projections = projections

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        logits, x = step.logits, step.batch.x
        if self.projections == 0 or logits.shape[1] == 1:
            return exact_penalty(logits, x)
        return projected_penalty(logits, x, self.projections, fit.generator)


build = Jacobian
