"""Stochastic weight averaging (SWA): evaluate the mean of the weights of several epochs.

From a share of the epochs on, at the end of an epoch::

    mean <- mean + (w - mean) / (n + 1)

The mean is evaluated in place of the weights; training continues from the weights, with a constant
learning rate. Running statistics of batch norm are recomputed for the mean, by a pass over the
training samples.

Use it if validation scores vary from epoch to epoch. A step costs nothing more.

Notes:
- Epochs before `start` are not selected, so the tested model is a mean, and early stopping counts
  from then on. `start` is a share of `max_epochs`: if fits end early, choose fewer epochs or an
  earlier start.
- Analyses of a run's weights (curvature, deviations, transfer) read the last weights, not the mean.
- List it after pruning (the other order is refused), with a `start` not below pruning's `ramp`: the
  mean of weights that were pruned later is not sparse.

Kind: averaging

Paper: Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI
2018.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mimic_reg.methods._weights import copy_of, predicting_with, replaced
from mimic_reg.methods.base import Event, Fit, Predict, Regulariser, require
from mimic_reg.models.base import Model
from mimic_reg.samples import Samples

_PRUNED_LATER = "it would keep the weights of an epoch before they are pruned."
AFTER = dict.fromkeys(("magnitude_pruning", "node_pruning"), _PRUNED_LATER)

_NORMS = (nn.modules.batchnorm._BatchNorm,)
_AT_ONCE = 256  # samples of a pass for running statistics


def add_to_mean_(mean: dict[str, Tensor], state: Mapping[str, Tensor], count: int) -> None:
    """Update, in place, the mean over `count` states with one more; integers are replaced."""
    for name, tensor in state.items():
        if tensor.is_floating_point():
            mean[name] += (tensor - mean[name]) / (count + 1)
        else:
            mean[name].copy_(tensor)


@torch.no_grad()
def renew_statistics(model: Model, train: Samples | None) -> None:
    """Recompute the running statistics of batch norm, as means over the training samples."""
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


class SWA(Regulariser):
    """Average the weights.

    start: share of `max_epochs` before the first mean; 1 turns it off
    every: epochs between two additions to the mean
    """

    neutral = {"start": 1.0}
    by_stay = True
    remembered = ("mean", "count")

    def __init__(self, start: float = 0.75, every: int = 1) -> None:
        require(0 <= start <= 1, "swa", "start must be a share of the epochs, 0 to 1", start)
        require(every >= 1, "swa", "every must be at least 1", every)
        self.start, self.every = start, every
        self.mean: dict[str, Tensor] = {}
        self.count = 0

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
        return predicting_with(self.mean, predict, model) if self.count else predict


build = SWA
