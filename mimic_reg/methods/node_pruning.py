"""Node pruning: remove units that hardly reach the next layer.

The score of a unit i is the mean size of its outgoing weights ("onorm")::

    score_i = mean_j |W_next[j, i]|

The units with the lowest scores in each hidden dense layer are removed: their rows and biases, and
their columns of the next layer, become zero and stay zero. The share of removed units grows to
`share` as in `magnitude_pruning`.

Use it if a dense network may have more units than it needs. It needs epochs after the pruning.

Notes:
- At least one unit of each layer stays.
- Dense layers only: recurrences, attention and convolutions have no such units.
- Epochs before the final share is reached are not selected, and do not count for patience.

Kind: pruning

Paper: He, Fan, Qian, Tan, Yu, "Reshaping deep neural network for fast decoding by node-pruning",
ICASSP 2014.
"""

import torch
from torch import Tensor

from mimic_reg.methods._dense import dense_pairs
from mimic_reg.methods._pruning import Pruning
from mimic_reg.methods.base import require
from mimic_reg.models.base import Model

_NOT_PLAIN = "nodes are removed from plain weights, and these are computed in each pass."
EXCLUDES = dict.fromkeys(("drop_connect", "weight_compander", "weight_noise"), _NOT_PLAIN)


@torch.no_grad()
def outgoing_norm(weight: Tensor) -> Tensor:
    """Return the scores (N,) of the units that feed a layer; weight: (outputs, N)."""
    return weight.abs().mean(dim=0)


class NodePruning(Pruning):
    """Prune units.

    share: final share of the units of a hidden layer that are removed
    ramp:  share of `max_epochs` after which it is reached
    every: epochs between two prunings
    """

    neutral = {"share": 0.0}

    def __init__(self, share: float = 0.5, ramp: float = 0.5, every: int = 1) -> None:
        require(0 <= share < 1, "node_pruning", "share must be in [0, 1)", share)
        super().__init__("node_pruning", share, ramp, every)

    def targets(self, model: Model) -> list[Tensor]:
        self.pairs = dense_pairs(model, "node_pruning")
        layers = dict.fromkeys(layer for pair in self.pairs for layer in pair)
        return [p for layer in layers for p in layer.parameters()]

    def prune(self, share: float) -> None:
        for layer, following in self.pairs:
            scores = outgoing_norm(following.weight)
            count = min(round(share * len(scores)), len(scores) - 1)
            units = scores.topk(count, largest=False).indices
            self.pruned[layer.weight][units] = True
            self.pruned[layer.bias][units] = True
            self.pruned[following.weight][:, units] = True


build = NodePruning
