"""Transfer learning in two phases: for the first epochs only the head learns, then everything.

Kind: transfer

A new head's first gradients are large and say little; a trained trunk that they reach forgets what
it knew. While frozen, the trunk's parameters have no gradient: their moments and their
accounting in other methods begin when they thaw. Patience of early stopping counts from then on.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods.base import Event, Fit, Options, Regulariser, require, trainable
from mimic_reg.models.base import Model, require_head


@final
class FreezeTrunk(Regulariser):
    """Freezes the trunk and thaws it."""

    neutral: ClassVar[Options] = {"epochs": 0}

    def __init__(self, epochs: int) -> None:
        require(epochs >= 0, "freeze_trunk", "epochs must be at least 0", epochs)
        self.epochs = epochs
        self.frozen = False
        self.parameters: list[Tensor] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, whose parameters are complete when the optimiser is made."""
        require_head(model, "freeze_trunk")
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Find the parameters that are trained; they stay the optimiser's."""
        self.parameters = trainable(self.model.trunk)
        return optimizer

    def tick(self, event: Event, fit: Fit) -> None:
        """Freeze or thaw before an epoch."""
        if event == "epoch_start":
            self._freeze(fit.epoch < self.epochs)
        if event == "epoch_end" and self.frozen:
            fit.started = False

    def _freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)

    def state_dict(self) -> dict[str, Any]:
        """The phase."""
        return {"frozen": self.frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self._freeze(bool(state["frozen"]))


def build(epochs: int = 3) -> FreezeTrunk:
    """The method; `epochs` in which only the head learns."""
    return FreezeTrunk(epochs)
