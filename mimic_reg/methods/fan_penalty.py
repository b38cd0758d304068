"""Fan-in or fan-out penalty: a group norm that can switch off units of a dense network.

Formula, with W_l of shape (outputs, inputs)::

    L + weight * sum_l sum_u (||W_l[u]||_p^p + 1e-12)^(1 / p)

W_l[u] is row u (fan-in: what unit u receives), or column u (fan-out: what it passes on). A unit
whose group reaches zero is gone.

Use it if a dense network may have more units than it needs.

Notes:
- p = 2 by default. The small constant under the root gives the norm a gradient at zero.
- The paper's other half, adding units during training, is not implemented.
- For networks of dense layers only: the paper says that it "cannot be applied with recurrences".

Kind: penalty

Paper: Philipp & Carbonell, "Nonparametric neural networks", ICLR 2017, arXiv 1712.05440.
"""

from typing import Literal

from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.methods._dense import dense_pairs
from mimic_reg.methods._penalty import Penalty, weights
from mimic_reg.methods.base import Fit, Step, require
from mimic_reg.models.base import Model

Fan = Literal["in", "out"]

SMALL = 1e-12


def group_norms(weight: Tensor, fan: Fan, p: float) -> Tensor:
    """Return the sum of the p-norms of rows (fan "in") or columns ("out") of (outputs, inputs)."""
    powers = weight.abs().pow(p) if p != 2 else weight.square()
    return (powers.sum(dim=1 if fan == "in" else 0) + SMALL).pow(1 / p).sum()


class FanPenalty(Penalty):
    """Penalise the norms of the units' weights.

    weight: weight of the penalty
    fan:    norms of what a unit receives ("in") or passes on ("out")
    p:      order of the norm
    """

    def __init__(self, weight: float = 1e-4, fan: Fan = "in", p: float = 2.0) -> None:
        super().__init__(weight)
        require(fan in ("in", "out"), "fan_penalty", "fan must be 'in' or 'out'", fan)
        require(p >= 1, "fan_penalty", "p must be at least 1", p)
        self.fan, self.p = fan, p

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the dense layers.

        Raises:
            InputError: the model has other weights too.
        """
        pairs = dense_pairs(model, "fan_penalty")
        self.layers = list(dict.fromkeys(layer for pair in pairs for layer in pair))
        if len(weights(model)) != len(self.layers):
            raise InputError(
                "fan_penalty: the model has other weights than those of dense layers. Use it with "
                "a network of dense layers alone: dnn."
            )
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        for layer in self.layers if self.weight else ():
            loss = loss + self.weight * group_norms(layer.weight, self.fan, self.p)
        return loss


build = FanPenalty
