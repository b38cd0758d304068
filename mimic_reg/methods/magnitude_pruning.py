"""Magnitude pruning: the smallest weights become zero while the others go on learning.

Han et al., NeurIPS 2015, arXiv 1506.02626; the gradual schedule of Zhu & Gupta, arXiv 1710.01878:
see `_pruning.py`. The share goes over all weight matrices and kernels together, by |w|; biases and
norms are left alone. `deviations` is Han's own rule instead: once, at the end of the ramp, each
tensor loses the weights below so many of its standard deviations, and `sparsity` is not used.

A method that selects parameters (ITPS) goes on accounting for pruned ones; they stay zero.

Kind: pruning
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods._pruning import Pruning
from mimic_reg.methods.base import Options, require
from mimic_reg.methods.norm_penalty import weights
from mimic_reg.models.base import Model


@torch.no_grad()
def smallest(tensors: list[Tensor], share: float) -> list[Tensor]:
    """Return where the share of smallest |w| over all tensors is, True there."""
    flat = torch.cat([tensor.abs().flatten() for tensor in tensors])
    where = torch.zeros_like(flat, dtype=torch.bool)
    where[flat.topk(round(share * len(flat)), largest=False).indices] = True
    parts = torch.split(where, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def below_deviations(tensor: Tensor, deviations: float) -> Tensor:
    """Return where |w| is below so many standard deviations of the tensor."""
    return tensor.abs() < deviations * tensor.std()


@final
class MagnitudePruning(Pruning):
    """Prunes weights."""

    neutral: ClassVar[Options] = {"sparsity": 0.0}

    def __init__(self, sparsity: float, ramp: float, every: int, deviations: float | None) -> None:
        name = "magnitude_pruning"
        require(0 <= sparsity < 1, name, "sparsity must be in [0, 1)", sparsity)
        positive = deviations is None or deviations > 0
        require(positive, name, "deviations must be above 0, or null", deviations)
        super().__init__(name, sparsity if deviations is None else 1.0, ramp, every)
        self.deviations = deviations

    def targets(self, model: Model) -> list[Tensor]:
        """Return all weight matrices and kernels."""
        return weights(model)

    def prune(self, share: float) -> None:
        """Mark the smallest weights."""
        if self.deviations is None:
            for own, found in zip(
                self.pruned.values(), smallest(list(self.pruned), share), strict=True
            ):
                own.copy_(found)
        elif self.reached:
            for parameter, own in self.pruned.items():
                own.copy_(below_deviations(parameter, self.deviations))


def build(
    sparsity: float = 0.8, ramp: float = 0.5, every: int = 1, deviations: float | None = None
) -> MagnitudePruning:
    """The method.

    sparsity:   final share of weights that are zero
    ramp:       share of `max_epochs` after which it is reached
    every:      epochs between two prunings
    deviations: Han's rule instead: a tensor's weights below so many standard deviations
    """
    return MagnitudePruning(sparsity, ramp, every, deviations)
