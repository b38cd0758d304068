"""Model gradient similarity as a penalty: the gradients of all outputs should be alike.

L + weight * tr K / R, K the empirical neural tangent kernel of the batch (`metrics.similarity`).
Szolnoky et al., NeurIPS 2022, who penalise the trace only, too. tr K is the sum of the squared
norms of the gradients of all logits of all samples by the parameters. A step estimates it with one
vector v of random signs: ||J'v||², J'v the gradient of the sum of v * logits, is unbiased.

It is not the implicit gradient penalty: the gradient of the loss vanishes where the loss is least,
that of the logits does not.

Ruling: divided by R, samples times outputs, so that a weight means the same at all batch sizes.

Shapes: B samples, C outputs, R = B x C.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require, trainable


def trace_estimate(logits: Tensor, v: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return ||J'v||² / R, differentiable; v (B, C) of ±1."""
    gradients = torch.autograd.grad(
        (logits * v).sum(), parameters, create_graph=True, materialize_grads=True
    )
    return torch.stack([g.square().sum() for g in gradients]).sum() / logits.numel()


@final
class ModelGradientSimilarity(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float) -> None:
        require(weight >= 0, "mgs", "weight must be at least 0", weight)
        self.weight = weight
        if weight > 0:  # else the plain kernels, hence the baseline's bits
            self.needs = frozenset[Need]({"double_backward"})

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        v = torch.empty_like(step.logits).bernoulli_(0.5, generator=fit.generator).mul_(2).sub_(1)
        return loss + self.weight * trace_estimate(step.logits, v, trainable(step.model))


def build(weight: float = 1e-4) -> ModelGradientSimilarity:
    """The method; `weight` of the trace, divided by samples and outputs."""
    return ModelGradientSimilarity(weight)
