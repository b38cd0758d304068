"""A trial: the frozen, typed settings of one fit, of one task or of several."""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mimic_reg.settings.base import Settings
from mimic_reg.settings.names import acting, find_module, resolve_options
from mimic_reg.settings.size import TrainingSize, training_size


class Component(Settings):
    """A module by its name, with options of its `build`: {dropout: {rate: 0.5}}.

    A name alone is a component with default options.
    """

    name: str
    given: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_entry(cls, entry: Any) -> Any:
        if isinstance(entry, Component):
            return entry
        if isinstance(entry, str):
            return {"name": entry}
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError("A component is a name with its options, such as dropout: {rate: 0.5}")
        ((name, options),) = entry.items()
        return {"name": name, "given": {} if options is None else options}

    @model_serializer
    def entry(self) -> dict[str, dict[str, Any]]:
        """Return it as written in YAML, in a copy that callers may change."""
        return {self.name: copy.deepcopy(self.given)}

    @property
    def options(self) -> dict[str, Any]:
        """Return the options, in a copy that callers may change."""
        return copy.deepcopy(self.given)

    def completed(self, package: str, kind: str, skip: Iterable[str] = ()) -> "Component":
        """Return it with every default of its module's `build` written out.

        kind: name for a module of the package, for errors
        skip: arguments of `build` that are not options

        Raises:
            InputError: the package has no such module, or the module no such option.
        """
        build = find_module(package, self.name).build
        options = resolve_options(build, self.given, f"{kind} {self.name!r}", skip)
        return Component.model_validate({self.name: options})


class Training(Settings):
    """How to train a model with any method. The defaults are the paper's.

    epoch_steps: steps of an epoch, after which the model is validated; null: one pass over the
                 training samples. Large tasks are validated more often than once a pass
    normalizer:  for stays: published (the benchmark's means and deviations, for its cohort only) or
                 fitted (to this cohort); for images: unit (pixels in [0, 1]), fitted, or raw (0 to
                 255)
    indicators:  of the channels that say what was measured: stored (as the store has them),
                 observed (1 where it was measured), or missing (1 where it was not)
    by_length:   make batches of similar lengths; the paper pads within random batches
    by_stay:     of a causal model: one pass over a stay gives the losses of its samples. A batch
                 then has few stays for its size, so choose a larger batch_size
    output_bias: initial bias of the last layer: zero (the paper's; a dnn with torch's init draws
                 it), or prevalence: the log-odds of each label among the training samples, log
                 shares of classes, means of a regression. It changes the meaning of thresholds on
                 gradients
    corrupted_labels: share of the training samples whose labels are drawn at random, the same for
                 all methods of a seed; validation and test keep their labels
    precision:   of the forward pass of a training step: float32, or bfloat16 (torch's autocast).
                 Weights, losses, penalties, the optimiser and predictions stay float32
    schedule:    of the learning rate: constant; cosine, which falls from step to step, to nearly 0
                 at the end of max_epochs; or plateau, which multiplies it by plateau_factor after
                 plateau_patience epochs without a better validation score
    warmup_epochs: epochs in which the learning rate first rises from step to step
    weight_decay: a step multiplies the weights by 1 - learning rate * weight_decay, apart from the
                 optimiser (AdamW), as the method decoupled_decay does
    clip_norm:   longest gradient of a step, after methods have changed it; null: any
    class_weights: none, or balanced: each class of a label has the same weight in the training
                 loss. Predictions are then not calibrated

    Early stopping is not a setting here but a method, early_stopping.
    """

    optimizer: Literal["adam", "sgd", "adagrad"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=32, ge=1)
    max_epochs: int = Field(default=100, ge=1)
    epoch_steps: int | None = Field(default=None, ge=1)
    normalizer: Literal["published", "fitted", "unit", "raw"] = "published"
    indicators: Literal["stored", "observed", "missing"] = "stored"
    by_length: bool = False
    by_stay: bool = False
    output_bias: Literal["zero", "prevalence"] = "zero"
    corrupted_labels: float = Field(default=0.0, ge=0, le=1)
    precision: Literal["float32", "bfloat16"] = "float32"
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    warmup_epochs: int = Field(default=0, ge=0)
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=5, ge=1)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    class_weights: Literal["none", "balanced"] = "none"

    @model_validator(mode="after")
    def _recipe_fits_together(self) -> "Training":
        if 0 < self.max_epochs <= self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs}) must be below max_epochs ({self.max_epochs})"
            )
        if self.weight_decay * self.learning_rate >= 1:
            raise ValueError(
                f"learning_rate ({self.learning_rate:g}) times weight_decay "
                f"({self.weight_decay:g}) must be below 1, or a step changes the sign of weights"
            )
        if self.schedule != "plateau":
            for name in _OF_PLATEAU:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} has no effect without schedule: plateau")
        if self.class_weights == "balanced" and self.output_bias == "prevalence":
            raise ValueError(
                "with class_weights: balanced all classes count as equally common, so "
                "output_bias: prevalence would start in the wrong place; leave out one of them"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer settings that change nothing: older trials keep their identity."""
        unused = {n for n in _NEWER if getattr(self, n) == type(self).model_fields[n].default}
        unused |= set(_OF_PLATEAU) if self.schedule != "plateau" else set()
        return {name: value for name, value in content(self).items() if name not in unused}


_OF_PLATEAU = ("plateau_factor", "plateau_patience")
_OF_STEPS = ("schedule", "warmup_epochs", "weight_decay", "clip_norm")
RECIPE = ("class_weights", "precision", *_OF_STEPS)
_NEWER = ("corrupted_labels", "by_stay", "indicators", *RECIPE)


class Together(Settings):
    """The fit of several tasks that a trial is a part of.

    strategy: module that trains them together, with its options
    tasks:    all tasks, in the order of training
    fit:      identity of the fit's settings, including those of the other tasks
    """

    strategy: Component
    tasks: tuple[str, ...]
    fit: str


class Start(Settings):
    """How a trial on few samples starts: from a trained trunk, or not.

    trunk:       description of the trunk's training; null: new weights
    fingerprint: hash of its weights
    """

    trunk: str | None = None
    fingerprint: str | None = None


# the same in all parts of a fit
_SAME = ("model", "supervision", "supervision_unit", "num_samples", "seed", "fold")
_SAME_TRAINING = ("optimizer", "learning_rate", "max_epochs", *_OF_STEPS, *_OF_PLATEAU)


class Trial(Settings):
    """One fully specified fit of one task or of several; or one task's part in a fit of several.

    supervision:      share of the training samples; smaller shares are subsets of larger ones
    supervision_unit: what is kept or left out as a whole
    seed:             trials that differ only in their regularisers share initial weights and
                      batches if they have the same seed
    fold:             fold to test on, from 1 on, of a cohort with folds
    together:         the fit of several tasks that this is a part of
    num_samples:      number of training samples, instead of a share; nested, too
    start:            from a trained trunk, or explicitly not
    sources:          of models and methods outside mimic-reg: name -> hash of the source
    strategy:         module that trains several tasks together, with its options
    trials:           one for each of several tasks. They differ in what belongs to a task: batch
                      size, normaliser, patience. The whole has the shared values, such as
                      `trial.model`, and the training and methods of the first; it is written as
                      strategy and trials alone, and its `task` names all tasks
    """

    task: str = Field(pattern=r"^\w[\w.-]*( \+ \w[\w.-]*)*$")
    model: Component
    regularisers: tuple[Component, ...] = ()
    supervision: float = Field(default=1.0, gt=0, le=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seed: int = Field(default=0, ge=0)
    fold: int | None = Field(default=None, ge=1)
    training: Training = Training()
    together: Together | None = None
    num_samples: int | None = Field(default=None, ge=2)
    start: Start | None = None
    strategy: Component | None = None
    trials: tuple["Trial", ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _takes_what_tasks_share_from_the_first(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not {"strategy", "trials"} & given.keys():
            return given
        trials = given.get("trials")
        if not trials or not all(isinstance(trial, Trial) for trial in trials):
            raise ValueError(
                "a fit of several tasks needs a strategy, and trials: one for each task"
            )
        shared = {name: getattr(trials[0], name) for name in cls.model_fields}
        shared["task"] = " + ".join(trial.task for trial in trials)
        if misplaced := given.keys() & shared.keys() - {"strategy", "trials"}:
            raise ValueError(f"{min(misplaced)!r} belongs in each of the trials")
        return {**shared, **given}

    @model_validator(mode="after")
    def _fits_together(self) -> "Trial":
        if self.num_samples is not None and self.supervision != 1:
            raise ValueError("it has both num_samples and a supervision level; give one of them")
        if self.num_samples is not None and self.supervision_unit != "sample":
            raise ValueError("num_samples counts samples, so supervision_unit must be 'sample'")
        if self.training.indicators != "stored" and (self.strategy or self.together or self.start):
            raise ValueError(
                f"training.indicators is {self.training.indicators!r}, but a trunk that tasks "
                "share, or that a trial starts from, reads them as the store has them: 'stored'"
            )
        return self

    @model_validator(mode="after")
    def _is_one_fit(self) -> "Trial":
        if self.strategy is None and (self.trials or " " in self.task):
            raise ValueError(
                "a fit of several tasks needs a strategy, and trials: one for each task"
            )
        if repeated := [task for task in self.tasks if self.tasks.count(task) > 1]:
            raise ValueError(f"the task {repeated[0]!r} is given twice")
        for trial in self.trials[1:]:
            first = self.trials[0]
            for one, other, names in (
                (first, trial, _SAME),
                (first.training, trial.training, _SAME_TRAINING),
            ):
                for name in names:
                    if getattr(one, name) != getattr(other, name):
                        raise ValueError(
                            f"the tasks of a fit must have one {name}, but {first.task} has "
                            f"{_said(getattr(one, name))} and {trial.task} "
                            f"{_said(getattr(other, name))}"
                        )
            if (theirs := _names(trial)) != _names(first):
                raise ValueError(
                    f"the tasks of a fit must have the same methods, but {first.task} has "
                    f"{_names(first)} and {trial.task} {theirs}"
                )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        names = [n for n in type(self).model_fields if n not in _MAY_BE_UNUSED or getattr(self, n)]
        written = content(self)
        return {name: written[name] for name in (("strategy", "trials") if self.trials else names)}

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks, in the order of training."""
        return tuple(trial.task for trial in self.trials) or (self.task,)

    @property
    def size(self) -> TrainingSize:
        """Return the training size."""
        return training_size(self.supervision, self.num_samples)

    @property
    def method(self) -> str:
        """Return its modules: 'none', 'norm_penalty + dropout', 'reptile: dropout'.

        Trunks record it, so it is a part of identities; `files.name_of_trial` is for readers.
        """
        name = " + ".join(acting(_names(self)))
        strategy = self.together.strategy if self.together else self.strategy
        return f"{strategy.name}: {name}" if strategy else name

    def id(self, data: str) -> str:
        """Return the trial's identity on data with this fingerprint, the same on all machines."""
        text = json.dumps({"trial": self.model_dump(mode="json"), "data": data}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def parts(self) -> tuple["Trial", ...]:
        """Return the trial of each task as part of this fit, or the trial itself for one task."""
        if self.strategy is None:
            return (self,)
        together = Together(strategy=self.strategy, tasks=self.tasks, fit=self.id(""))
        return tuple(trial.model_copy(update={"together": together}) for trial in self.trials)

    def to_yaml(self) -> str:
        """Return the resolved settings as YAML; `resolve(load_yaml(…))` reads them."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


_MAY_BE_UNUSED = ("fold", "together", "num_samples", "start", "strategy", "trials", "sources")


def _names(trial: Trial) -> list[str]:
    return [method.name for method in trial.regularisers]


def _said(value: Any) -> str:
    return str(value.entry() if isinstance(value, Component) else value)
