"""How far parameters moved from where they started."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Edges of the histogram of deviations: ten bins a decade. What is smaller or larger than all of
# them counts in the first or last bin, what did not move at all in none.
DEVIATION_EDGES = np.logspace(-9, 2, 111)


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
