"""ITPS: incremental trainable parameter selection, an optimiser wrapper.

Kind: selection

Thakur et al., IEEE TNNLS 35(5):6478 (2024), 10.1109/TNNLS.2022.3210297, Eq. 1 and Algorithm 1. Each
parameter has an accounting variable J, which integrates its gradients. Only parameters whose J lies
outside the open interval (low, high) are selected: the others' gradients are set to zero before the
base optimiser sees them::

    J <- J - beta * g
    M  = (J <= low) | (J >= high)
    g <- g where M, else 0;  base.step()

Rulings:
- Equality selects ("do not lie between [the] open interval"), so tau = 0 is the base optimiser.
- The selection is made anew in each step: a parameter can drop out again. `latch` keeps it.
- g is the gradient of the whole objective, unclipped, a mean over batch and labels: J integrates
  it, so its scale decides what tau means. An L2 penalty belongs into the loss: `weight_decay` of
  the base moves parameters that are not selected. Clip after selection; with accumulated or
  distributed gradients, one step with their mean.
- mode "grad" masks before Adam's moments, as the paper says. So a parameter that drops out drifts
  on by its moments, and one selected late starts with a larger step, since the bias correction
  counts all steps (up to 6.6 times the learning rate). mode "freeze" holds what is not selected
  constant. With Adam betas=(0, .999) nothing drifts either. mode "update" lets the base optimiser
  see all gradients and undoes its change where nothing is selected: its moments are up to date when
  a parameter is selected, so the first step is an ordinary one.

The defaults are the text's reading. On a quarter of Fashion-MNIST it stays 1.3 points below no
method, on all of it 1.9 (benchmarks/results/fashion_mnist.md); on simulated mortality its AUROC is
.013 below, at a quarter and at all of it (simulated_mortality.md there). On a quarter of the
images, masked updates with latched selection and a low tau are 0.6 above (itps_readings.md); but
that is not what the text says, no reading reaches the paper's accuracy, and none settles where its
selection does. docs/choosing.md says when to try it.

Pitfall: at first nothing moves, and with fewer samples, hence fewer steps an epoch, selection
starts at a later epoch. Patience counts only once something did (`Fit.started`). That alone is not
enough: where few die, the output bias has the largest gradient (1/2 minus the prevalence). It is
selected first, for a while alone, and that changes no ranking. So early stopping waits until the
training loss is below that of the prevalence (`min_explained` there), for every method.

What tau means depends on where the output bias starts (`training.output_bias`). With "zero", the
paper's, gradients hold the error that all samples share, 1/2 minus the prevalence, and J integrates
it. With "prevalence" that error is 0 from the start, and only what tells samples apart is left: the
same tau selects later and far less. On 208 simulated patients of whom 5 % die (7 steps an epoch,
LSTM, tau .15), "zero" selects its first parameter in epoch 1, "prevalence" in epoch 17; after 39
epochs they have selected 713 and 8. Tune tau anew, to a lower value.

Memory: J, one tensor a parameter; with `track_ever` one byte more; in the modes "freeze" and
"update" a copy of the parameters during a step. No mask is kept: the selection follows from J.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.methods.base import (
    Event,
    Fit,
    OptimizerWrapper,
    Options,
    Regulariser,
    require,
    trainable,
)
from mimic_reg.models.base import Model

Mode = Literal["grad", "freeze", "update"]
MODES = ("grad", "freeze", "update")
SELECTS_BY = "tau"  # the option that decides how many parameters are selected
Interval = tuple[float, float]

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)  # of J, in the history


def check(beta: float, mode: str) -> None:
    """Check the other options.

    Raises:
        InputError: out of range.
    """
    require(0 < beta < math.inf, "itps", "beta must be a positive number", beta)
    require(mode in MODES, "itps", f"mode must be one of {MODES}", mode)


def interval(tau: float | Sequence[float]) -> Interval:
    """(low, high) from `tau`, or (-tau, tau) where it is one number.

    Raises:
        InputError: not numbers with low < 0 < high, nor zero.
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
    """Eq. 1: True where a parameter is selected."""
    return J.le(low) | J.ge(high)


def mask_(gradient: Tensor, J: Tensor, low: float, high: float) -> None:
    """Set the gradients of parameters that are not selected to zero, in place.

    Through the derivatives of two activation functions, which compare and copy in one fast pass and
    keep no mask. No product with a mask either: an infinite gradient would become NaN.
    """
    low, high = _rounded(low, J.dtype), _rounded(high, J.dtype)
    if low == -high and J.dtype in (torch.float32, torch.float64):
        # keeps `gradient` where |J| > bound, strictly, so the bound is the number before `high`
        bound = _before(high, J.dtype) if high > 0 else -1.0
        torch.ops.aten.hardshrink_backward.grad_input(gradient, J, bound, grad_input=gradient)
    else:
        # takes away what lies between; nothing infinite does, since J was updated with it
        gradient.sub_(torch.ops.aten.hardtanh_backward(gradient, J, low, high))


@cache  # the same few thresholds in every step; a small tensor's round trip costs 10 microseconds
def _rounded(value: float, dtype: torch.dtype) -> float:
    """The number of `dtype` with which torch compares a tensor when it is given `value`."""
    return torch.tensor(value, dtype=dtype).item()


@cache
def _before(value: float, dtype: torch.dtype) -> float:
    """The number of `dtype` next to `value`, towards zero."""
    number = torch.tensor(value, dtype=dtype)
    return torch.nextafter(number, torch.zeros_like(number)).item()


@final
class ITPSOptimizer(OptimizerWrapper):
    """ITPS around any torch optimiser, for anyone's training loop.

    >>> optimizer = ITPSOptimizer(torch.optim.Adam(model.parameters(), lr=1e-3), tau=0.15)
    >>> for x, y in batches:
    ...     optimizer.zero_grad()
    ...     loss_function(model(x), y).backward()
    ...     optimizer.step()

    beta:  rate of the accounting variable
    tau:   (low, high), or one number for (-tau, tau)
    mode:  "grad", "freeze" or "update", see the module
    latch: a parameter once selected stays selected
    track_ever: keep a byte a parameter, for `selected_ever`; False saves it, and some time

    Parameters without a gradient are left as they are, and so is their J. Groups, learning rates
    and schedulers are the base's. `state_dict` holds J; without it selection would start again.
    Options out of range, and a sparse gradient at a step, raise InputError.
    """

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
        check(beta, mode)
        require(track_ever or not latch, "itps", "latch needs track_ever=True", track_ever)
        self.beta, self.mode, self.latch, self.track_ever = beta, mode, latch, track_ever
        self.low, self.high = interval(tau)
        self._J: dict[Tensor, Tensor] = {}
        self._ever: dict[Tensor, Tensor] = {}

    def update(self) -> None:
        """One step of Algorithm 1 with the gradients that are there."""
        parameters = [p for p in self.parameters() if p.grad is not None]
        gradients = [_dense(p.grad) for p in parameters]
        accounts = [self._account(p) for p in parameters]
        if parameters:
            torch._foreach_add_(accounts, gradients, alpha=-self.beta)
        if self.mode != "update" and not self.latch:
            self._mask(parameters, gradients, accounts)
            if self.mode == "grad":
                self.base.step()
                return
        self._step_selected(parameters, gradients, accounts)

    def _mask(
        self, parameters: list[Tensor], gradients: list[Tensor], accounts: list[Tensor]
    ) -> None:
        """Mask the gradients by J alone, without keeping a mask."""
        for gradient, J in zip(gradients, accounts, strict=True):
            mask_(gradient, J, self.low, self.high)
        if self.track_ever:
            # J crosses a threshold only in a step with a gradient, which then is still there
            for parameter, gradient in zip(parameters, gradients, strict=True):
                self._ever[parameter] |= gradient.bool()

    def _step_selected(
        self, parameters: list[Tensor], gradients: list[Tensor], accounts: list[Tensor]
    ) -> None:
        """The readings that need the selection itself: it is made, and memory spent on it."""
        where = []
        for parameter, J in zip(parameters, accounts, strict=True):
            selection = self._select(J)
            if self.track_ever:
                self._ever[parameter] |= selection
            where.append(self._ever[parameter] if self.latch else selection)
        if self.mode != "update":
            for gradient, selection in zip(gradients, where, strict=True):
                gradient.masked_fill_(~selection, 0)
        if self.mode == "grad":
            self.base.step()
            return
        before = [p.clone() for p in parameters]
        self.base.step()
        for parameter, old, selection in zip(parameters, before, where, strict=True):
            torch.where(selection, parameter, old, out=parameter)

    def accounting(self) -> list[Tensor]:
        """J of every parameter, in the groups' order."""
        return [self._account(p) for p in self.parameters()]

    def selected_now(self) -> list[Tensor]:
        """True where a parameter is selected by its J, in the groups' order; made on demand."""
        return [self._select(J) for J in self.accounting()]

    def selected_ever(self) -> list[Tensor]:
        """True where a parameter was selected in any step, in the groups' order.

        Raises:
            InputError: the optimiser was made without `track_ever`.
        """
        require(self.track_ever, "itps", "selected_ever needs track_ever=True", self.track_ever)
        self.accounting()
        return [self._ever[p] for p in self.parameters()]

    def share(self, other: "ITPSOptimizer", pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Keep one J for both parameters of a pair (ours, theirs), and what was ever selected.

        Both optimisers then update the same J, one after the other; theirs is the one that is kept.

        Raises:
            InputError: only one of the two tracks what was ever selected.
        """
        require(self.track_ever == other.track_ever, "itps", "track_ever must be shared", "one")
        for ours, theirs in pairs:
            self._J[ours] = other._account(theirs)
            if self.track_ever:
                self._ever[ours] = other._ever[theirs]

    def quantiles(self, q: Sequence[float] = QUANTILES) -> list[float]:
        """Quantiles of J over all parameters: each the nearest value below."""
        values = torch.cat([J.flatten() for J in self.accounting()]).sort().values
        found: list[float] = values[[int(share * (len(values) - 1)) for share in q]].tolist()
        return found

    def own_state(self) -> dict[str, Any]:
        """J, and what was ever selected, by the parameter's number."""
        numbers = {p: str(i) for i, p in enumerate(self.parameters())}
        return {
            "J": {numbers[p]: J for p, J in self._J.items()},
            "ever": {numbers[p]: ever for p, ever in self._ever.items()},
        }

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `own_state()`, in copies, on the parameters' devices.

        Raises:
            InputError: the state is that of other parameters, or lacks what `track_ever` needs.
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
        """The parameter's J, made when first needed: a frozen parameter has none until it thaws."""
        J = self._J.get(parameter)
        if J is None:
            J = self._J[parameter] = torch.zeros_like(parameter, requires_grad=False)
            if self.track_ever:
                everything = self.high == 0
                self._ever[parameter] = torch.full_like(parameter, everything, dtype=torch.bool)
        return J


def _dense(gradient: Tensor | None) -> Tensor:
    """The gradient, if it is dense.

    Raises:
        InputError: it is sparse.
    """
    assert gradient is not None
    if gradient.is_sparse:
        raise InputError(
            "itps: a sparse gradient says nothing about most of its tensor, but J needs all of it. "
            "Make the embedding with sparse=False."
        )
    return gradient


@final
class ITPS(Regulariser):
    """Places `ITPSOptimizer` around the optimiser and reports what it selects, after each epoch."""

    neutral: ClassVar[Options] = {"tau": 0.0}

    def __init__(
        self,
        beta: float,
        tau: float | Sequence[float],
        mode: Mode,
        latch: bool,
        track_ever: bool,
    ):
        self.options: dict[str, Any] = {"beta": beta, "tau": tau, "mode": mode, "latch": latch}
        self.track_ever = track_ever
        self.started = False
        check(beta, mode)  # a bad option fails now, not when the fit starts
        require(track_ever or not latch, "itps", "latch needs track_ever=True", track_ever)
        interval(tau)

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Keep the model, for its parameters' names."""
        self.model = model
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap it."""
        self.wrapper = ITPSOptimizer(optimizer, **self.options, track_ever=self.track_ever)
        self.trunk = trainable(self.model.trunk)  # also while another method freezes it
        return self.wrapper

    def tick(self, event: Event, fit: Fit) -> None:
        """Count the selection: totals, per tensor, and quantiles of J."""
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
        """One J for the trunk, whichever task is trained: Algorithm 2 (ITPS-Reptile)."""
        assert isinstance(other, ITPS), "methods of the same list"
        self.wrapper.share(other.wrapper, zip(self.trunk, other.trunk, strict=True))

    def _record_counts(self, name: str, selection: list[Tensor], fit: Fit) -> int:
        names: dict[Tensor, str] = {p: n for n, p in self.model.named_parameters()}
        counts = torch.stack([where.sum() for where in selection]).tolist()  # waits once
        for parameter, count in zip(self.wrapper.parameters(), counts, strict=True):
            fit.record(f"{name}/{names[parameter]}", count)
        fit.record(name, sum(counts))
        return sum(counts)

    def state_dict(self) -> dict[str, Any]:
        """J itself is saved with the optimiser."""
        return {"started": self.started}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.started = state["started"]


def build(
    beta: float = 0.1,
    tau: float | Sequence[float] = 0.15,
    mode: Mode = "grad",
    latch: bool = False,
    track_ever: bool = True,
) -> ITPS:
    """The method; `tau`: one number for (-tau, tau), or (low, high); Table II has it per model."""
    return ITPS(beta, tau, mode, latch, track_ever)
