"""Implicit gradient regularisation, made explicit: Barrett & Dherin, ICLR 2021.

Steps of gradient descent with learning rate a follow the flow of another loss,
L + a/4 ||dL/dw||². Smith et al., ICLR 2021, add what the noise of mini-batches does:
a/4 mean_b ||g_b - g||², with g_b the gradient of part b of the batch and g their mean. Both terms
together are a/4 mean_b ||g_b||². Here they are added to the loss, each times a strength, with a the
learning rate that the optimiser has at the step. Strength 1 is the size of the implicit term, which
a/4 = 2.5e-4 makes tiny: use larger ones.

Ruling: parts of unequal size count by their samples, so that g is the gradient of the batch.
Penalties of other methods are no part of L.

Shapes: B samples.
"""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods.base import Fit, Need, Options, Regulariser, Step, require, trainable

Gradient = list[Tensor]


def gradient_of(loss: Tensor, parameters: Sequence[Tensor]) -> Gradient:
    """Return the gradient of a loss, differentiable, for the parameters that it depends on."""
    found = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def squared(gradient: Gradient) -> Tensor:
    """Return the squared norm."""
    return torch.stack([g.square().sum() for g in gradient]).sum()


def parts_of(per_sample: Tensor, count: int, parameters: Sequence[Tensor]) -> list[Gradient]:
    """Return the gradients g_b of up to `count` parts of a batch, each times its share of B.

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
    whole = squared([torch.stack(tensors).sum(0) for tensors in zip(*parts, strict=True)])
    shares = [size / len(per_sample) for size in sizes]
    # a part holds share x g_b, so its square is share² ||g_b||²
    mean = torch.stack([squared(p) / share for p, share in zip(parts, shares, strict=True)]).sum()
    return whole, mean - whole


@final
class ImplicitGradient(Regulariser):
    """Adds the terms."""

    neutral: ClassVar[Options] = {"gradient": 0.0, "variance": 0.0}

    def __init__(self, gradient: float, variance: float, parts: int) -> None:
        name = "implicit_gradient"
        require(gradient >= 0, name, "gradient must be at least 0", gradient)
        require(variance >= 0, name, "variance must be at least 0", variance)
        require(parts >= 2, name, "parts must be at least 2", parts)
        self.gradient, self.variance, self.parts = gradient, variance, parts
        if gradient or variance:  # else the plain kernels, hence the baseline's bits
            self.needs = frozenset[Need]({"double_backward"})

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Keep the optimiser, which has the learning rate."""
        self.base = optimizer
        return optimizer

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the terms."""
        if not self.needs:
            return loss
        parameters = trainable(step.model)
        weight: float = self.base.param_groups[0]["lr"] / 4
        if not self.variance:
            gradient = gradient_of(step.per_sample.mean(), parameters)
            return loss + weight * self.gradient * squared(gradient)
        whole, variance = terms(step.per_sample, self.parts, parameters)
        return loss + weight * (self.gradient * whole + self.variance * variance)


def build(gradient: float = 40.0, variance: float = 0.0, parts: int = 2) -> ImplicitGradient:
    """Return the method.

    gradient: strength of the term of gradient descent, ||g||²
    variance: strength of the term of SGD, mean_b ||g_b - g||²
    parts:    of a batch, for the second term
    """
    return ImplicitGradient(gradient, variance, parts)
