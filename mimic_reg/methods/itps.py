"""ITPS: train only the parameters whose gradients, summed over the steps, pass a threshold.

Incremental trainable parameter selection keeps an accounting variable J for each parameter, which
integrates its gradients. A parameter is selected if its J lies outside the open interval
(low, high). The gradients of the others are set to zero before the optimiser sees them::

    J <- J - beta * g
    M  = (J <= low) | (J >= high)
    g <- g where M, else 0;  then the step of the optimiser

Use it if few parameters should learn. It needs enough steps, and a threshold that fits the scale of
the gradients: search tau.

Notes:
- Equality selects ("do not lie between [the] open interval"), so tau = 0 is the plain optimiser.
- The selection is made anew in each step, so a parameter can drop out again. `latch` keeps it.
- g is the gradient of the whole objective, unclipped, a mean over batch and labels: its scale
  decides what tau means. Put an L2 penalty into the loss: `weight_decay` of the optimiser moves
  parameters that are not selected. Clip after selection. With accumulated or distributed gradients,
  take one step with their mean.
- `mode: grad` masks before Adam's moments, as the paper says. A parameter that drops out drifts on
  by its moments, and one selected late starts with a larger step (up to 6.6 times the learning
  rate), because Adam's bias correction counts all steps. `mode: freeze` holds parameters constant
  while they are not selected. `mode: update` lets the optimiser see all gradients and undoes its
  change where nothing is selected, so the first step of a parameter is an ordinary one.
- At first nothing moves. Patience of early stopping counts once a parameter was selected. If few
  labels are positive, the output bias has the largest gradient and is selected first, for a while
  alone, which changes no ranking. So early stopping also waits until the training loss is below
  that of the prevalence (`min_explained` there).
- What tau means depends on `training.output_bias`. With "zero", the paper's, gradients hold the
  error that all samples share, 1/2 minus the prevalence. With "prevalence" that error is 0 from the
  start, so the same tau selects later and far less: choose a lower tau. On 208 simulated patients
  of whom 5 % die (7 steps per epoch, LSTM, tau .15), "zero" selects its first parameter in epoch 1,
  "prevalence" in epoch 17; after 39 epochs they have selected 713 and 8.
- Memory: J, one number for each parameter; with `track_ever` one byte more; in the modes "freeze"
  and "update" a copy of the parameters during a step; on a GPU a copy of J and of the gradients of
  small parameters. No mask is stored, since it follows from J.
- Time: two passes over J and the gradients in each step. They show in models with few products for
  their parameters, as the DNN; a single pass would still show (benchmarks/results/itps_step.md).

What we found: the defaults follow the paper's text. On a quarter of Fashion-MNIST their accuracy is
1.3 points below no method, on all of it 1.9 (benchmarks/results/fashion_mnist.md). On simulated
mortality their AUROC is .013 below, at a quarter and at all of it (simulated_mortality.md there).
On a quarter of the images, masked updates with latched selection and a low tau are 0.6 points above
(itps_readings.md there), but the paper's text describes neither. No reading reaches the paper's
accuracy. docs/choosing.md says when to try it.

Kind: selection

Paper: Thakur et al., IEEE TNNLS 35(5):6478 (2024), doi 10.1109/TNNLS.2022.3210297, Eq. 1 and
Algorithm 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods._masks import mask_part_, or_, parts
from mimic_reg.methods.base import Event, Fit, OptimizerWrapper, Regulariser, require, trainable

Mode = Literal["grad", "freeze", "update"]
MODES = ("grad", "freeze", "update")
SELECTS_BY = "tau"  # the option that decides how many parameters are selected
Interval = tuple[float, float]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)  # of J, in the history


def check(beta: float, mode: str, latch: bool, track_ever: bool) -> None:
    """Raise InputError if one of the other options is out of range."""
    require(0 < beta < math.inf, "itps", "beta must be a positive number", beta)
    require(mode in MODES, "itps", f"mode must be one of {MODES}", mode)
    require(track_ever or not latch, "itps", "latch needs track_ever=True", track_ever)


def interval(tau: float | Sequence[float]) -> Interval:
    """Return (low, high) of `tau`; (-tau, tau) if it is one number.

    Raises:
        InputError: neither zero, nor numbers with low < 0 < high.
    """
    low, high = (-tau, tau) if isinstance(tau, int | float) else _pair(tau)
    ordered = low < 0 < high or low == high == 0
    require(ordered, "itps", "tau must be a number >= 0, or (low, high) with low < 0 < high", tau)
    return float(low), float(high)


def _pair(tau: Sequence[float]) -> Interval:
    is_pair = isinstance(tau, tuple | list) and len(tau) == 2
    is_pair = is_pair and all(isinstance(bound, int | float) for bound in tau)
    require(is_pair, "itps", "tau must be a number, or two: (low, high)", tau)
    return tau[0], tau[1]


def selected(J: Tensor, low: float, high: float) -> Tensor:
    """Return a mask that is True where a parameter is selected (Eq. 1)."""
    return J.le(low) | J.ge(high)


class ITPSOptimizer(OptimizerWrapper):
    """ITPS around any torch optimiser, for any training loop.

    >>> optimizer = ITPSOptimizer(torch.optim.Adam(model.parameters(), lr=1e-3), tau=0.15)
    >>> for x, y in batches:
    ...     optimizer.zero_grad()
    ...     loss_function(model(x), y).backward()
    ...     optimizer.step()

    beta:  rate of the accounting variable
    tau:   (low, high), or one number for (-tau, tau)
    mode:  "grad", "freeze" or "update", see the module
    latch: keep a parameter selected once it was
    track_ever: remember which were selected, for `selected_ever`; one byte for each parameter

    Parameters without a gradient stay as they are, and so does their J. Groups, learning rates and
    schedulers are the base's. `state_dict` holds J; without it selection would start again.

    Raises:
        InputError: options out of range; at a step, a sparse gradient.
    """

    renews: ClassVar[bool] = False

    def __init__(
        self,
        base_optimizer: Optimizer,
        beta: float = 0.1,
        tau: float | Sequence[float] = (-0.15, 0.15),
        mode: Mode = "grad",
        *,
        latch: bool = False,
        track_ever: bool = True,
    ) -> None:
        super().__init__(base_optimizer)
        check(beta, mode, latch, track_ever)
        self.beta, self.mode, self.latch, self.track_ever = beta, mode, latch, track_ever
        self.low, self.high = interval(tau)
        self._J: dict[Tensor, Tensor] = {}
        self._ever: dict[Tensor, Tensor] = {}

    def update(self) -> None:
        """Take one step of Algorithm 1 with the present gradients."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        masks = self.mode != "update" and not self.latch
        if self.renews and parameters:
            self.renew(self._integrated(parameters)[1])
        for part in parts(parameters):
            gradients, accounts = self._integrated(part, add=not self.renews)
            if masks:
                # by J alone, without storing a mask
                mask_part_(gradients, accounts, self.low, self.high)
                if self.track_ever:
                    # J crosses a threshold only in a step with a gradient, which is still there
                    or_([self._ever[p] for p in part], gradients)
        if masks and self.mode == "grad":
            self.base.step()
        else:
            self._step_selected(parameters)

    def renew(self, accounts: list[Tensor]) -> None:
        """Change the thresholds in a step, given all J after their update, if it `renews` them."""

    def _integrated(
        self, parameters: list[Tensor], *, add: bool = True
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return the gradients and J of parameters, after adding the gradients to J."""
        gradients = [_dense(p.grad) for p in parameters]
        accounts = [self._account(p) for p in parameters]
        if add:
            torch._foreach_add_(accounts, gradients, alpha=-self.beta)
        return gradients, accounts

    def _step_selected(self, parameters: list[Tensor]) -> None:
        """Take the step in the modes that need the mask itself, and memory for it."""
        where = []
        for parameter in parameters:
            selection = self._select(self._account(parameter))
            if self.track_ever:
                self._ever[parameter] |= selection
            where.append(self._ever[parameter] if self.latch else selection)
        if self.mode != "update":
            for parameter, selection in zip(parameters, where, strict=True):
                _dense(parameter.grad).masked_fill_(~selection, 0)
        if self.mode == "grad":
            self.base.step()
            return
        before = [p.clone() for p in parameters]
        self.base.step()
        for parameter, old, selection in zip(parameters, before, where, strict=True):
            torch.where(selection, parameter, old, out=parameter)

    def accounting(self) -> list[Tensor]:
        """Return J of every parameter, in the order of the groups."""
        return [self._account(p) for p in self.parameters()]

    def selected_now(self) -> list[Tensor]:
        """Return masks that are True where J selects a parameter, in the order of the groups."""
        return [self._select(J) for J in self.accounting()]

    def selected_ever(self) -> list[Tensor]:
        """Return masks that are True where a parameter was selected in any step.

        Raises:
            InputError: the optimiser was made without `track_ever`.
        """
        require(self.track_ever, "itps", "selected_ever needs track_ever=True", self.track_ever)
        self.accounting()
        return [self._ever[p] for p in self.parameters()]

    def share(self, other: "ITPSOptimizer", pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Use the other optimiser's J, and its selections, for the first parameter of each pair.

        Both optimisers then update the same J, one after the other.

        Raises:
            InputError: only one of the two tracks what was ever selected.
        """
        require(self.track_ever == other.track_ever, "itps", "track_ever must be shared", "one")
        for ours, theirs in pairs:
            self._J[ours] = other._account(theirs)
            if self.track_ever:
                self._ever[ours] = other._ever[theirs]

    def quantiles(self, q: Sequence[float] = QUANTILES) -> list[float]:
        """Return quantiles of J over all parameters: each the nearest value below."""
        values = torch.cat([J.flatten() for J in self.accounting()]).sort().values
        found: list[float] = values[[int(share * (len(values) - 1)) for share in q]].tolist()
        return found

    def own_state(self) -> dict[str, Any]:
        """Return J, and what was ever selected, by the parameter's number."""
        numbers = {p: str(i) for i, p in enumerate(self.parameters())}
        return {
            "J": {numbers[p]: J for p, J in self._J.items()},
            "ever": {numbers[p]: ever for p, ever in self._ever.items()},
        }

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `own_state()`, in copies, on the parameters' devices.

        Raises:
            InputError: the state is of other parameters, or was saved without `track_ever`.
        """
        known = not self.track_ever or state["ever"].keys() == state["J"].keys()
        require(known, "itps", "track_ever needs a state saved with it", "one without")
        self._J = self._copies(state["J"])
        self._ever = self._copies(state["ever"]) if self.track_ever else {}

    def _copies(self, state: Mapping[str, Tensor]) -> dict[Tensor, Tensor]:
        parameters = self.parameters()
        copies = {}
        for number, tensor in state.items():
            fits = int(number) < len(parameters) and parameters[int(number)].shape == tensor.shape
            require(fits, "itps", "the state must be of the same parameters", tuple(tensor.shape))
            parameter = parameters[int(number)]
            copies[parameter] = tensor.to(parameter.device, copy=True)
        return copies

    def _select(self, J: Tensor) -> Tensor:
        return selected(J, self.low, self.high)

    def _account(self, parameter: Tensor) -> Tensor:
        """Return the parameter's J, made when first needed: a frozen parameter has none."""
        J = self._J.get(parameter)
        if J is None:
            J = self._J[parameter] = torch.zeros_like(parameter, requires_grad=False)
            if self.track_ever:
                everything = self.high == 0
                self._ever[parameter] = torch.full_like(parameter, everything, dtype=torch.bool)
        return J


def _dense(gradient: Tensor | None) -> Tensor:
    """Return the gradient; raise InputError if it is sparse."""
    assert gradient is not None
    if gradient.is_sparse:
        raise InputError(
            "itps needs dense gradients, got a sparse one. Make the embedding with sparse=False."
        )
    return gradient


class ITPS(Regulariser):
    """Select parameters, and record the selection after each epoch.

    beta:  rate of the accounting variable
    tau:   one number for the thresholds (-tau, tau), or (low, high); Table II has it for each model
    mode:  what masking does to the optimiser's moments: see the notes
    latch: keep a parameter selected once it was
    track_ever: record which parameters were ever selected; one byte for each parameter
    """

    neutral = {"tau": 0.0}
    remembered: ClassVar[tuple[str, ...]] = ("started",)

    def __init__(
        self,
        beta: float = 0.1,
        tau: float | Sequence[float] = 0.15,
        mode: Mode = "grad",
        latch: bool = False,
        track_ever: bool = True,
    ) -> None:
        self.options: dict[str, Any] = {"beta": beta, "tau": tau, "mode": mode, "latch": latch}
        self.options["track_ever"] = self.track_ever = track_ever
        self.started = False
        check(beta, mode, latch, track_ever)  # now, not when the fit starts
        interval(tau)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        self.wrapper = self.wrap(optimizer)
        self.trunk = trainable(self.model.trunk)  # complete: another method may freeze it later
        return self.wrapper

    def wrap(self, optimizer: Optimizer) -> ITPSOptimizer:
        """Return the wrapper."""
        return ITPSOptimizer(optimizer, **self.options)

    def tick(self, event: Event, fit: Fit) -> None:
        """Record the selection: totals, per tensor, and quantiles of J."""
        if event != "epoch_end":
            return
        now = self._record_counts("selected_now", self.wrapper.selected_now(), fit)
        if self.track_ever:
            now += self._record_counts("selected_ever", self.wrapper.selected_ever(), fit)
        self.started = self.started or now > 0
        if not self.started:  # nothing has moved yet, so no score can have improved
            fit.started = False
        for share, value in zip(QUANTILES, self.wrapper.quantiles(), strict=True):
            fit.record(f"J/quantile_{share}", value)

    def share(self, other: Regulariser) -> None:
        """Keep one J for the trunk, whichever task is trained: Algorithm 2 (ITPS-Reptile)."""
        assert isinstance(other, ITPS), "methods of the same list"
        self.wrapper.share(other.wrapper, zip(self.trunk, other.trunk, strict=True))

    def _record_counts(self, name: str, selection: list[Tensor], fit: Fit) -> int:
        names: dict[Tensor, str] = {p: n for n, p in self.model.named_parameters()}
        counts = torch.stack([where.sum() for where in selection]).tolist()  # waits once
        for parameter, count in zip(self.wrapper.parameters(), counts, strict=True):
            fit.record(f"{name}/{names[parameter]}", count)
        fit.record(name, sum(counts))
        return sum(counts)


build = ITPS
