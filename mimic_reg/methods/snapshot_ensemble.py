"""Snapshot ensemble: train once, keep the weights at several points, and average their predictions.

The learning rate falls along a cosine to nearly zero and jumps back, `cycles` times. At step t::

    lr(t) = lr0 / 2 * (cos(pi * (t mod length) / length) + 1)

The weights are kept at the end of each cycle. The prediction is the mean probability of the last
`members` of them.

Use it if you want an ensemble at the price of one fit. It costs memory, and a prediction costs
`members` passes.

Notes:
- Cycles have the same number of steps, up to one, and need not end with an epoch.
- Only the last epoch, which has all snapshots, is eligible, so early stopping never ends the fit.
- The optimiser's moments continue over the cycles. The checkpoint holds all snapshots.
- Analyses of a run's weights (curvature, deviations, transfer) read the last snapshot.
- List it after pruning (the other order is refused); snapshots from before the end of pruning's
  `ramp` are less sparse.

No neutral setting: the schedule of the learning rate is the method.

Kind: averaging

Paper: Huang et al., "Snapshot ensembles: train 1, get M for free", ICLR 2017.

Shapes: M members, B samples, C outputs.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.methods._ensembles import mean_probability
from mimic_reg.methods._optimizers import cosine_rate
from mimic_reg.methods._weights import copy_of, predicting_with
from mimic_reg.methods.base import Event, Fit, Predict, Regulariser, require
from mimic_reg.models.base import Model

_PRUNED_LATER = "it would keep the weights of a step before they are pruned."
AFTER = dict.fromkeys(("magnitude_pruning", "node_pruning"), _PRUNED_LATER)


def cycle_of(step: int, cycles: int, steps: int) -> tuple[int, int]:
    """Return the first step of the cycle that contains a step, and the first step after it."""
    number = ((step + 1) * cycles - 1) // steps
    return number * steps // cycles, (number + 1) * steps // cycles


class SnapshotEnsemble(Regulariser):
    """Change the learning rate, and keep snapshots.

    cycles:  cycles of the learning rate in a fit
    members: number of last snapshots that predict
    """

    by_stay = True
    own_schedule = True
    remembered = ("snapshots",)  # the learning rate is saved with the optimiser

    def __init__(self, cycles: int = 5, members: int = 5) -> None:
        name = "snapshot_ensemble"
        require(cycles >= 1, name, "cycles must be at least 1", cycles)
        rule = f"members must be from 1 to the number of cycles, {cycles}"
        require(1 <= members <= cycles, name, rule, members)
        self.cycles, self.members = cycles, members
        self.snapshots: dict[str, dict[str, Tensor]] = {}  # "0", "1", …

    def prepare(self, model: Model, fit: Fit) -> Model:
        self.target = fit.target
        return super().prepare(model, fit)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        self.first_rates = [group["lr"] for group in optimizer.param_groups]
        return super().optimizer(optimizer, fit)

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
                last = [*self.snapshots.values(), copy_of(self.model)][-self.members :]
                self.snapshots = {str(i): state for i, state in enumerate(last)}
            begin, end = cycle_of(fit.step, self.cycles, steps)
            for group, first in zip(self.base.param_groups, self.first_rates, strict=True):
                group["lr"] = cosine_rate(first, fit.step - begin, end - begin)
        elif event == "before_validation" and fit.epoch + 1 < fit.max_epochs:
            fit.eligible = False

    def predictor(self, predict: Predict, model: Model) -> Predict:
        if not self.snapshots:
            return predict
        each = [predicting_with(state, predict, model) for state in self.snapshots.values()]

        def predict_mean(x: Tensor, lengths: Tensor) -> Tensor:
            return mean_probability(self.target, torch.stack([p(x, lengths) for p in each]))

        return predict_mean


build = SnapshotEnsemble
