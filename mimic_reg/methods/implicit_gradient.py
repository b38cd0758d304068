"""Implicit gradient regularisation: penalise gradient norms, as gradient descent itself does.

Formula, with a the learning rate, g the gradient of the batch and g_b that of its part b::

    L + a/4 * (gradient * ||g||² + variance * mean_b ||g_b - g||²)

Gradient descent with learning rate a follows the flow of L + a/4 ||dL/dw||² (first paper). The
noise of mini-batches adds the second term (second paper). This method adds both terms to the loss,
each times a strength. Strength 1 is the size of the implicit term. As a/4 is often only 2.5e-4, use
larger strengths.

Use it if flat solutions generalise better. A step needs second derivatives.

Notes:
- Parts of unequal size count by their samples, so g is the gradient of the batch.
- L is the data loss, without penalties of other methods.

Kind: penalty

Paper: Barrett & Dherin, "Implicit gradient regularization", ICLR 2021; Smith et al., "On the origin
of implicit regularization in stochastic gradient descent", ICLR 2021.

Shapes: B samples.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mimic_reg.methods._penalty import squared_norm
from mimic_reg.methods.base import Fit, Regulariser, Step, require, trainable

Gradient = list[Tensor]


def gradient_of(loss: Tensor, parameters: Sequence[Tensor]) -> Gradient:
    """Return the differentiable gradient of a loss; zeros for parameters it does not depend on."""
    found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def parts_of(per_sample: Tensor, count: int, parameters: Sequence[Tensor]) -> list[Gradient]:
    """Return the gradients of up to `count` parts of a batch, each times its share of the batch.

    So their sum is the gradient of the batch.
    """
    parts = [part for part in per_sample.tensor_split(count) if len(part)]
    return [gradient_of(part.sum() / len(per_sample), parameters) for part in parts]


def terms(per_sample: Tensor, count: int, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return ||g||² and mean_b ||g_b - g||² = mean_b ||g_b||² - ||g||².

    per_sample: (B,) losses
    """
    parts = parts_of(per_sample, count, parameters)
    sizes = [len(part) for part in per_sample.tensor_split(count) if len(part)]
    whole = squared_norm([torch.stack(tensors).sum(0) for tensors in zip(*parts, strict=True)])
    shares = [size / len(per_sample) for size in sizes]
    # a part holds share * g_b, so its square is share² ||g_b||²
    squares = [squared_norm(p) / share for p, share in zip(parts, shares, strict=True)]
    return whole, torch.stack(squares).sum() - whole


class ImplicitGradient(Regulariser):
    """Add both terms.

    gradient: strength of ||g||², the term of gradient descent
    variance: strength of mean_b ||g_b - g||², the term of SGD
    parts:    number of parts of a batch, for the second term
    """

    neutral = {"gradient": 0.0, "variance": 0.0}

    def __init__(self, gradient: float = 40.0, variance: float = 0.0, parts: int = 2) -> None:
        name = "implicit_gradient"
        require(gradient >= 0, name, "gradient must be at least 0", gradient)
        require(variance >= 0, name, "variance must be at least 0", variance)
        require(parts >= 2, name, "parts must be at least 2", parts)
        self.gradient, self.variance, self.parts = gradient, variance, parts
        if gradient or variance:  # otherwise the plain kernels, hence the baseline's bits
            self.needs = frozenset({"double_backward"})

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        if not self.needs:
            return loss
        parameters = trainable(step.model)
        weight: float = self.base.param_groups[0]["lr"] / 4
        if not self.variance:
            gradient = gradient_of(step.per_sample.mean(), parameters)
            return loss + weight * self.gradient * squared_norm(gradient)
        whole, variance = terms(step.per_sample, self.parts, parameters)
        return loss + weight * (self.gradient * whole + self.variance * variance)


build = ImplicitGradient
