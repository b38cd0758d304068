"""Stochastic weight averaging: Izmailov et al., UAI 2018.

From a share of the epochs on, the mean over the epochs' last weights is evaluated in place of the
weights: mean <- mean + (w - mean) / (n + 1). Training goes on from the weights, with a constant
learning rate. Running statistics of batch norm are made anew for the mean, by a pass over the
training samples.

Rulings: epochs before `start` are not selected, so the model that is tested is a mean, and early
stopping counts from then on. The share is of `max_epochs`: where fits end early by themselves,
choose fewer epochs or an earlier start. What reads the weights of a run (curvature, deviations,
transfer) reads the last ones, not their mean. List it after pruning (the other order is refused),
with a `start` not below pruning's `ramp`: the mean of weights that were pruned later is not sparse.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from mimic_reg.methods._weights import copy_of, predicting_with, replaced
from mimic_reg.methods.base import Event, Fit, Options, Predict, Regulariser, require
from mimic_reg.models.base import Model
from mimic_reg.samples import Samples

_PRUNED_LATER = "it would keep the weights of an epoch before they are pruned."
AFTER = dict.fromkeys(("magnitude_pruning", "node_pruning"), _PRUNED_LATER)

_NORMS = (nn.modules.batchnorm._BatchNorm,)
_AT_ONCE = 256  # samples of a pass for running statistics


def add_to_mean_(mean: dict[str, Tensor], state: Mapping[str, Tensor], count: int) -> None:
    """Update, in place, the mean over `count` states by one more; whole numbers are replaced."""
    for name, tensor in state.items():
        if tensor.is_floating_point():
            mean[name] += (tensor - mean[name]) / (count + 1)
        else:
            mean[name].copy_(tensor)


@torch.no_grad()
def renew_statistics(model: Model, train: Samples | None) -> None:
    """Make the running statistics of batch norm anew, as means over the training samples."""
    norms = [module for module in model.modules() if isinstance(module, _NORMS)]
    if not norms or train is None:
        return
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # the mean over all batches
    for index in torch.split(torch.arange(len(train)), _AT_ONCE):
        batch = train.gather(index)
        model(batch.x, batch.lengths)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes:
        module.training = training


@final
class SWA(Regulariser):
    """Averages the weights."""

    neutral: ClassVar[Options] = {"start": 1.0}

    def __init__(self, start: float, every: int) -> None:
        require(0 <= start <= 1, "swa", "start must be a share of the epochs, 0 to 1", start)
        require(every >= 1, "swa", "every must be at least 1", every)
        self.start, self.every = start, every
        self.mean: dict[str, Tensor] = {}
        self.count = 0

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model."""
        self.model = model
        return model

    def tick(self, event: Event, fit: Fit) -> None:
        """Add the epoch's last weights to the mean; before there is one, no epoch is eligible."""
        if event != "before_validation" or self.start == 1:
            return
        first = int(self.start * fit.max_epochs)
        if fit.epoch >= first and (fit.epoch - first) % self.every == 0:
            self._add(fit)
        if not self.count:
            fit.eligible = False

    def _add(self, fit: Fit) -> None:
        if not self.count:
            self.mean = copy_of(self.model)
        else:
            add_to_mean_(self.mean, copy_of(self.model), self.count)
        self.count += 1
        with replaced(self.model, self.mean):
            renew_statistics(self.model, fit.train)
            self.mean = copy_of(self.model)

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Predict with the mean, once there is one."""
        return predicting_with(self.mean, predict, model) if self.count else predict

    def state_dict(self) -> dict[str, Any]:
        """Return the mean, and over how many states."""
        return {"mean": dict(self.mean), "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, in copies, on the model's device."""
        device = next(self.model.parameters()).device
        self.mean = {name: t.to(device, copy=True) for name, t in state["mean"].items()}
        self.count = state["count"]


def build(start: float = 0.75, every: int = 1) -> SWA:
    """Return the method; `start`: share of `max_epochs` before; a mean over each `every` epochs."""
    return SWA(start, every)
