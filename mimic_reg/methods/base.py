"""The protocol between the engine and a method: six hooks, and what a method sees of a fit.

One optimiser step of the engine, which calls no method by name::

    batch = method.batch(batch, fit)                   # once a step, outside the closure
    def closure():
        optimizer.zero_grad()
        with differentiation(method.needs):            # around forward AND penalty
            logits = model(batch.x, batch.lengths)     # batch.x requires grad if "input_grad"
            per_sample = loss_of(fit.target, logits, batch.y)
            step = Step(model, batch, logits, per_sample)
            loss = method.loss(per_sample.mean(), step, fit)
            loss.backward()
        return loss.detach()
    optimizer.step(closure); fit.step += 1; method.tick("step", fit)

Before the first step: `model = method.prepare(model, fit)`, then the optimiser of the trainable
parameters, then `optimizer = method.optimizer(optimizer, fit)`. Before an epoch: `fit.epoch` is
set, `tick("epoch_start")`. After its last step `tick("before_validation")`. After its validation:
`fit.score` is set, `tick("epoch_end")`, and the fit ends if `fit.stop_reason` is set. Predictions
for validation and test come from `method.predictor(model, model)`, with the model in eval mode and
no gradients.

A checkpoint holds the states of model, optimiser, method and `fit.generator`, and `fit.epoch`,
`fit.step`. To resume, or to evaluate later: `prepare`, `optimizer`, then load all states.

Shapes: B samples, T hours, F channels, C outputs.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import Optimizer

from mimic_reg.errors import InputError
from mimic_reg.models.base import Model
from mimic_reg.samples import Batch, Samples
from mimic_reg.store.spec import Target

__all__ = [
    "Attributes",
    "Batch",
    "Composite",
    "Event",
    "Fit",
    "Need",
    "OptimizerWrapper",
    "Options",
    "Predict",
    "Regulariser",
    "Step",
    "differentiation",
    "draw_keep",
    "require",
    "trainable",
]

Event = Literal["epoch_start", "step", "before_validation", "epoch_end"]
Need = Literal["input_grad", "double_backward", "index"]
Options = Mapping[str, Any]
Attributes = Callable[[Sequence[str]], Mapping[str, np.ndarray]]
Predict = Callable[[Tensor, Tensor], Tensor]  # (x, lengths) -> logits (B, C); a model is one


@dataclass
class Fit:
    """All that a method sees of the outside; the engine owns it and keeps it current.

    target, num_outputs: what the logits mean, and C
    num_train:       samples of the training split (at this supervision level)
    epoch_steps, max_epochs: the planned length of the fit
    generator:       the method's own random stream, on the model's device
    record:          (name, value): remembers a number, or a tensor of one, for the history
    train:           the training samples, for what looks at more than a step's batch; None where
                     the loop has none to show, as where a model only predicts
    validation:      the validation samples, for what is chosen by them; None as above
    attributes:      (names) -> columns (N,) about the training samples; no inputs; None as above
    epoch:           0-based, of the epoch under way
    step:            optimiser steps done since the fit began
    score:           the latest validation score, larger is better; None before the first
    started:         set to False at "epoch_end" by a method whose effect has not begun: the epoch
                     does not count for patience; early stopping, listed last, sets it back
    eligible:        set to False at "before_validation" by a method for an epoch whose model is not
                     what it is after (not yet pruned, say): it is not selected, whatever its score
    explained:       share of the training loss of the best constant prediction that the model took
                     away in the latest epoch, over the same batches: 0 is no better, 1 is no loss
                     (McFadden's pseudo-R², R² for a regression). Set before "before_validation";
                     None: not measured
    learned:         set to False at "before_validation" by early stopping where `explained` is too
                     little: a later epoch that has learned is selected whatever its score
    stop_reason:     set by `stop`; the engine ends the fit after the epoch
    may_end_in:      set by early stopping: further epochs until it ends the fit if the score does
                     not improve; for progress only
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
    """A method: subclasses are final and override what they need; every hook here does nothing.

    needs:   what the engine must provide; an instance may need less than its class
    neutral: options with which a fit equals the baseline bit for bit; where it is None, the
             docstring says why on a line that starts with "No neutral setting"
    alone:   whether a fit of several tasks refuses it: copies of one trunk would differ by it
    """

    needs: frozenset[Need] = frozenset()
    alone: ClassVar[bool] = False
    neutral: ClassVar[Options | None] = None

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Change the model, before the optimiser exists; never draws from the initial stream."""
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Wrap the optimiser."""
        return optimizer

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Change inputs or targets, in a new batch (`dataclasses.replace`)."""
        return batch

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Add a penalty or transform the loss; may run several times a step."""
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Schedules, monitors, averaging: see `Event`, in the order in which an epoch has them."""

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Change how the evaluated model predicts."""
        return predict

    def share(self, other: "Regulariser") -> None:
        """Hold in common with `other` what is kept for the parameters of the trunk.

        Where tasks are trained together, each has methods of its own and a copy of the trunk.
        Called after `optimizer`, and again after states were loaded, with the first task's method.
        """

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs beyond model and optimiser: tensors, numbers, texts, lists, dicts."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; called after `prepare` and `optimizer`."""


class Composite(Regulariser):
    """Several methods as one; their order is the order in which they act.

    The first optimiser wrapper is the innermost: SAM, which evaluates the closure twice, stands
    after a method that selects, which must see one gradient a step.
    """

    def __init__(self, members: Sequence[Regulariser]) -> None:
        self.members = tuple(members)
        self.needs = frozenset[Need]().union(*(m.needs for m in self.members))

    def prepare(self, model: Model, fit: Fit) -> Model:
        """Fold over the members."""
        for member in self.members:
            model = member.prepare(model, fit)
        return model

    def optimizer(self, optimizer: Optimizer, fit: Fit) -> Optimizer:
        """Fold over the members."""
        for member in self.members:
            optimizer = member.optimizer(optimizer, fit)
        return optimizer

    def batch(self, batch: Batch, fit: Fit) -> Batch:
        """Fold over the members."""
        for member in self.members:
            batch = member.batch(batch, fit)
        return batch

    def loss(self, loss: Tensor, step: Step, fit: Fit) -> Tensor:
        """Fold over the members."""
        for member in self.members:
            loss = member.loss(loss, step, fit)
        return loss

    def tick(self, event: Event, fit: Fit) -> None:
        """Tell every member."""
        for member in self.members:
            member.tick(event, fit)

    def predictor(self, predict: Predict, model: Model) -> Predict:
        """Fold over the members."""
        for member in self.members:
            predict = member.predictor(predict, model)
        return predict

    def share(self, other: Regulariser) -> None:
        """Member with member, by position."""
        assert isinstance(other, Composite), "methods of the same list"
        for member, theirs in zip(self.members, other.members, strict=True):
            member.share(theirs)

    def state_dict(self) -> dict[str, Any]:
        """The members' states by position."""
        return {str(i): member.state_dict() for i, member in enumerate(self.members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The members' states by position."""
        for i, member in enumerate(self.members):
            member.load_state_dict(state[str(i)])


class OptimizerWrapper(Optimizer):
    """An optimiser around another one, whose groups, state and defaults stay the only ones.

    `super().__init__` is not called: it would copy the groups, and learning-rate changes and loaded
    states would no longer reach the base. Own state lives here, not in `base.state`, where it would
    defeat the lazy initialisation of Adam. `copy.deepcopy` and pickle do not work: save the state.
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

    @abstractmethod
    def update(self) -> None:
        """Edit the gradients, which exist by now, then call `self.base.step()`; under no_grad."""

    @abstractmethod
    def own_state(self) -> dict[str, Any]:
        """State of the wrapper itself."""

    @abstractmethod
    def load_own_state(self, state: Mapping[str, Any]) -> None:
        """Continue from `own_state()`."""

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update, with the gradients that `closure` makes or, without one, those there are.

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
        """As the base does."""
        self.base.zero_grad(set_to_none=set_to_none)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base's groups themselves."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The base's state itself."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base's defaults themselves."""
        return self.base.defaults

    def parameters(self) -> list[Tensor]:
        """All parameters, in the order of the groups: the numbers that states are saved under."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """The base's state and the wrapper's own."""
        return {"base": self.base.state_dict(), "own": self.own_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            InputError: the state is that of an optimiser without this wrapper.
        """
        if set(state_dict) != {"base", "own"}:
            raise InputError(
                f"{type(self).__name__} needs a state with the keys 'base' and 'own', "
                f"got {sorted(state_dict)}: it was saved by another optimiser."
            )
        self.base.load_state_dict(state_dict["base"])
        self.load_own_state(state_dict["own"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Refused: the wrapper's own state would not know the new parameters."""
        raise InputError(
            f"{type(self).__name__} cannot take further parameters. "
            "Add the group to the base optimiser before wrapping it."
        )

    def register_step_pre_hook(self, hook: Any) -> NoReturn:
        """Refused: it would fire before the closure, when there are no gradients yet."""
        self._refuse_hook()

    def register_step_post_hook(self, hook: Any) -> NoReturn:
        """Refused, as `register_step_pre_hook`."""
        self._refuse_hook()

    def _refuse_hook(self) -> NoReturn:
        raise InputError(
            f"{type(self).__name__} calls no step hooks. Register the hook on the base optimiser."
        )

    def __getstate__(self) -> NoReturn:
        raise InputError(
            f"{type(self).__name__} cannot be copied or pickled. "
            "Save state_dict() and wrap a new optimiser."
        )


@contextmanager
def differentiation(needs: frozenset[Need]) -> Iterator[None]:
    """The kernels that a method's derivatives need, around forward pass and penalty.

    With "double_backward", kernels without a second derivative are off: cuDNN's recurrences and the
    fused attentions; oneDNN's recurrence has one, but is slower than the native one there.
    """
    with ExitStack() as stack:
        if "double_backward" in needs:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False, allow_tf32=None))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


def require(condition: bool, method: str, rule: str, got: object) -> None:
    """Check an option.

    Raises:
        InputError: the condition does not hold.
    """
    if not condition:
        raise InputError(f"{method}: {rule}, got {got!r}.")


def draw_keep(like: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """A pattern of `like`'s shape and mean 1: 0 with probability `rate`, else 1 / (1 - rate)."""
    keep = torch.empty_like(like).bernoulli_(1 - rate, generator=generator)
    return keep.div_(1 - rate)


def trainable(module: nn.Module) -> list[Tensor]:
    """The parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
