"""The keys of an experiment's YAML: its grids, and settings for all of them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mimic_reg.settings import Component, Settings, Start
from mimic_reg.settings.budget import Budget
from mimic_reg.settings.space import Values, as_search, check_space

IMAGE_TASK = "image_classification"
IMAGE_SETS = ("cifar10", "fashion_mnist", "stl10", "images")  # images: any set
SINGLE = "single"  # the strategy with one trial for each task
_MOST_SEEDS = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


Model = str | Component
Method = str | tuple[Component, ...]


class Grid(Settings):
    """All combinations of its lists.

    tasks:     names of YAML files in configs/tasks
    models:    names of YAML files in configs/models, or of modules; or a module with its settings
    methods:   names of YAML files in configs/methods; or components, alone or in a list; or `all`:
               every file there that fits the model
    folds:     of a cohort with folds: those to test on, or `all`, the default; [] for other cohorts
    families:  model → the family whose values methods take, if it is not the model's name
    supervision: shares of the training samples
    num_samples: numbers of training samples instead of shares; these subsets are nested, too
    search:    component.option → values
    own_search: each method runs with the values of `search` in its own file; a method whose file
               has no `search` runs once
    points:    number of points that a search takes from the `space` of each model and method; only
               `tune` and `compare` run such a grid
    space:     component.option → values, which replace those of the files
    search_seed: of the points
    tried:     points to run; such a search writes them here
    strategy:  single: one trial for each task; joint, reptile: one fit of all tasks with a shared
               trunk; a strategy can have options, such as {reptile: {inner_steps: 5}}
    data:      name of the cohort, or of a set of images, or `images` for any set; null: any store
               that has the benchmark's tasks
    stopping:  whether to use the early stopping of the tasks' YAML
    start:     a trained trunk: {trunk: its folder in the work folder, fingerprint: the one that
               `mimic-reg pretrain` printed}; {}: explicitly from scratch, for comparison
    probes:    measure every fit without changing it, such as {hessian_probe: {every: 10}}
    training:  replaces settings of tasks and experiment
    training_of: task → settings that replace those for this task
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    models: tuple[Model, ...] = Field(min_length=1)
    methods: tuple[Method, ...] | Literal["all"] = Field(min_length=1)
    supervision: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    num_samples: tuple[Annotated[int, Field(ge=2)], ...] = ()
    supervision_unit: Literal["sample", "subject"] = "sample"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    folds: tuple[Annotated[int, Field(ge=1)], ...] | Literal["all"] = ()
    families: dict[str, str] = Field(default_factory=dict)
    search: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    own_search: bool = False
    points: int | None = Field(default=None, ge=1, le=10_000)
    space: dict[str, Values] = Field(default_factory=dict)
    search_seed: int = Field(default=0, ge=0)
    tried: tuple[dict[str, Any], ...] = ()
    strategy: Component = Component.model_validate(SINGLE)
    data: str | None = Field(default=None, pattern=rf"^{_NAME.pattern}$")
    stopping: bool = True
    start: Start | None = None
    probes: tuple[Component, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)
    training_of: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def together(self) -> bool:
        """Return whether its tasks are trained in one fit."""
        return self.strategy.name != SINGLE

    @property
    def undecided(self) -> bool:
        """Return whether its points are still to be found."""
        return self.points is not None and not self.tried

    @property
    def sizes(self) -> list[dict[str, Any]]:
        """Return the training sizes, as settings of a trial."""
        if self.num_samples:
            return [{"num_samples": number} for number in self.num_samples]
        return [{"supervision": float(level)} for level in self.supervision]

    @field_validator("seeds", mode="before")
    @classmethod
    def _range(cls, given: Any) -> Any:
        if type(given) is not int:
            return given
        if given > _MOST_SEEDS:
            raise ValueError(f"{given:,} seeds are too many: at most {_MOST_SEEDS:,}")
        return tuple(range(given))

    @field_validator("folds", mode="after")
    @classmethod
    def _differ(cls, given: Any) -> Any:
        if given != "all" and len(set(given)) < len(given):
            raise ValueError("a fold is named twice")
        return given

    @field_validator("methods", mode="before")
    @classmethod
    def _entries(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return tuple((entry,) if isinstance(entry, Mapping) else _tuple(entry) for entry in given)

    @field_validator("search", "space", mode="before")
    @classmethod
    def _values(cls, given: Any) -> Any:
        return as_search(given)

    @field_validator("supervision")
    @classmethod
    def _levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if wrong := [level for level in levels if not 0 < level <= 1]:
            raise ValueError(
                f"{wrong[0]} is not a share of the training samples: above 0, at most 1"
            )
        return levels

    @model_validator(mode="after")
    def _start_is_known(self) -> "Grid":
        if self.start is None:
            return self
        if (self.start.trunk is None) != (self.start.fingerprint is None):
            raise ValueError("start needs both 'trunk' and 'fingerprint', or neither")
        if self.together:
            raise ValueError("start is for tasks that are trained one by one: no strategy")
        _inside(self.start.trunk)
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> "Grid":
        if self.num_samples and "supervision" in self.model_fields_set:
            raise ValueError("it has both 'supervision' and 'num_samples'; give one of them")
        check_space(self.search, what="search")
        if self.search and self.own_search:
            raise ValueError("it has both 'search' and 'own_search'; give one of them")
        check_space(self.space)
        for name in ("search", "own_search"):
            if self.points and getattr(self, name):
                raise ValueError(f"it has both 'points' and {name!r}; give one of them")
        for name in ("space", "search_seed", "tried"):
            if not self.points and getattr(self, name):
                raise ValueError(f"{name!r} is for a search: say how many 'points' it takes")
        if self.points and self.together:
            raise ValueError("a search takes points for tasks that are trained one by one")
        return self


class Experiment(Settings):
    """A set of trials that answer a question together.

    name:          of its file, its sweeps and their folders
    focus:         the method that the report compares with all others
    analyses:      modules of mimic_reg.report.analyses; the report has their figures
    store, source: the cohort store and the raw tables, in the work folder
    tuned:         the searches that its values come from; `compare` writes them here
    set:           group.setting -> value, which replaces the value in every trial that has this
                   setting, such as {model.units: 128}; see `multitask.changes`
    """

    name: str
    title: str
    grids: tuple[Grid, ...] = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    focus: str | None = None
    analyses: tuple[str, ...] = ()
    store: str | None = None
    source: str | None = None
    tuned: tuple[Budget, ...] = ()
    set: dict[str, Any] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("use small letters, digits, '_', '-' and '.' only")
        return name

    @property
    def data(self) -> str | None:
        """Return the cohort of all its grids; None for the benchmark's tasks."""
        return self.grids[0].data

    @property
    def images(self) -> str | None:
        """Return the set of images of its grids, if they have one."""
        return self.data if IMAGE_TASK in self.grids[0].tasks else None

    @model_validator(mode="after")
    def _one_data(self) -> "Experiment":
        data = {grid.data for grid in self.grids}
        if len(data) > 1:
            raise ValueError(
                "its grids differ in 'data', but an experiment has one store: write an experiment "
                "for each store"
            )
        for grid in self.grids:
            images = IMAGE_TASK in grid.tasks
            known = grid.data in IMAGE_SETS
            if images != (bool(grid.data) if images else known) or (images and len(grid.tasks) > 1):
                raise ValueError(
                    f"a grid with the task {IMAGE_TASK} needs 'data' ({', '.join(IMAGE_SETS)}, or "
                    "the name of your own set) and cannot have other tasks; other grids cannot "
                    "have a set of images"
                )
        return self

    @field_validator("store", "source")
    @classmethod
    def _paths(cls, path: str | None) -> str | None:
        return _inside(path)


def _inside(path: str | None) -> str | None:
    if path is not None and (Path(path).is_absolute() or ".." in Path(path).parts):
        raise ValueError("a configuration can have paths within the work folder only")
    return path


def _tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


def name_of(given: Model) -> str:
    """Return the name of a model with or without options."""
    return given if isinstance(given, str) else given.name
