"""Experiments: a grid in YAML → the trials it stands for, what they need, what they may cost.

    title: LSTM, in-hospital mortality
    grids:                             # an experiment is the union of its grids
    - tasks: [in_hospital_mortality]
      models: [lstm]
      methods: [none, itps]            # configs/regularisers/lstm/itps.yaml, or {itps: {tau: 0.1}}
      supervision: [0.25, 1]
      seeds: 5                         # 0 to 4, or a list
    training: {max_epochs: 20}         # replaces what the tasks' own YAML says

`search: {itps.tau: [0.05, 0.1]}` in a grid multiplies the methods that have that option by its
values. Whatever is unknown is refused, with the nearest name that is known; what is planned but not
there yet can be written down, and says what it needs when it is to be run.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from mimic_reg.config import (
    CONFIGS,
    Component,
    MultiTrial,
    Training,
    Trial,
    find_module,
    is_probe,
    load_yaml,
    module_names,
    resolve,
    resolve_multi,
    strategies,
    suggest,
)
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction.audit import published_sizes
from mimic_reg.schema import SPLITS
from mimic_reg.storage import Store, read_json

FOLDER = CONFIGS / "experiments"
IMAGE_TASK = "image_classification"

# Names that experiments may use before their modules are there.
PLANNED: Mapping[str, tuple[str, ...]] = {
    "tasks": (),
    "models": (),
}

# What decides the result of a trial, beside its settings and data: rooms and files of the package.
_DECIDING = (
    *("config.py", "seeds.py", "schema.py", "splits.py"),
    *("samples", "tasks", "models", "regularisers", "engine", "strategies"),
    *("evaluation/scores.py", "evaluation/bootstrap.py"),
)

SINGLE = "single"  # the strategy of a trial a task
_STOPPING = "early_stopping"
_MOST_SEEDS = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


class NotAvailableError(MimicRegError):
    """The experiment is sound, but needs what this version does not have."""


class _Frozen(BaseModel):
    """Frozen, strict about types, without unknown keys; YAML's lists are tuples."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _tuples(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given


Model = str | Component
Method = str | tuple[Component, ...]
Strategy = str | Component


class Grid(_Frozen):
    """All combinations of what it lists.

    tasks:     names of YAML files in configs/tasks
    models:    names of YAML files in configs/models, or of modules; or a module with its settings
    methods:   names of YAML files in configs/regularisers; or components, alone or in a list
    families:  model → the folder of configs/regularisers with its methods, if not the model's name
    search:    component.option → values
    strategy:  single: a trial a task; joint, reptile: one fit of all tasks, which share the trunk;
               or such a strategy with its options, as {reptile: {inner_steps: 5}}
    data:      the set of images to train on, `images` for any; null: a cohort store
    stopping:  with the early stopping of the tasks' YAML, if it has one
    probes:    what measures every fit without changing it, as {hessian_probe: {every: 10}}
    training:  replaces what tasks and experiment say
    training_of: task → what replaces that for one of them
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    models: tuple[Model, ...] = Field(min_length=1)
    methods: tuple[Method, ...] = Field(min_length=1)
    supervision: tuple[float, ...] = Field(default=(1.0,), min_length=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    families: dict[str, str] = Field(default_factory=dict)
    search: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    strategy: Strategy = SINGLE
    data: Literal["cifar10", "fashion_mnist", "stl10", "images"] | None = None
    stopping: bool = True
    probes: tuple[Component, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)
    training_of: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def together(self) -> bool:
        """Whether its tasks are trained in one fit."""
        return _name(self.strategy) != SINGLE

    @field_validator("seeds", mode="before")
    @classmethod
    def _range(cls, given: Any) -> Any:
        if type(given) is not int:
            return given
        if given > _MOST_SEEDS:
            raise ValueError(f"{given:,} seeds are too many: at most {_MOST_SEEDS:,}")
        return tuple(range(given))

    @field_validator("methods", mode="before")
    @classmethod
    def _entries(cls, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return tuple((entry,) if isinstance(entry, Mapping) else _tuple(entry) for entry in given)

    @field_validator("search", mode="before")
    @classmethod
    def _values(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        return {key: _tuple(values) for key, values in given.items()}

    @field_validator("supervision")
    @classmethod
    def _levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        if wrong := [level for level in levels if not 0 < level <= 1]:
            raise ValueError(f"{wrong[0]} is no share of the training samples: above 0, at most 1")
        return levels

    @model_validator(mode="after")
    def _search_is_used(self) -> "Grid":
        for key, values in self.search.items():
            name, dot, option = key.partition(".")
            if not (name and dot and option):
                raise ValueError(f"search has {key!r}; write component.option, as itps.tau")
            if not values:
                raise ValueError(f"search has no values for {key!r}")
        return self


class Experiment(_Frozen):
    """A set of trials that belong together.

    name:          of the file it stands in; what sweeps and folders are called
    analyses:      modules of mimic_reg.analyses, whose figures the report has besides
    store, source: the cohort store and the raw tables, within the work folder
    """

    name: str
    title: str
    grids: tuple[Grid, ...] = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    analyses: tuple[str, ...] = ()
    store: str | None = None
    source: str | None = None

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("use small letters, digits, '_', '-' and '.' only")
        return name

    @property
    def data(self) -> str | None:
        """The set of images that all its grids train on; None: a cohort store."""
        return self.grids[0].data

    @model_validator(mode="after")
    def _one_data(self) -> "Experiment":
        data = {grid.data for grid in self.grids}
        if len(data) > 1:
            raise ValueError(
                "its grids differ in 'data', but an experiment has one store: write an experiment "
                "for each"
            )
        for grid in self.grids:
            images = IMAGE_TASK in grid.tasks
            if images != bool(grid.data) or (images and len(grid.tasks) > 1):
                raise ValueError(
                    f"a grid with the task {IMAGE_TASK} has no other task, and says which images "
                    "with 'data'; other tasks have no 'data'"
                )
        return self

    @field_validator("store", "source")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        if path is not None and (Path(path).is_absolute() or ".." in Path(path).parts):
            raise ValueError("a configuration names paths within the work folder only")
        return path


def _tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, list) else given


# --- reading --------------------------------------------------------------------------------------


def names() -> list[str]:
    """The experiments in configs."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(experiment: str | Path) -> Experiment:
    """An experiment by its name in configs, or by its file.

    Raises:
        InputError: there is none; an unknown key or name; a value of a wrong kind.
    """
    path = Path(experiment)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{experiment}.yaml"
        if str(experiment) not in names():
            raise InputError(
                f"There is no experiment {str(experiment)!r} in {FOLDER}. "
                f"{suggest(str(experiment), names())}"
            )
    content = load_yaml(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must hold settings with their names, as 'title: …'.")
    try:
        return parse({"name": path.stem, **content})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse(settings: Mapping[str, Any]) -> Experiment:
    """An experiment from plain settings, with every name in it checked.

    Raises:
        InputError: an unknown key or name; a value of a wrong kind.
    """
    try:
        experiment = Experiment.model_validate(dict(settings))
    except ValidationError as error:
        raise InputError("\n".join(_explain(e) for e in _innermost(error.errors()))) from error
    for name in experiment.analyses:
        find_module("mimic_reg.analyses", name)
    for grid in experiment.grids:
        _check_names(grid)
        for given in (experiment.training, grid.training, *grid.training_of.values()):
            _check_training(given, grid)
    combinations(experiment)
    if not needs(experiment):
        plan(experiment)
    return experiment


def _innermost(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that only follow from one inside them."""
    places = [error["loc"] for error in errors]
    return [
        error
        for error, place in zip(errors, places, strict=True)
        if not any(len(p) > len(place) and p[: len(place)] == place for p in places)
    ]


def _explain(error: ErrorDetails) -> str:
    if not error["loc"]:  # about the whole
        return f"The experiment cannot be: {error['msg'].removeprefix('Value error, ')}."
    *parents, name = error["loc"]
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        fields = Grid.model_fields if parents else Experiment.model_fields
        return f"There is no setting {where!r}. {suggest(str(name), fields)}"
    if error["type"] == "missing":
        return f"The setting {where!r} is missing."
    reason = error["msg"].removeprefix("Value error, ").replace("tuple", "list")
    reason = reason.replace("Tuple", "List").replace(" after validation, not 0", "")
    given = list(error["input"]) if isinstance(error["input"], tuple) else error["input"]
    return f"The setting {where!r} is {given!r}: {reason}."


def _check_names(grid: Grid) -> None:
    allowed = {
        "task": (grid.tasks, _known("tasks")),
        "model": ((*map(_name, grid.models), *grid.families), _known("models")),
        "strategy": ((_name(grid.strategy),), {SINGLE, *strategies()}),
        "task of this grid": (tuple(grid.training_of), set(grid.tasks)),
    }
    for kind, (given, known) in allowed.items():
        for name in given:
            if name not in known:
                raise InputError(f"There is no {kind} {name!r}. {suggest(name, known)}")
    for probe in grid.probes:
        if not is_probe(probe.name):
            known = {name for name in module_names("mimic_reg.regularisers") if is_probe(name)}
            raise InputError(f"There is no probe {probe.name!r}. {suggest(probe.name, known)}")
    families = {p.name for p in (CONFIGS / "regularisers").iterdir() if p.is_dir()}
    for family in grid.families.values():
        if family not in families:
            raise InputError(f"There is no family {family!r}. {suggest(family, families)}")


def _name(given: Model | Strategy) -> str:
    return given if isinstance(given, str) else given.name


def _known(kind: str) -> set[str]:
    """Names of a kind: YAML files, modules, what is planned."""
    files = {path.stem for path in (CONFIGS / kind).glob("*.yaml")}
    return files | set(module_names(f"mimic_reg.{kind}")) | set(PLANNED[kind])


def _check_training(given: Mapping[str, Any], grid: Grid) -> None:
    if grid.together and "epoch_steps" in given:
        raise InputError(
            f"The strategy {_name(grid.strategy)} has epochs of its own: write "
            f"strategy: {{{_name(grid.strategy)}: {{epoch_iterations: …}}}} instead of "
            "'training.epoch_steps'."
        )
    for name in given:
        if name not in Training.model_fields:
            raise InputError(
                f"There is no setting 'training.{name}'. {suggest(name, Training.model_fields)}"
            )


def within(work: Path, relative: str) -> Path:
    """A path that a configuration names, in the work folder.

    Raises:
        InputError: it leads out of the folder, by a link say.
    """
    path = work / relative
    if not path.resolve().is_relative_to(work.resolve()):
        raise InputError(
            f"{relative!r} leads out of {work}: a configuration names paths within the work "
            "folder only. Name other places on the command line."
        )
    return path


def check_data(experiment: Experiment, store: Store) -> None:
    """Refuse a store that holds other data than the experiment is about.

    Raises:
        InputError: images instead of ICU stays, the other way round, or other images.
    """
    there, wanted = store.manifest.get("dataset"), experiment.data
    if there == wanted or (there and wanted == "images"):
        return
    holds = f"the images {there}" if there else "ICU stays"
    needed = f"the images {wanted}".removesuffix(" images") if wanted else "ICU stays"
    advice = "mimic-reg import-images" if wanted else "mimic-reg extract"
    raise InputError(
        f"{experiment.name} needs {needed}, but {store.folder} holds {holds}. Make the right store "
        f"with `{advice}` and name it with --store."
    )


# --- combinations ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """One fit of a grid, by names.

    tasks:    one, or all that a strategy trains together
    label:    what the method is called, with the values of a search
    searched: component.option → value
    """

    grid: Grid
    tasks: tuple[str, ...]
    model: Model
    method: Method
    label: str
    supervision: float
    seed: int
    searched: Mapping[str, Any] = field(default_factory=dict)


def combinations(experiment: Experiment) -> list[Combination]:
    """All fits of an experiment, in the order of their grids.

    Raises:
        InputError: a method has no YAML file for a model; a search that no method has.
    """
    return [c for grid in experiment.grids for c in _combinations(grid)]


def _combinations(grid: Grid) -> Iterator[Combination]:
    tasks = [grid.tasks] if grid.together else [(name,) for name in grid.tasks]
    prefix = f"{_name(grid.strategy)}: " if grid.together else ""
    unused, known = set(grid.search), set[str]()
    for task, model, method in itertools.product(tasks, grid.models, grid.methods):
        present = {e.name for e in _entries(grid, model, method)}
        known |= present
        keys = [key for key in grid.search if key.partition(".")[0] in present]
        unused -= set(keys)
        for values in itertools.product(*(grid.search[key] for key in keys)):
            searched = dict(zip(keys, values, strict=True))
            label = prefix + _label(method, searched)
            for level, seed in itertools.product(grid.supervision, grid.seeds):
                yield Combination(grid, task, model, method, label, level, seed, searched)
    if unused:
        key = sorted(unused)[0]
        raise InputError(
            f"search: no method of its grid has {key!r}. {suggest(key.partition('.')[0], known)}"
        )


def _label(method: Method, searched: Mapping[str, Any]) -> str:
    name = method if isinstance(method, str) else " + ".join(c.name for c in method)
    values = ", ".join(f"{key.partition('.')[2]}={value}" for key, value in searched.items())
    return f"{name} ({values})" if values else name


def _entries(grid: Grid, model: Model, method: Method) -> list[Component]:
    """The components of a method, for a model."""
    if not isinstance(method, str):
        return list(method)
    family = grid.families.get(_name(model), _name(model))
    content = _yaml(_method_file(family, method))
    return [Component.model_validate(entry) for entry in content["regularisers"]]


def _method_file(family: str, method: str) -> Path:
    folder = CONFIGS / "regularisers"
    places = {p.stem: p for own in (folder, folder / family) for p in sorted(own.glob("*.yaml"))}
    if method not in places:
        raise InputError(
            f"There is no method {method!r} for {family}: neither {family}/{method}.yaml nor "
            f"{method}.yaml in {folder}. {suggest(method, places)}"
        )
    return places[method]


# --- trials ---------------------------------------------------------------------------------------


def needs(experiment: Experiment) -> list[str]:
    """The modules that an experiment needs and this version does not have."""
    missing: dict[str, None] = {}
    for grid in experiment.grids:
        wanted = [("tasks", name) for name in grid.tasks]
        wanted += [("models", next(iter(_settings(model)))) for model in grid.models]
        for kind, name in wanted:
            if name not in module_names(f"mimic_reg.{kind}"):
                missing[f"mimic_reg.{kind}.{name}"] = None
    return list(missing)


def _settings(model: Model) -> dict[str, Any]:
    """A model as a configuration has it: its module's name with its settings."""
    if not isinstance(model, str):
        return model.entry()
    path = CONFIGS / "models" / f"{model}.yaml"
    return _yaml(path) if path.is_file() else {model: {}}


def _yaml(path: Path) -> dict[str, Any]:
    """A file that many trials share; callers leave the content as it is."""
    return _parsed(path, path.stat().st_mtime_ns if path.is_file() else 0)


@cache
def _parsed(path: Path, mtime_ns: int) -> dict[str, Any]:
    content: dict[str, Any] = load_yaml(path)
    return content


@dataclass(frozen=True)
class Planned:
    """A trial of an experiment, and what its method is called there.

    method, searched: as the combination says, without and with the values of a search
    """

    trial: Trial | MultiTrial
    label: str
    method: str
    searched: Mapping[str, Any]

    def identity(self, data: str, code: str) -> str:
        """Settings, seed, data and code: what is equal here gives the same result."""
        text = f"{self.trial.id(data)} {code}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def folder_name(self, data: str, code: str) -> str:
        """A run folder's name: for people first, unique by the identity that ends it."""
        trial = self.trial
        methods = "+".join(
            r.name
            for r in trial.regularisers
            if r.name not in ("none", _STOPPING) and not is_probe(r.name)
        )
        what = trial.task
        if isinstance(trial, MultiTrial):
            what = f"{trial.strategy.name}-{'+'.join(trial.tasks)}"
        return (
            f"{what}-{trial.model.name}-{methods or 'none'}-{100 * trial.supervision:g}"
            f"-seed{trial.seed}-{self.identity(data, code)}"
        )


def plan(experiment: Experiment) -> list[Planned]:
    """The trials of an experiment, each once.

    Raises:
        NotAvailableError: it needs what this version does not have.
        InputError: a setting that a module refuses.
    """
    if missing := needs(experiment):
        raise NotAvailableError(
            f"{experiment.title}: not available yet: needs {', '.join(missing)}."
        )
    found: dict[str, Planned] = {}
    for combination in combinations(experiment):
        planned = _resolve(combination, experiment)
        found.setdefault(planned.trial.id(""), planned)
    return list(found.values())


def _resolve(combination: Combination, experiment: Experiment) -> Planned:
    trials = [_trial(task, combination, experiment) for task in combination.tasks]
    trial: Trial | MultiTrial = trials[0]
    strategy = combination.grid.strategy
    prefix = ""
    if combination.grid.together:
        trial = resolve_multi({"strategy": _plain_entry(strategy), "trials": trials})
        prefix = f"{_name(strategy)}: "
    plain = prefix + _label(combination.method, {})
    return Planned(trial, combination.label, plain, combination.searched)


def _plain_entry(strategy: Strategy) -> Any:
    return strategy if isinstance(strategy, str) else strategy.entry()


def _trial(task: str, combination: Combination, experiment: Experiment) -> Trial:
    grid = combination.grid
    common = _yaml(CONFIGS / "tasks" / f"{task}.yaml")
    entries = [e.entry() for e in _entries(grid, combination.model, combination.method)]
    method = [_with(entry, combination.searched) for entry in entries]
    method += [probe.entry() for probe in grid.probes]
    method += [
        entry for entry in common.get("regularisers", []) if grid.stopping or _STOPPING not in entry
    ]
    training = {
        **common.get("training", {}),
        **experiment.training,
        **grid.training,
        **grid.training_of.get(task, {}),
    }
    return resolve(
        {
            **common,
            "model": _settings(combination.model),
            "regularisers": method,
            "supervision": float(combination.supervision),
            "supervision_unit": grid.supervision_unit,
            "seed": combination.seed,
            "training": training,
        }
    )


def _with(entry: Mapping[str, Mapping[str, Any]], searched: Mapping[str, Any]) -> dict[str, Any]:
    ((name, options),) = entry.items()
    own = {k.partition(".")[2]: v for k, v in searched.items() if k.partition(".")[0] == name}
    return {name: {**options, **own}}


@cache
def code_fingerprint() -> str:
    """A hash of the code that decides a trial's result; comments count, other rooms do not."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for part in _DECIDING:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


# --- cost -----------------------------------------------------------------------------------------

# Seconds of one CPU core for a step without a method, a batch of 32; measured on simulated stays,
# one thread, processor time. Scoring a sample costs about a fifth of training on it, and batches of
# similar lengths a third of random ones where stays are whole.
_STEP_SECONDS: Mapping[tuple[str, str], float] = {
    ("in_hospital_mortality", "lstm"): 0.035,
    ("in_hospital_mortality", "transformer"): 0.21,
    ("phenotyping", "lstm"): 0.30,
    ("phenotyping", "transformer"): 3.3,
    ("decompensation", "lstm"): 0.29,
    ("decompensation", "transformer"): 3.5,
    ("length_of_stay", "lstm"): 0.29,
    ("length_of_stay", "transformer"): 3.5,
    ("image_classification", "dnn"): 0.006,
    ("image_classification", "cnn"): 0.10,  # CIFAR-10's 32 x 32
    ("image_classification", "efficientnet_b0"): 3.1,  # 224 x 224, as the two that follow
    ("image_classification", "resnet50"): 12.6,
    ("image_classification", "vgg16"): 40.0,
}
_OTHER_STEP_SECONDS = 0.3
# Training, validation and test images of the paper's Table I.
_IMAGES: Mapping[str, tuple[int, int, int]] = {
    "fashion_mnist": (50_000, 10_000, 10_000),
    "cifar10": (40_000, 10_000, 10_000),
    "stl10": (4_000, 1_000, 8_000),
}
_SCORING = 0.2
# A vector of a Hessian probe, times training on its samples; measured in the same way.
_VECTOR_COST: Mapping[str, float] = {"dnn": 0.8, "lstm": 2.5, "transformer": 3.5, "cnn": 4.7}
_OTHER_VECTOR_COST = 4.0
_BY_LENGTH = 0.35
# Times a step without a method, measured in the same way; methods that are not listed cost nothing.
_METHOD_COST: Mapping[tuple[str, str], float] = {
    ("lstm", "data_gradient"): 5.9,
    ("lstm", "jacobian"): 5.9,
    ("lstm", "variational_lstm"): 2.5,
    ("dnn", "data_gradient"): 2.1,
    ("dnn", "itps"): 1.1,
    ("dnn", "jacobian"): 2.1,
    ("dnn", "norm_penalty"): 1.3,
    ("dnn", "spectral_dropout"): 2.0,
    ("transformer", "data_gradient"): 2.7,
    ("transformer", "jacobian"): 2.7,
}


@dataclass(frozen=True)
class Estimate:
    """Steps of a trial at the most, and seconds of one thread; early stopping may end it sooner."""

    steps: int
    seconds: float


def sizes(store: Store | None = None, images: str | None = None) -> dict[tuple[str, str], int]:
    """(task, split) → samples: those of a store, or of the full MIMIC-III and a set of images."""
    if store is not None:
        counted = read_json(store.path("audit.json"))["samples"]
        return {
            (task, split): count["samples"]
            for task, of_split in counted.items()
            for split, count in of_split.items()
        }
    published = {
        (task, split): count
        for task, of_split in published_sizes()["samples"].items()
        for split, count in of_split.items()
    }
    hourly = (2_388_414, 520_000, 523_208)  # METHODS 8.4
    others = {
        "decompensation": hourly,
        "length_of_stay": hourly,  # nearly the same
        IMAGE_TASK: _IMAGES.get(images or "", (0, 0, 0)),
    }
    return published | {
        (task, split): count
        for task, counts in others.items()
        for split, count in zip(SPLITS, counts, strict=True)
    }


def estimate(trial: Trial | MultiTrial, counts: Mapping[tuple[str, str], int]) -> Estimate:
    """What a trial may cost; one of several tasks as much as they: joining them costs little."""
    if isinstance(trial, MultiTrial):
        parts = [estimate(part, counts) for part in trial.trials]
        return Estimate(sum(p.steps for p in parts), math.fsum(p.seconds for p in parts))
    training = trial.training
    kept = counts.get((trial.task, "train"), 0) * trial.supervision
    epoch_steps = training.epoch_steps or math.ceil(kept / training.batch_size)
    model = trial.model.name
    step = _STEP_SECONDS.get((trial.task, model), _OTHER_STEP_SECONDS)
    factor = math.prod(_METHOD_COST.get((model, r.name), 1.0) for r in trial.regularisers)
    steps = training.max_epochs * epoch_steps
    if training.by_length and trial.task != "in_hospital_mortality":  # 48 hours, all of them
        factor *= _BY_LENGTH
    train = steps * step * factor * training.batch_size / 32
    validated = counts.get((trial.task, "val"), 0)
    scored = (training.max_epochs + 1) * validated + counts.get((trial.task, "test"), 0)
    probed = sum(_probed(r.options, kept, training.max_epochs) for r in _probes(trial))
    probed *= _VECTOR_COST.get(model, _OTHER_VECTOR_COST)
    return Estimate(steps, train + (scored * _SCORING + probed) * step / 32)


def _probes(trial: Trial) -> list[Component]:
    return [r for r in trial.regularisers if r.name == "hessian_probe"]


def _probed(options: Mapping[str, Any], kept: float, max_epochs: int) -> float:
    """Samples of all vectors of a Hessian probe."""
    looks = max_epochs // options["every"] + (options["every"] > 1)
    return float(looks * options["vectors"] * min(options["samples"], kept))


def total_seconds(
    trials: Iterable[Trial | MultiTrial], counts: Mapping[tuple[str, str], int]
) -> float:
    """What trials may cost one after the other, on one thread."""
    return math.fsum(estimate(trial, counts).seconds for trial in trials)
