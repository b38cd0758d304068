"""Model gradient similarity (MGS) penalty: keep the gradients of all outputs alike.

Formula, with the logits z of a batch, R samples times outputs, and v of random signs::

    L + weight * tr K / R,   tr K = sum of ||dz_ic / dw||² over samples i and outputs c
                                  = E_v ||d(sum v * z) / dw||²

K is the empirical neural tangent kernel of the batch (`metrics.similarity`). A step estimates its
trace with one v, without bias. The paper, too, penalises only the trace.

Use it if a network memorises noisy labels. A step needs second derivatives.

Notes:
- It differs from `implicit_gradient`: the gradient of the loss is zero at the least loss, the
  gradient of the logits is not.
- The trace is divided by R, so that a weight means the same at all batch sizes.

Kind: penalty

Paper: Szolnoky et al., "On the interpretability of regularisation for neural networks through model
gradient similarity", NeurIPS 2022.

Shapes: B samples, C outputs, R = B x C.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mimic_reg.methods._penalty import Penalty, squared_norm
from mimic_reg.methods.base import Fit, Step, trainable


def trace_estimate(logits: Tensor, v: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return ||J'v||² / R, differentiable; v: (B, C) of ±1."""
    gradients = torch.autograd.grad(
        (logits * v).sum(), parameters, create_graph=True, materialize_grads=True
    )
    return squared_norm(gradients) / logits.numel()


class ModelGradientSimilarity(Penalty):
    """Penalise the trace of the kernel.

    weight: weight of the trace, which is divided by samples and outputs
    """

    needs = frozenset({"double_backward"})

    def __init__(self, weight: float = 1e-4) -> None:
        super().__init__(weight)

    def penalty(self, step: Step, fit: Fit) -> Tensor:
        v = torch.empty_like(step.logits).bernoulli_(0.5, generator=fit.generator).mul_(2).sub_(1)
        return trace_estimate(step.logits, v, trainable(step.model))


build = ModelGradientSimilarity
