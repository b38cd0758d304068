"""What the pruning methods share: when to prune, and keeping what is pruned at zero.

After epoch e of the first E = ramp * max_epochs, before it is validated, this share of the weights
or units is pruned: final * (1 - (1 - e / E)³), the schedule of Zhu & Gupta, arXiv 1710.01878. After
each step what is pruned is set to zero again, in the weights and in the optimiser's moments, or it
would grow back. Epochs before the final share is reached are not selected, and do not count for
patience.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mimic_reg.methods.base import Event, Fit, Regulariser, require
from mimic_reg.models.base import Model


def scheduled_share(epochs: int, ramp_epochs: int, final: float) -> float:
    """Return the share to prune after so many epochs: cubic, then `final`."""
    left = max(0.0, 1 - epochs / ramp_epochs)
    return final * (1 - left**3)


class Pruning(Regulariser):
    """Prune on schedule; a subclass decides what.

    pruned: parameter → mask that is True for weights that stay zero
    """

    alone = True  # a task's head decides what is pruned

    def __init__(self, name: str, final: float, ramp: float, every: int) -> None:
        require(0 < ramp <= 1, name, "ramp must be a share of the epochs, above 0 up to 1", ramp)
        require(every >= 1, name, "every must be at least 1 epoch", every)
        self.name, self.final, self.ramp, self.every = name, final, ramp, every
        self.pruned: dict[Tensor, Tensor] = {}
        self.reached = final == 0

    @abstractmethod
    def targets(self, model: Model) -> list[Tensor]:
        """Return the parameters that may be pruned.

        Raises:
            InputError: the model has none.
        """

    @abstractmethod
    def prune(self, share: float) -> None:
        """Mark a share as pruned in `self.pruned`."""

    def prepare(self, model: Model, fit: Fit) -> Model:
        found = self.targets(model)
        self.pruned = {p: torch.zeros_like(p, dtype=torch.bool) for p in found}
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Prune before validation; restore zeros after each step."""
        if self.final == 0:
            return
        if event == "step":
            self._zero()
        elif event == "before_validation":
            self._prune_if_due(fit)
            fit.eligible = fit.eligible and self.reached
        elif event == "epoch_end":
            total = sum(p.numel() for p in self.pruned)
            fit.record("pruned", sum(int(where.sum()) for where in self.pruned.values()) / total)
            if not self.reached:
                fit.started = False

    def _prune_if_due(self, fit: Fit) -> None:
        done, ramp_epochs = fit.epoch + 1, max(1, round(self.ramp * fit.max_epochs))
        if self.reached or (done % self.every and done < ramp_epochs):
            return
        self.reached = done >= ramp_epochs
        self.prune(scheduled_share(done, ramp_epochs, self.final))
        self._zero()

    @torch.no_grad()
    def _zero(self) -> None:
        for parameter, where in self.pruned.items():
            parameter.masked_fill_(where, 0)
            for moment in self.base.state.get(parameter, {}).values():
                if torch.is_tensor(moment) and moment.shape == where.shape:
                    moment.masked_fill_(where, 0)

    def state_dict(self) -> dict[str, Any]:
        return {"pruned": list(self.pruned.values()), "reached": self.reached}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.reached = bool(state["reached"])
        for own, saved in zip(self.pruned.values(), state["pruned"], strict=True):
            own.copy_(saved)
