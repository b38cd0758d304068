"""How far parameters moved from their start."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Edges of the histogram of deviations: ten bins for each power of ten. Smaller and larger values
# count in the first and last bin. Parameters that did not move are in no bin.
DEVIATION_EDGES = np.logspace(-9, 2, 111)


@dataclass(frozen=True)
class Deviations:
    """Distances of parameters from their start.

    total:   number of parameters
    moved:   number of those that are not exactly at their start
    counts:  of moved parameters in the bins of DEVIATION_EDGES
    median:  of the distances of moved parameters; nan if none moved
    largest: of all distances
    """

    total: int
    moved: int
    counts: np.ndarray
    median: float
    largest: float


def deviations(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Deviations:
    """Return the elementwise |after - before| of all parameters of `before`, summarised."""
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
