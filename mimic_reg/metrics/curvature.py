"""Curvature of a loss: Hutchinson's estimate of the trace of its Hessian.

Functions of losses and tensors, independent of models and the engine.

Shapes: V random vectors, P parameters.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` random samples and its standard error; nan for a single one."""

    mean: float
    standard_error: float
    n: int


def estimate(samples: Tensor) -> Estimate:
    """Return mean and standard error of samples (V,)."""
    n = len(samples)
    error = float(samples.std()) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(samples.mean()), error, n)


def hessian_trace_samples(
    losses: Iterable[tuple[Callable[[], Tensor], int]],
    parameters: Sequence[Tensor],
    num_vectors: int,
    generator: torch.Generator,
) -> Tensor:
    """Return Hutchinson's samples v·Hv (V,); their mean is an unbiased estimate of the trace.

    The elements of v are ±1 with equal probability (Rademacher), so the variance of a sample is
    2 (||H||²_F - sum of H_ii²), and the diagonal does not contribute to it. Hv is the gradient of
    g·v. It is linear in the loss, so each batch adds its share, and only the graph of one batch is
    in memory.

    losses:     batches: a function that returns the mean loss of a batch, and its number of
                samples; the Hessian is that of the mean over all samples
    parameters: of the derivative
    generator:  on the parameters' device; all batches have the same vectors
    """
    device = parameters[0].device
    total = torch.zeros(num_vectors, dtype=torch.float64, device=device)
    start, count = generator.get_state(), 0
    for loss, size in losses:
        generator.set_state(start)
        count += size
        gradients = torch.autograd.grad(
            loss(), parameters, create_graph=True, materialize_grads=True
        )
        for i in range(num_vectors):
            total[i] += size * _quadratic_form(gradients, parameters, generator)
    return total.cpu() / count


def _quadratic_form(
    gradients: Sequence[Tensor], parameters: Sequence[Tensor], generator: torch.Generator
) -> Tensor:
    """Return v·Hv of the next v; the gradients keep their graph."""
    vector = [_rademacher(parameter, generator) for parameter in parameters]
    product = _dot(gradients, vector)
    if not product.requires_grad:  # the loss is linear in all parameters
        return product.new_zeros(())
    hv = torch.autograd.grad(product, parameters, retain_graph=True, materialize_grads=True)
    return _dot(hv, vector)


def _rademacher(like: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(
        0, 2, like.shape, generator=generator, dtype=like.dtype, device=like.device
    )
    return drawn.mul_(2).sub_(1)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.stack([(x * y).sum() for x, y in zip(a, b, strict=True)]).sum()
