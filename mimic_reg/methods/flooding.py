"""Flooding: the training loss is kept at a level: Ishida et al., ICML 2020.

|L - level| + level, with L the mean over the mini-batch. Below the level the gradient turns its
sign, and the loss rises again.

Rulings: it acts on the objective as it is when its turn comes, so list it after penalties, or give
`scope="data"`, which floods the data loss alone and leaves penalties as they are. A method that
integrates gradients, as ITPS, also integrates the turned ones.
"""

from typing import ClassVar, Literal, final

from torch import Tensor

from mimic_reg.methods.base import Fit, Options, Regulariser, Step, require

Scope = Literal["objective", "data"]


def flooded(loss: Tensor, level: float) -> Tensor:
    """Return the loss, turned at the level."""
    return (loss - level).abs() + level


@final
class Flooding(Regulariser):
    """Floods the loss."""

    neutral: ClassVar[Options] = {"level": 0.0}

    def __init__(self, level: float, scope: Scope) -> None:
        require(level >= 0, "flooding", "level must be at least 0", level)
        scopes = ("objective", "data")
        require(scope in scopes, "flooding", f"scope must be one of {scopes}", scope)
        self.level, self.scope = level, scope

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Flood it."""
        if self.level == 0:
            return loss
        if self.scope == "objective":
            return flooded(loss, self.level)
        data = step.per_sample.mean()
        return loss - data + flooded(data, self.level)


def build(level: float = 0.03, scope: Scope = "objective") -> Flooding:
    """Return the method; `level` is a loss, `scope` what is flooded: objective or data."""
    return Flooding(level, scope)
