"""Node pruning by the norm of outgoing weights: units that hardly reach the next layer are removed.

He, Fan, Qian, Tan, Yu, "Reshaping deep neural network for fast decoding by node-pruning", ICASSP
2014 ("onorm"). The score of a unit is the mean |w| of its outgoing weights,
score_i = mean_j |W_next[j, i]|; the lowest share of each hidden dense layer is removed: its row and
bias and the column of the next layer become zero and stay so. The schedule is in `_pruning.py`.

Ruling: at least one unit of a layer stays. Dense layers only; recurrences, attention and
convolutions have no such units.

Kind: pruning
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from mimic_reg.methods._dense import dense_pairs
from mimic_reg.methods._pruning import Pruning
from mimic_reg.methods.base import Options, require
from mimic_reg.models.base import Model

_NOT_PLAIN = "nodes are removed from plain weights, and these are computed in each pass."
EXCLUDES = dict.fromkeys(("drop_connect", "weight_compander", "weight_noise"), _NOT_PLAIN)


@torch.no_grad()
def outgoing_norm(weight: Tensor) -> Tensor:
    """Return the scores (N,) of the units that feed a layer; weight: (outputs, N)."""
    return weight.abs().mean(dim=0)


@final
class NodePruning(Pruning):
    """Prunes units."""

    neutral: ClassVar[Options] = {"share": 0.0}

    def __init__(self, share: float, ramp: float, every: int) -> None:
        require(0 <= share < 1, "node_pruning", "share must be in [0, 1)", share)
        super().__init__("node_pruning", share, ramp, every)

    def targets(self, model: Model) -> list[Tensor]:
        """Return weights and biases of the dense layers.

        Raises:
            InputError: the model has no hidden dense layers.
        """
        self.pairs = dense_pairs(model, "node_pruning")
        layers = dict.fromkeys(layer for pair in self.pairs for layer in pair)
        return [p for layer in layers for p in layer.parameters()]

    def prune(self, share: float) -> None:
        """Mark rows, biases and columns of the units with the lowest scores."""
        for layer, following in self.pairs:
            scores = outgoing_norm(following.weight)
            count = min(round(share * len(scores)), len(scores) - 1)
            units = scores.topk(count, largest=False).indices
            self.pruned[layer.weight][units] = True
            self.pruned[layer.bias][units] = True
            self.pruned[following.weight][:, units] = True


def build(share: float = 0.5, ramp: float = 0.5, every: int = 1) -> NodePruning:
    """The method.

    share: of the units of a hidden layer that are removed in the end
    ramp:  share of `max_epochs` after which that is reached
    every: epochs between two prunings
    """
    return NodePruning(share, ramp, every)
