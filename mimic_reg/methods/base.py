"""The interface between the training loop and a method: six hooks, and what a method sees of a fit.

The engine calls no method by name. One optimiser step::

    batch = method.batch(batch, fit)                   # once a step, outside the closure
    def closure():
        optimizer.zero_grad()
        with differentiation(method.needs):            # around forward AND penalty
            logits = model(batch.x, batch.lengths)     # batch.x requires grad if "input_grad"
            per_sample = loss_of(fit.target, logits, batch.y, fit.class_weights)
            step = Step(model, batch, logits, per_sample)
            loss = method.loss(per_sample.mean(), step, fit)
            loss.backward()
        return loss.detach()
    optimizer.step(closure); fit.step += 1; method.tick("step", fit)

Before the first step the engine calls `model = method.prepare(model, fit)`, makes the optimiser of
the trainable parameters, and calls `optimizer = method.optimizer(optimizer, fit)`.

In each epoch it sets `fit.epoch` and calls `tick("epoch_start")`, takes the steps, calls
`tick("before_validation")`, validates, sets `fit.score` and calls `tick("epoch_end")`. The fit ends
if `fit.stop_reason` is set. Predictions for validation and test come from
`method.predictor(model, model)`, with the model in eval mode and without gradients.

A checkpoint holds the states of model, optimiser, method and `fit.generator`, and `fit.epoch` and
`fit.step`. To resume, or to evaluate later, the engine calls `prepare` and `optimizer`, then loads
all states.

Shapes: B samples, T hours, F channels, C outputs.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model
from mimic_reg.samples import Batch as Batch
from mimic_reg.samples import Samples
from mimic_reg.store.spec import Target

Event = Literal["epoch_start", "step", "before_validation", "epoch_end"]
Need = Literal["input_grad", "double_backward", "index", "causal"]
Options = Mapping[str, Any]
Attributes = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
Predict = Callable[[Tensor, Tensor], Tensor]  # (x, lengths) -> logits (B, C); a model is one


@dataclass
class Fit:
    """Everything that a method sees of the fit; the engine keeps it up to date.

    target, num_outputs: meaning of the logits, and their number C
    num_train:   number of training samples, at this training size
    epoch_steps, max_epochs: planned length of the fit
    generator:   random stream of the method, on the model's device
    record:      (name, value): store a number, or a tensor of one number, in the history
    train, validation: the samples; None in a loop that has none, for example to predict only
    attributes:  (names) -> columns (N,) of facts about the training samples that are not inputs;
                 None in such a loop
    class_weights: of the data loss, for `loss_of`; None: all 1
    epoch:       number of the current epoch, from 0
    step:        optimiser steps since the fit began
    score:       latest validation score, larger is better; None before the first
    started:     a method sets it to False at "epoch_end" while its effect has not begun: the epoch
                 then does not count for patience. Early stopping, listed last, resets it
    eligible:    a method sets it to False at "before_validation" while its model is not final (not
                 yet pruned, for example): the epoch is then not selected, whatever its score
    explained:   share of the best constant prediction's training loss that the model removed in the
                 latest epoch, on the same batches: 0 is no better, 1 is no loss (McFadden's
                 pseudo-R², R² for a regression). Set before "before_validation"; None: not measured
    learned:     early stopping sets it to False at "before_validation" if `explained` is too small:
                 a later epoch that has learned is then selected whatever its score
    stop_reason: set by `stop`; the fit ends after the epoch
    may_end_in:  early stopping sets it to the epochs until it ends the fit if the score does not
                 improve; only progress reads it
    """

    target: Target
    num_outputs: int
    num_train: int
    epoch_steps: int
    max_epochs: int
    generator: torch.Generator
    record: Callable[[str, float | Tensor], None]
    train: Samples | None = None
    validation: Samples | None = None
    attributes: Attributes | None = None
    class_weights: Tensor | None = None
    epoch: int = 0
    step: int = 0
    score: float | None = None
    started: bool = True
    eligible: bool = True
    explained: float | None = None
    learned: bool = True
    stop_reason: str | None = None
    may_end_in: int | None = None

    def stop(self, reason: str) -> None:
        """Ask the engine to end the fit after this epoch."""
        self.stop_reason = reason


@dataclass(frozen=True)
class Step:
    """One evaluation of the objective.

    model:      in training mode
    batch:      as the batch hooks left it
    logits:     (B, C)
    per_sample: (B,) data losses, whose mean is the data loss
    """

    model: Model
    batch: Batch
    logits: Tensor
    per_sample: Tensor


class Regulariser:
    """A method. Every hook here changes nothing; a subclass overrides those that it needs.

    needs:      what the engine must provide, or the model must be ("causal"); an instance may need
                less than its class
    neutral:    options with which a fit equals the baseline bit for bit; if it is None, a line of
                the module's docstring starts with "No neutral setting: " and says why
    alone:      True if the method cannot be used in a fit of several tasks, because the tasks'
                copies of the trunk would become different
    remembered: names of the attributes that the default `state_dict` saves
    by_stay:    whether it acts as it should where samples share the hours of their stay, so that a
                row of `batch.x` is no sample (`Batch`); None: yes, unless it overrides `batch` or
                `predictor`, or needs gradients of inputs
    own_schedule: whether it sets the learning rate, so that `training` cannot
    """

    needs: frozenset[Need] = frozenset()
    neutral: ClassVar[Options | None] = None
    alone: ClassVar[bool] = False
    remembered: ClassVar[tuple[str, ...]] = ()
    by_stay: ClassVar[bool | None] = None
    own_schedule: ClassVar[bool] = False

    model: Model
    base: Optimizer

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Change the model, before the optimiser exists; here only keep it as `self.model`.

        A method never draws from the stream of the initial weights.
        """
        self.model, self.device = model, fit.generator.device
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap the optimiser; here only keep it as `self.base`."""
        self.base = optimizer
        return optimizer

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Return a batch with other inputs or targets (`dataclasses.replace`)."""
        return batch

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add a penalty to the loss or transform it; may run several times a step."""
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Update schedules, monitors, averages. `Event` lists the events in order of an epoch."""

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Change how the evaluated model predicts."""
        return predict

    def not_by_stay(self) -> list[str]:
        """Return the names of the methods that cannot act where samples share their hours."""
        default = (
            type(self).batch is Regulariser.batch
            and type(self).predictor is Regulariser.predictor
            and "input_grad" not in self.needs
        )
        takes = default if self.by_stay is None else self.by_stay
        return [] if takes else [type(self).__module__.rpartition(".")[2]]

    def share(self, other: "Regulariser") -> None:
        """Share with `other` what is kept for each parameter of the trunk.

        In a fit of several tasks each task has its own methods and a copy of the trunk. Called
        after `optimizer`, and again after states were loaded, with the first task's method.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what resuming needs besides model and optimiser: tensors, numbers, lists, dicts.

        Here: the attributes named in `remembered`.
        """
        return {name: getattr(self, name) for name in self.remembered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, in copies; called after `prepare` and `optimizer`."""
        for name in self.remembered:
            setattr(self, name, self._copied(state[name]))

    def _copied(self, saved: Any) -> Any:
        if isinstance(saved, Mapping):
            return {name: self._copied(value) for name, value in saved.items()}
        if isinstance(saved, list):
            return list(map(self._copied, saved))
        return saved.to(self.device, copy=True) if isinstance(saved, Tensor) else saved


class Composite(Regulariser):
    """Several methods as one; they act in the order of the list.

    The first optimiser wrapper is the innermost. SAM evaluates the closure twice, so it comes after
    a method that selects parameters, which must see one gradient a step.
    """

    def __init__(self, members: Sequence[Regulariser]) -> None:
        self.members = tuple(members)
        self.needs = frozenset[Need]().union(*(m.needs for m in self.members))

    def prepare(self, model: Model, fit: Fit) -> Model:
        return reduce(lambda changed, m: m.prepare(changed, fit), self.members, model)

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        return reduce(lambda wrapped, m: m.optimizer(wrapped, fit), self.members, optimizer)

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        return reduce(lambda changed, m: m.batch(changed, fit), self.members, batch)

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        return reduce(lambda changed, m: m.loss(changed, step, fit), self.members, loss)

    def tick(self, event: Event, fit: Fit) -> None:
        for member in self.members:
            member.tick(event, fit)

    def predictor(self, predict: Predict, model: Model) -> Predict:
        return reduce(lambda changed, m: m.predictor(changed, model), self.members, predict)

    def not_by_stay(self) -> list[str]:
        return [name for member in self.members for name in member.not_by_stay()]

    def share(self, other: Regulariser) -> None:
        assert isinstance(other, Composite), "methods of the same list"
        for member, theirs in zip(self.members, other.members, strict=True):
            member.share(theirs)

    def state_dict(self) -> dict[str, Any]:
        """Return the members' states by position."""
        return {str(i): member.state_dict() for i, member in enumerate(self.members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, member in enumerate(self.members):
            member.load_state_dict(state[str(i)])


class OptimizerWrapper(Optimizer):
    """An optimiser around another one; groups, state and defaults are those of the base.

    `super().__init__` is not called: it would copy the groups, so learning-rate changes and loaded
    states would no longer reach the base. The wrapper keeps its own state here, because an entry in
    `base.state` would stop Adam from initialising its moments. `copy.deepcopy` and pickle are
    refused: save the state instead.
    """

    def __init__(self, base: Optimizer) -> None:
        if not isinstance(base, Optimizer):
            raise InputError(f"An optimiser wrapper needs a torch optimiser, got {type(base)}.")
        (closure,) = inspect.signature(base.step).parameters.values()
        if closure.default is closure.empty:
            raise InputError(
                f"{type(base).__name__} evaluates its closure itself, so its gradients cannot be "
                "edited. Wrap an optimiser whose step() works without one."
            )
        self.base = base

    def update(self) -> None:
        """Edit the gradients, then call `self.base.step()`, as here; runs under no_grad."""
        self.base.step()

    def own_state(self) -> dict[str, Any]:
        """Return the state of the wrapper itself; here there is none."""
        return {}

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `own_state()`."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update once, with the gradients of `closure` or, without one, the present gradients.

        The base gets no closure: it would evaluate it again and undo the edit.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            self.update()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none=set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.base.defaults

    def parameters(self) -> list[Tensor]:
        """Return all parameters in the order of the groups; states are saved by position in it."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state and the wrapper's own."""
        return {"base": self.base.state_dict(), "own": self.own_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            InputError: the state was saved without this wrapper.
        """
        if set(state_dict) != {"base", "own"}:
            raise InputError(
                f"{type(self).__name__} needs a state with the keys 'base' and 'own', "
                f"got {sorted(state_dict)}: it was saved by another optimiser."
            )
        self.base.load_state_dict(state_dict["base"])
        self.load_own_state(state_dict["own"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refuse: the wrapper's own state would not know the new parameters."""
        raise InputError(
            f"{type(self).__name__} cannot take further parameters. "
            "Add the group to the base optimiser before wrapping it."
        )

    def register_step_pre_hook(self, hook: Any) -> NoReturn:
        """Refuse: the hook would run before the closure, when there are no gradients yet."""
        raise InputError(
            f"{type(self).__name__} calls no step hooks. Register the hook on the base optimiser."
        )

    register_step_post_hook = register_step_pre_hook

    def __getstate__(self) -> NoReturn:
        raise InputError(
            f"{type(self).__name__} cannot be copied or pickled. "
            "Save state_dict() and wrap a new optimiser."
        )


@contextmanager
def differentiation(needs: frozenset[Need]) -> Iterator[None]:
    """Use kernels that have the derivatives a method needs, in forward pass and penalty.

    "double_backward" turns off kernels without a second derivative (cuDNN's recurrences, fused
    attention), and oneDNN's recurrence, which has one but is slower than the native one.
    """
    with ExitStack() as stack:
        if "double_backward" in needs:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False, allow_tf32=None))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def require(condition: bool, method: str, rule: str, got: object) -> None:
    """Raise InputError if an option breaks its rule."""
    if not condition:
        raise InputError(f"{method}: {rule}, got {got!r}.")


def draw_keep(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return a mask of mean 1 and `like`'s shape: 0 with probability `rate`, or 1 / (1 - rate)."""
    keep = torch.empty_like(like).bernoulli_(1 - rate, generator=generator)
    return keep.div_(1 - rate)


def trainable(module: nn.Module) -> list[Tensor]:
    """Return the parameters that require gradients."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
