"""Fan-in or fan-out penalty: a group norm that can switch units of a dense network off.

Philipp & Carbonell, "Nonparametric neural networks", ICLR 2017, arXiv 1712.05440. With W_l of shape
(outputs, inputs), L + weight * sum over layers of the p-norms of the rows of W_l (fan-in of each
unit), or of its columns (fan-out). A unit whose group reaches zero is gone.

Rulings: p = 2 by default, and a small constant under the root, for at zero the norm has no
gradient. Growing the network by adding units, the paper's other half, is left out. Networks of
dense layers only: the source says that it "cannot be applied with recurrences".
"""

from typing import ClassVar, Literal, final

from torch import Tensor, nn

from mimic_reg.errors import InputError
from mimic_reg.methods._dense import dense_pairs
from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require
from mimic_reg.methods.norm_penalty import weights
from mimic_reg.models.base import Model

Fan = Literal["in", "out"]

SMALL = 1e-12


def group_norms(weight: Tensor, fan: Fan, p: float) -> Tensor:
    """Return the sum of the p-norms of rows (fan "in") or columns ("out") of (outputs, inputs)."""
    powers = weight.abs().pow(p) if p != 2 else weight.square()
    return (powers.sum(dim=1 if fan == "in" else 0) + SMALL).pow(1 / p).sum()


@final
class FanPenalty(Regulariser):
    """Adds the penalty."""

    neutral: ClassVar[Options] = {"weight": 0.0}

    def __init__(self, weight: float, fan: Fan, p: float) -> None:
        require(weight >= 0, "fan_penalty", "weight must be at least 0", weight)
        require(fan in ("in", "out"), "fan_penalty", "fan must be 'in' or 'out'", fan)
        require(p >= 1, "fan_penalty", "p must be at least 1", p)
        self.weight, self.fan, self.p = weight, fan, p
        self.layers: list[nn.Linear] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Find the dense layers.

        Raises:
            InputError: the model is not made of dense layers alone.
        """
        pairs = dense_pairs(model, "fan_penalty")
        self.layers = list(dict.fromkeys(layer for pair in pairs for layer in pair))
        if len(weights(model)) != len(self.layers):
            raise InputError(
                "fan_penalty: the model has other weights than those of dense layers. It is for "
                "networks of dense layers alone: dnn."
            )
        return model

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add the penalty."""
        if self.weight == 0:
            return loss
        for layer in self.layers:
            loss = loss + self.weight * group_norms(layer.weight, self.fan, self.p)
        return loss


def build(weight: float = 1e-4, fan: Fan = "in", p: float = 2.0) -> FanPenalty:
    """The method; `fan`: norms of what a unit receives ("in") or of what it gives ("out")."""
    return FanPenalty(weight, fan, p)
