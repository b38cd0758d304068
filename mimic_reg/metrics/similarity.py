"""Model gradient similarity: how alike are the gradients of a model's outputs over samples?

J has the gradient of every logit of every sample. K = J J' is the empirical neural tangent kernel
of the batch. The smaller the trace and the log-determinant of K, the more alike the gradients are,
and the more alike the model treats samples.

Functions of losses and tensors, independent of models and the engine.

Shapes: N samples, C outputs, R = N x C rows, P parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

JITTER = 1e-6  # on K's diagonal, as a share of its mean: K is singular if R > P or units are dead

AT_ONCE = 65_536  # parameters of a block of J


@dataclass(frozen=True)
class Similarity:
    """trace: tr K / R; log_det: log det (K + jitter) / R."""

    trace: float
    log_det: float


def gradient_rows(
    logits_of: Sequence[Callable[[], Tensor]], parameters: Sequence[Tensor]
) -> Tensor:
    """Return J (R, P), the gradient of each logit of each sample: R backward passes.

    logits_of: for each sample, a function that returns its logits (C,)
    """
    rows: list[Tensor] = []
    for logits in (sample() for sample in logits_of):
        for c, logit in enumerate(logits):
            gradients = torch.autograd.grad(
                logit, parameters, retain_graph=c + 1 < len(logits), materialize_grads=True
            )
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    return torch.stack(rows)


def similarity(rows: Tensor) -> Similarity:
    """Return the metrics of J (R, P)."""
    kernel = rows.new_zeros(len(rows), len(rows), dtype=torch.float64)
    # in blocks, because all of J in float64 would need twice its memory
    for block in torch.split(rows, AT_ONCE, dim=1):
        columns = block.double()
        kernel += columns @ columns.T
    trace = float(kernel.diagonal().mean())
    values = torch.linalg.eigvalsh(kernel).clamp(min=0) + JITTER * trace
    return Similarity(trace, float(values.log().mean()))
