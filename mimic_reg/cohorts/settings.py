"""Choices for importing a cohort. The defaults follow YAIB (van de Water et al., ICLR 2024)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mimic_reg.settings.base import Settings
from mimic_reg.store.spec import SPLITS, Target

RESERVED = ("hour", "hours", "hours_seen", "split", "fold", "subject")


class Columns(Settings):
    """Which columns of a table are features, and how to encode them.

    If `continuous` or `categorical` lists columns, only these are features. Otherwise every column
    is one, unless `leave_out` lists it: numbers are continuous, text and booleans categorical.

    continuous:  numbers, normalised
    categorical: one 0/1 channel per category; booleans and 0/1 numbers make a single channel
    leave_out:   columns that are not features
    """

    continuous: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_disjoint(self) -> "Columns":
        named = (*self.continuous, *self.categorical, *self.leave_out)
        if repeated := [name for name in named if named.count(name) > 1]:
            raise ValueError(f"the column {repeated[0]!r} is listed twice")
        return self


class Splits(Settings):
    """How patients are divided into training, validation and test, or into folds.

    train, validation, test: shares that sum to 1; those of YAIB's five folds within five
    folds:    number of folds for cross-validation, at least 3, instead of shares. One fold tests,
              the next one validates, the others train
    repeats:  of the division into folds, each time with other patients together
    seed:     of the random division
    stratify: give every split the same share of each class; a patient with several labels counts
              with the highest, one of a multilabel task with whether any label is positive
    column:   a column of the static table that holds train, validation (or val) or test; with
              `folds`, the fold of each stay
    files:    train, validation and test: tables in the cohort's folder that list their stays (or
              patients), in the column of the stay (or subject); with `folds`, a list of tables
    """

    train: float = Field(default=0.64, gt=0, lt=1)
    validation: float = Field(default=0.16, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    folds: int | None = Field(default=None, ge=3, le=100)
    repeats: int = Field(default=1, ge=1, le=100)
    seed: int = Field(default=0, ge=0)
    stratify: bool = True
    column: str | None = None
    files: dict[Literal["train", "validation", "test"], str] | tuple[str, ...] = ()

    @property
    def lists(self) -> dict[str | int, str]:
        """Return split or fold → the table that lists its stays; empty without such tables."""
        if isinstance(self.files, tuple):
            return dict(enumerate(self.files, 1))
        return {"val" if name == "validation" else name: f for name, f in self.files.items()}

    @model_validator(mode="after")
    def _fits_together(self) -> "Splits":
        if self.files and self.column:
            raise ValueError("give either a column or files")
        wanted = range(1, self.folds + 1) if self.folds else SPLITS
        if self.files and {*self.lists} != {*wanted}:
            raise ValueError(
                f"files must name {self.folds} tables, one for each fold"
                if self.folds
                else "files must name three tables: train, validation and test"
            )
        if self.folds and (given := self.model_fields_set & {"train", "validation", "test"}):
            raise ValueError(
                f"folds have equal shares, so {min(given)!r} has no meaning beside 'folds'"
            )
        if self.repeats > 1 and (not self.folds or self.column or self.files):
            raise ValueError("repeats are of folds that are drawn: give folds, no column or files")
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train, validation and test sum to {total:g}; they must sum to 1")
        return self


class ImportSettings(Settings):
    """How to read a folder with dyn, sta and outc, and what to make of it.

    name:             of the cohort, in reports and the registry; by default the folder's name
    task:             the task's name; by default the folder's name
    stay:             the column that identifies a stay, in all three tables
    subject:          the static table's column of the patient; null: each stay is a patient
    time:             the column of the time since admission
    time_unit:        what its numbers count; durations have their own unit
    labels:           label columns of the outcome table; several make a multilabel task
    target:           binary, multilabel, multiclass or regression; by default guessed from the
                      labels where they leave no doubt
    classes:          values of a multiclass label, in the order of the model's outputs; by default
                      those found, sorted
    score:            the score that selects checkpoints; by default the first one of the target
    hours:            use only the first so many hours of every stay
    dynamic, static:  which columns are features; static ones are repeated in every hour
    aggregate:        of several measurements of a variable within an hour; ricu takes the median
    normal_values:    variable: value to assume before its first measurement, number or category;
                      without it, numbers get the mean of the training split
    indicators:       a 0/1 channel per dynamic variable: missing (1 where it was not measured in
                      that hour, as YAIB), observed (1 where it was, as the MIMIC-III benchmark), or
                      none
    before_admission: rows with a negative time: refuse or drop
    unmatched:        stays that are not in all three tables: refuse or drop
    splits:           how patients are divided
    """

    name: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    task: str | None = Field(default=None, pattern=r"^\w[\w.-]*$")
    stay: str = "stay_id"
    subject: str | None = None
    time: str = "time"
    time_unit: Literal["seconds", "minutes", "hours", "days"] = "hours"
    labels: tuple[str, ...] = Field(default=("label",), min_length=1)
    target: Target | None = None
    classes: tuple[str | int, ...] = ()
    score: str | None = None
    hours: int | None = Field(default=None, ge=1)
    dynamic: Columns = Columns()
    static: Columns = Columns()
    aggregate: Literal["median", "mean", "last"] = "median"
    normal_values: dict[str, Annotated[float, Field(ge=-1e30, le=1e30)] | str] = Field(
        default_factory=dict
    )
    indicators: Literal["missing", "observed", "none"] = "missing"
    before_admission: Literal["refuse", "drop"] = "refuse"
    unmatched: Literal["refuse", "drop"] = "refuse"
    splits: Splits = Splits()

    @model_validator(mode="after")
    def _fits_together(self) -> "ImportSettings":
        columns = [self.stay, self.time, *self.labels]
        columns += [name for name in (self.subject, self.splits.column) if name]
        if repeated := [name for name in columns if columns.count(name) > 1]:
            raise ValueError(
                f"{repeated[0]!r} is named twice; stay, subject, time, labels and splits.column "
                "are different columns"
            )
        for name in (self.stay, *self.labels, self.subject):
            if name in RESERVED and not (name == self.subject == "subject"):
                raise ValueError(f"stores use the name {name!r} themselves; rename this column")
        if self.classes and self.target not in (None, "multiclass"):
            raise ValueError(f"classes belong to multiclass labels, not to {self.target}")
        return self
