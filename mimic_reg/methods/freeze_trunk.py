"""Freezing the trunk: for the first epochs train only the head, then everything.

Use it if a model starts from a trained trunk. The first gradients of a new head are large and carry
little information; they would overwrite what the trunk has learned.

Notes:
- A frozen trunk has no gradients, so its moments in the optimiser and its accounting in other
  methods begin when it thaws. Patience of early stopping counts from then on.

Kind: transfer
"""

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer

from mimic_reg.methods.base import Event, Fit, Regulariser, require, trainable
from mimic_reg.models.base import Model, require_head


class FreezeTrunk(Regulariser):
    """Freeze the trunk, then thaw it.

    epochs: number of first epochs in which only the head is trained
    """

    neutral = {"epochs": 0}

    def __init__(self, epochs: int = 3) -> None:
        require(epochs >= 0, "freeze_trunk", "epochs must be at least 0", epochs)
        self.epochs, self.frozen = epochs, False

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Refuse a model without a head."""
        require_head(model, "freeze_trunk")
        return super().prepare(model, fit)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Find the parameters to freeze; they stay the optimiser's."""
        self.parameters = trainable(self.model.trunk)
        return optimizer

    def tick(self, event: Event, fit: Fit) -> None:
        if event == "epoch_start":
            self._freeze(fit.epoch < self.epochs)
        if event == "epoch_end" and self.frozen:
            fit.started = False

    def _freeze(self, frozen: bool) -> None:
        self.frozen = frozen
        for parameter in self.parameters:
            parameter.requires_grad_(not frozen)

    def state_dict(self) -> dict[str, Any]:
        return {"frozen": self.frozen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._freeze(bool(state["frozen"]))


build = FreezeTrunk
