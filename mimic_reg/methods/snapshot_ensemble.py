"""Snapshot ensembles: one fit, several models: Huang et al., ICLR 2017.

The learning rate falls along a cosine to nearly zero and jumps back, `cycles` times:
lr(t) = lr0 / 2 * (cos(pi * (t mod length) / length) + 1), t the steps before. At the end of each
cycle the weights are kept. The mean probability of the last `members` of them is the prediction.

Rulings: cycles have the same number of steps, up to one, and need not end with an epoch. Only the
last epoch, which has all snapshots, is eligible, so early stopping never ends the fit. The
optimiser's moments go on over the cycles. Each snapshot is kept in the checkpoint. What reads the
weights of a run (curvature, deviations, transfer) reads the last snapshot. List it after pruning
(the other order is refused); snapshots from before pruning's `ramp` is over are less sparse.

No neutral setting: the schedule of the learning rate is the method.

Shapes: M members, B samples, C outputs.
"""

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods._ensembles import mean_probability
from mimic_reg.methods._weights import copy_of, predicting_with
from mimic_reg.methods.base import Event, Fit, Predict, Regulariser, require
from mimic_reg.models.base import Model

_PRUNED_LATER = "it would keep the weights of a step before they are pruned."
AFTER = dict.fromkeys(("magnitude_pruning", "node_pruning"), _PRUNED_LATER)


def cosine_rate(first: float, step: int, length: int) -> float:
    """Return the learning rate of a step, counted from 0, in cycles of `length` steps."""
    return first / 2 * (math.cos(math.pi * (step % length) / length) + 1)


def cycle_of(step: int, cycles: int, steps: int) -> tuple[int, int]:
    """Return the first step of the cycle that a step is in, and the first step after it."""
    number = ((step + 1) * cycles - 1) // steps
    return number * steps // cycles, (number + 1) * steps // cycles


@final
class SnapshotEnsemble(Regulariser):
    """Moves the learning rate and keeps snapshots."""

    def __init__(self, cycles: int, members: int) -> None:
        name = "snapshot_ensemble"
        require(cycles >= 1, name, "cycles must be at least 1", cycles)
        rule = f"members must be from 1 to the number of cycles, {cycles}"
        require(1 <= members <= cycles, name, rule, members)
        self.cycles, self.members = cycles, members
        self.snapshots: list[dict[str, Tensor]] = []

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model and the target."""
        self.model, self.target = model, fit.target
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Keep it, and the learning rates that it starts with."""
        self.base = optimizer
        self.first_rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def tick(self, event: Event, fit: Fit) -> None:
        """Set the learning rate of the next step; keep the weights at the end of a cycle.

        Raises:
            InputError: the fit has fewer steps than cycles.
        """
        steps = fit.max_epochs * fit.epoch_steps
        if event == "epoch_start":
            rule = f"cycles must be at most the steps of the fit, {steps}"
            require(self.cycles <= steps, "snapshot_ensemble", rule, self.cycles)
        elif event == "step":
            if cycle_of(fit.step - 1, self.cycles, steps)[1] == fit.step:
                self.snapshots = [*self.snapshots, copy_of(self.model)][-self.members :]
            self._set_rate(*cycle_of(fit.step, self.cycles, steps), fit.step)
        elif event == "before_validation" and fit.epoch + 1 < fit.max_epochs:
            fit.eligible = False

    def _set_rate(self, begin: int, end: int, step: int) -> None:
        for group, first in zip(self.base.param_groups, self.first_rates, strict=True):
            group["lr"] = cosine_rate(first, step - begin, end - begin)

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Predict the mean probability of the snapshots, once there is one."""
        if not self.snapshots:
            return predict
        each = [predicting_with(state, predict, model) for state in self.snapshots]

        def predict_mean(x: Tensor, lengths: Tensor) -> Tensor:
            return mean_probability(self.target, torch.stack([p(x, lengths) for p in each]))

        return predict_mean

    def state_dict(self) -> dict[str, Any]:
        """Return the snapshots; the learning rate is saved with the optimiser."""
        return {"snapshots": {str(i): state for i, state in enumerate(self.snapshots)}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, in copies, on the model's device."""
        device = next(self.model.parameters()).device
        given = state["snapshots"]
        self.snapshots = [
            {name: t.to(device, copy=True) for name, t in given[str(i)].items()}
            for i in range(len(given))
        ]


def build(cycles: int = 5, members: int = 5) -> SnapshotEnsemble:
    """Return the method; `cycles` of the learning rate in a fit; `members` are the last of them."""
    return SnapshotEnsemble(cycles, members)
