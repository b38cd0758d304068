"""Flooding: keep the training loss from falling below a level.

Formula, with L the mean over the batch::

    |L - level| + level

Below the level the gradient changes its sign, so the loss rises again.

Use it if the training loss goes to zero. Search the level: it is a training loss.

Notes:
- It acts on the objective at its place in the list, so list it after penalties. `scope: data`
  floods the data loss alone and leaves penalties as they are.
- A method that integrates gradients, such as ITPS, also integrates those with the changed sign.

Kind: penalty

Paper: Ishida et al., "Do we need zero training loss after achieving zero training error?", ICML
2020.
"""

from typing import Literal

from torch import Tensor

from mimic_reg.methods.base import Fit, Regulariser, Step, require

Scope = Literal["objective", "data"]


def flooded(loss: Tensor, level: float) -> Tensor:
    """Return |loss - level| + level."""
    return (loss - level).abs() + level


class Flooding(Regulariser):
    """Flood the loss.

    level: the loss below which the gradient changes its sign
    scope: what is flooded: objective or data
    """

    neutral = {"level": 0.0}

    def __init__(self, level: float = 0.03, scope: Scope = "objective") -> None:
        require(level >= 0, "flooding", "level must be at least 0", level)
        scopes = ("objective", "data")
        require(scope in scopes, "flooding", f"scope must be one of {scopes}", scope)
        self.level, self.scope = level, scope

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        if self.level == 0:
            return loss
        if self.scope == "objective":
            return flooded(loss, self.level)
        data = step.per_sample.mean()
        return loss - data + flooded(data, self.level)


build = Flooding
