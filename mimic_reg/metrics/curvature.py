"""What is measured of a fit beside its scores: curvature, and how far parameters moved.

Functions of losses and tensors, which know no model and no engine.

Shapes: V random vectors, P parameters.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Edges of the histogram of deviations: ten bins a decade. What is smaller or larger than all of
# them counts in the first or last bin, what did not move at all in none.
DEVIATION_EDGES = np.logspace(-9, 2, 111)


@dataclass(frozen=True)
class Estimate:
    """A mean of `n` random samples and its standard error; nan for a single one."""

    mean: float
    standard_error: float
    n: int


def estimate(samples: Tensor) -> Estimate:
    """Mean and standard error of samples (V,)."""
    n = len(samples)
    error = float(samples.std()) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(samples.mean()), error, n)


def hessian_trace_samples(
    losses: Iterable[tuple[Callable[[], Tensor], int]],
    parameters: Sequence[Tensor],
    num_vectors: int,
    generator: torch.Generator,
) -> Tensor:
    """Hutchinson's samples v·Hv (V,), whose mean is an unbiased estimate of the Hessian's trace.

    The elements of v are ±1 with equal probability (Rademacher), so that the variance of a sample
    is 2 (||H||²_F - sum of H_ii²): nothing of it comes from the diagonal. Hv is the gradient of
    g·v. It is linear in the loss, so each batch adds its share and only its own graph is held.

    losses:     batches: a function that gives the mean loss of a batch, and its number of samples;
                the Hessian is that of the mean over all samples
    parameters: what the loss is differentiated by
    generator:  on the parameters' device; all batches see the same vectors
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
    """v·Hv of the next v; the gradients keep their graph."""
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


@dataclass(frozen=True)
class Deviations:
    """How far parameters are from where they started.

    total:   parameters
    moved:   those that are not exactly where they were
    counts:  how many moved by how much, by the bins of DEVIATION_EDGES
    median:  of the distances of those that moved; nan if none did
    largest: of all distances
    """

    total: int
    moved: int
    counts: np.ndarray
    median: float
    largest: float


def deviations(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Deviations:
    """|after - before| of all parameters of `before`, elementwise."""
    pairs = [(start.double(), after[name].double()) for name, start in before.items()]
    distance = torch.cat([(end - start).abs().flatten() for start, end in pairs]).numpy()
    far = distance[distance > 0]
    clipped = np.clip(far, DEVIATION_EDGES[0], DEVIATION_EDGES[-1])
    return Deviations(
        total=len(distance),
        moved=len(far),
        counts=np.histogram(clipped, DEVIATION_EDGES)[0],
        median=float(np.median(far)) if len(far) else math.nan,
        largest=float(distance.max()),
    )
