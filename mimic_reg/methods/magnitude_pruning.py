"""Magnitude pruning: set the smallest weights to zero while the others go on learning.

The share of weights that are zero grows to `sparsity` over the first E = ramp * max_epochs epochs.
After epoch e it is::

    sparsity * (1 - (1 - e / E)³)

The share is taken over all weight matrices and kernels together, by |w|. Biases and norms stay.

Use it if a model should become smaller, or to see how many weights it needs. It needs epochs after
the pruning.

Notes:
- Pruned weights stay zero, and so do their moments in the optimiser.
- Epochs before the final share is reached are not selected, and do not count for patience.
- `deviations` is the rule of the first paper: once, at the end of the ramp, each tensor loses the
  weights below so many of its standard deviations. `sparsity` is then not used.
- A method that selects parameters (ITPS) still accounts for pruned ones; they stay zero.

Kind: pruning

Paper: Han et al., "Learning both weights and connections for efficient neural networks", NeurIPS
2015, arXiv 1506.02626; Zhu & Gupta, "To prune, or not to prune", 2017, arXiv 1710.01878.
"""

import torch
from torch import Tensor

from mimic_reg.methods._penalty import weights
from mimic_reg.methods._pruning import Pruning
from mimic_reg.methods.base import require
from mimic_reg.models.base import Model


@torch.no_grad()
def smallest(tensors: list[Tensor], share: float) -> list[Tensor]:
    """Return masks that are True at the share of smallest |w| over all tensors."""
    flat = torch.cat([tensor.abs().flatten() for tensor in tensors])
    where = torch.zeros_like(flat, dtype=torch.bool)
    where[flat.topk(round(share * len(flat)), largest=False).indices] = True
    parts = torch.split(where, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def below_deviations(tensor: Tensor, deviations: float) -> Tensor:
    """Return a mask that is True where |w| is below so many standard deviations of the tensor."""
    return tensor.abs() < deviations * tensor.std()


class MagnitudePruning(Pruning):
    """Prune weights.

    sparsity:   final share of weights that are zero
    ramp:       share of `max_epochs` after which it is reached
    every:      epochs between two prunings
    deviations: prune a tensor's weights below so many standard deviations instead
    """

    neutral = {"sparsity": 0.0}

    def __init__(
        self,
        sparsity: float = 0.8,
        ramp: float = 0.5,
        every: int = 1,
        deviations: float | None = None,
    ) -> None:
        name = "magnitude_pruning"
        require(0 <= sparsity < 1, name, "sparsity must be in [0, 1)", sparsity)
        positive = deviations is None or deviations > 0
        require(positive, name, "deviations must be above 0, or null", deviations)
        super().__init__(name, sparsity if deviations is None else 1.0, ramp, every)
        self.deviations = deviations

    def targets(self, model: Model) -> list[Tensor]:
        return weights(model)

    def prune(self, share: float) -> None:
        if self.deviations is None:
            found = smallest(list(self.pruned), share)
            for own, where in zip(self.pruned.values(), found, strict=True):
                own.copy_(where)
        elif self.reached:
            for parameter, own in self.pruned.items():
                own.copy_(below_deviations(parameter, self.deviations))


build = MagnitudePruning
