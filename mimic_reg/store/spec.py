"""The specification of a cohort: its keys, channels, tasks, splits and normalisers.

The store's manifest holds it. Samples, models, serving and reports take names and sizes from it, so
a cohort with other channels, tasks or keys needs no other code.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import polars as pl
from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from mimic_reg.errors import InputError
from mimic_reg.settings.base import Settings
from mimic_reg.settings.names import suggest

Target = Literal["binary", "multilabel", "multiclass", "regression"]
ChannelKind = Literal["continuous", "indicator", "observed", "missing"]
Normalizer = Literal["published", "fitted", "unit", "raw"]

SCHEMA_VERSION = 2  # of stores
SPLITS = ("train", "val", "test")  # the labels of the published listfiles
SPLIT, FOLD = "split", "fold"  # the column of a sample table that divides the subjects
# In a store of images: their bytes, (N, C, H, W), under the name "images".
IMAGES = "images.safetensors"
BENCHMARK = "mimic-iii-benchmark"  # the published cohorts


def split_in_fold(fold: int, folds: int) -> pl.Expr:
    """Return the split of samples in a fold: it tests, the next one validates, the others train.

    The fold after the last is the first.

    fold:  from 1 on; those beyond `folds` are of the second division into as many folds, and so on
    folds: of a division
    """
    repeat, position = divmod(fold - 1, folds)
    number, fold = pl.col(fold_column(repeat + 1)), position + 1
    return (
        pl.when(number == fold)
        .then(pl.lit("test"))
        .when(number == fold % folds + 1)
        .then(pl.lit("val"))
        .otherwise(pl.lit("train"))
        .alias(SPLIT)
    )


def fold_column(repeat: int) -> str:
    """Return the column of the folds of a division, counted from 1."""
    return FOLD if repeat == 1 else f"{FOLD}_{repeat}"


def _refuse_repeated(what: str, names: tuple[str, ...]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the {what} {repeated[0]!r} appears twice")


class Channel(Settings):
    """One column of the hourly array.

    kind:     continuous: normalised; indicator: 0 or 1 of a category; observed: 1 where the
              variable was measured in that hour; missing: 1 where it was not
    variable: the variable it is made from; several channels may share one
    """

    name: str
    kind: ChannelKind
    variable: str


class Task(Settings):
    """One prediction task.

    target:  binary and multilabel: labels in {0, 1}, one logit per label, sigmoid;
             multiclass: one integer label, softmax; regression: one real label
    labels:  the label columns of the task's sample table
    score:   the score that selects checkpoints on the validation split
    classes: class names of a multiclass task, in the order of their labels
    hours:   the hours that every sample may see, if all see the same
    """

    name: str = Field(pattern=r"^\w[\w.-]*$", max_length=100)
    target: Target
    labels: tuple[str, ...] = Field(min_length=1)
    score: str
    classes: tuple[str, ...] = ()
    hours: float | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Task":
        if self.target != "multilabel" and len(self.labels) != 1:
            raise ValueError(f"the {self.target} task {self.name!r} needs exactly one label")
        if (self.target == "multiclass") != (len(self.classes) > 1):
            raise ValueError(
                f"the task {self.name!r}: a multiclass task needs two classes or more, others none"
            )
        for what, names in (("label", self.labels), ("class", self.classes)):
            _refuse_repeated(f"{what} of {self.name}", names)
        return self

    @property
    def num_outputs(self) -> int:
        """Return the number of logits that a model has for this task."""
        return len(self.classes) or len(self.labels)


class CohortSpec(Settings):
    """The content of a cohort store.

    name:        the cohort's name, shown in reports and the registry
    unit:        the key column of stays or images, for which features are stored
    subject:     the key column of patients; splits and intervals keep their samples together
    time:        the hourly table's column of hours, 0, 1, 2, …; None: units without a time axis
    end:         the sample tables' column of the hours that a sample may see; None without time
    channels:    of the hourly array, in its order; empty for images
    shape:       of a unit without a time axis: (colours, height, width)
    tasks:       the prediction tasks
    splits:      how subjects were split, in words
    folds:       for cross-validation: the sample tables have a column `fold` with the numbers 1 to
                 `folds` instead of `split`; see `split_in_fold`
    repeats:     divisions into folds; the columns of the second, third, … are fold_2, fold_3, …
    normalizers: those available, the default first
    imputed:     whether every cell of the hourly table has a value. If not, an empty cell of a
                 continuous channel gets the mean of the normaliser
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    unit: str
    subject: str
    time: str | None = None
    end: str | None = None
    channels: tuple[Channel, ...] = ()
    shape: tuple[int, ...] = ()
    tasks: tuple[Task, ...] = Field(min_length=1)
    splits: str
    folds: int | None = Field(default=None, ge=3, le=1000)
    repeats: int = Field(default=1, ge=1, le=1000)
    normalizers: tuple[Normalizer, ...] = Field(min_length=1)
    imputed: bool = True

    @model_serializer(mode="wrap")
    def _without_defaults(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out newer fields with their default: older stores keep their fingerprint."""
        defaults = {"imputed": True, "folds": None, "repeats": 1}
        return {k: v for k, v in content(self).items() if k not in defaults or v != defaults[k]}

    @model_validator(mode="after")
    def _fits_together(self) -> "CohortSpec":
        if not ((self.time is None) == (self.end is None) == bool(self.shape)):
            raise ValueError("a cohort needs 'time', 'end' and channels, or a 'shape' instead")
        if bool(self.channels) == bool(self.shape):
            raise ValueError("a cohort needs either channels or a 'shape'")
        if self.folds and self.time is None:
            raise ValueError("a cohort of images cannot have folds")
        if self.repeats > 1 and not self.folds:
            raise ValueError("'repeats' are of a division into folds, and there is no 'folds'")
        _refuse_repeated("channel", self.channel_names)
        _refuse_repeated("task", self.task_names)
        time = () if self.time is None or self.end is None else (self.time, self.end)
        _refuse_repeated("column of the hourly table", (self.unit, *time[:1], *self.channel_names))
        subject = () if self.subject == self.unit else (self.subject,)
        for task in self.tasks:
            columns = (self.unit, *subject, *time[1:], *self.divisions, *task.labels)
            _refuse_repeated(f"column of the samples of {task.name}", columns)
        return self

    @classmethod
    def read(cls, content: Any) -> "CohortSpec":
        """Return the specification in a manifest's JSON.

        Raises:
            InputError: it is invalid; the text names the first fault.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise InputError(
                f"The cohort specification is invalid{f' at {where!r}' if where else ''}: "
                f"{fault['msg'].removeprefix('Value error, ')}."
            ) from error

    @property
    def is_hourly(self) -> bool:
        """Return whether units have a time axis."""
        return self.time is not None

    @property
    def subjects(self) -> str:
        """Return what splits and intervals keep together, as people call it."""
        if self.shape:
            return "images"
        return "stays" if self.subject == self.unit else "patients"

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the columns that identify a sample of a task."""
        return (self.unit,) if self.end is None else (self.unit, self.end)

    @property
    def division(self) -> str:
        """Return the column of the sample tables that divides the subjects: split or fold."""
        return self.divisions[0]

    @property
    def divisions(self) -> tuple[str, ...]:
        """Return the columns that divide the subjects: split; or folds, one for each repeat."""
        return tuple(fold_column(r + 1) for r in range(self.repeats)) if self.folds else (SPLIT,)

    @property
    def num_folds(self) -> int:
        """Return how many folds there are to test on, of all repeats; 0 without folds."""
        return (self.folds or 0) * self.repeats

    def check_fold(self, fold: int | None) -> None:
        """Refuse a fold that the cohort does not have, or no fold where it needs one.

        Raises:
            InputError: see above.
        """
        if self.folds is None and fold is not None:
            raise InputError(
                f"The cohort {self.name!r} has no folds: its patients are divided once "
                f"({self.splits}). Leave out the fold, or import the cohort with `folds: 5`."
            )
        if self.folds is not None and (fold is None or not 1 <= fold <= self.num_folds):
            wrong = "" if fold is None else f", not {fold}"
            times = f" ({self.repeats} times)" if self.repeats > 1 else ""
            raise InputError(
                f"The cohort {self.name!r} is divided into {self.folds} folds{times} for "
                f"cross-validation. Name the fold to test on: 1 to {self.num_folds}{wrong}."
            )

    def check_undivided(self, what: str) -> None:
        """Refuse a cohort with folds.

        what: what cannot be done with it, as the subject of a sentence

        Raises:
            InputError: it has folds.
        """
        if self.folds is not None:
            raise InputError(
                f"{what} needs patients that are divided once into training, validation and test, "
                f"but the cohort {self.name!r} has {self.folds} folds. Import it without `folds`."
            )

    @cached_property
    def channel_names(self) -> tuple[str, ...]:
        """Return the feature columns of the hourly table, in the array's order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def features(self) -> tuple[int, ...]:
        """Return the shape of an hour of features, (F,), or of an image, (C, H, W)."""
        return self.shape or (len(self.channels),)

    @property
    def task_names(self) -> tuple[str, ...]:
        """Return the names of the tasks."""
        return tuple(task.name for task in self.tasks)

    def task(self, name: str) -> Task:
        """Return a task.

        Raises:
            InputError: the cohort has no such task; the text names its tasks.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise InputError(
            f"{name!r} is not a task of the cohort {self.name!r}. {suggest(name, self.task_names)}"
        )

    def only(self, tasks: Mapping[str, Any] | tuple[str, ...]) -> "CohortSpec":
        """Return the same cohort with only these tasks."""
        kept = tuple(self.task(name) for name in tasks)
        return self.model_copy(update={"tasks": kept})
