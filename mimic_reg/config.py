"""Frozen, typed settings: YAML in, a `Trial` out, resolved once.

Names are module names: `dropout: {rate: 0.5}` means `mimic_reg.methods.dropout` and the option
`rate` of its `build`. Whatever is unknown is refused, with the nearest name that is known.
"""

import copy
import difflib
import hashlib
import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from mimic_reg.errors import InputError

# beside the package in a clone; within it where a wheel was installed, as setup.py does it
_INSTALLED = Path(__file__).parent / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[1] / "configs"


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Text that ends an error about an unknown name: the nearest one, then all of them."""
    allowed = sorted(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(allowed) or 'none'}."


def module_names(package: str) -> list[str]:
    """The names a configuration may use: the package's public modules, except `base`."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(m.name for m in found if m.name != "base" and not m.name.startswith("_"))


def find_module(package: str, name: str) -> ModuleType:
    """The module `name` of `package`.

    Raises:
        InputError: there is no such module; the text names the nearest one.
    """
    names = module_names(package)
    if name not in names:
        kind = package.rpartition(".")[2]
        raise InputError(f"There is no {name!r} in {kind}. {suggest(name, names)}")
    return importlib.import_module(f"{package}.{name}")


def is_probe(name: str) -> bool:
    """Whether a regulariser only measures: it changes no fit, and no method is named after it."""
    return name.endswith("_probe")


def resolve_options(
    function: Callable[..., Any], given: Mapping[str, Any], what: str, skip: Iterable[str] = ()
) -> dict[str, Any]:
    """`given`, completed by the defaults in the signature: a configuration that hides nothing.

    Raises:
        InputError: an option that the signature does not have, or one that it needs and is missing,
            or a value of another kind than the signature says.
    """
    skipped = set(skip)
    known = {n: p for n, p in inspect.signature(function).parameters.items() if n not in skipped}
    for name in given:
        if name not in known:
            raise InputError(f"{what} has no option {name!r}. {suggest(name, known)}")
    missing = [n for n, p in known.items() if p.default is p.empty and n not in given]
    if missing:
        raise InputError(f"{what} needs the option {missing[0]!r}.")
    for name, value in given.items():
        kind = known[name].annotation
        if not _is_of(value, kind):
            raise InputError(f"{what}: {name} must be {_kind_name(kind)}, got {value!r}.")
    return {n: _plain(given.get(n, p.default)) for n, p in known.items()}


_KINDS = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
}
_LISTS = (tuple, list, Sequence)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is what an annotation says; one that YAML does not know is not judged."""
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if get_origin(kind) in _LISTS:
        inner = get_args(kind)[0]
        return isinstance(value, list | tuple) and all(_is_of(each, inner) for each in value)
    if kind not in _KINDS:
        return True
    if isinstance(value, bool):  # Python counts it among the whole numbers
        return kind is bool
    if kind is float:
        return isinstance(value, float) or (
            isinstance(value, int) and abs(value) <= sys.float_info.max
        )
    return isinstance(value, kind)


def _kind_name(kind: Any) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(map(_kind_name, get_args(kind)))
    if get_origin(kind) in _LISTS:
        return f"a list, each {_kind_name(get_args(kind)[0])}"
    return _KINDS[kind]


def _plain(value: Any) -> Any:
    """The value as JSON and YAML hold it, so that a tuple and a list are one configuration."""
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


# what PyYAML raises of a text that is no YAML
_NOT_YAML = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    yaml.YAMLError,
)
_MOST_CHARACTERS = 1 << 16
_MOST_NODES = 5_000  # our largest file has 311
_DEEPEST = 64
_LONGEST_NUMBER = 100  # characters


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a repeated key and reads 1e-3 as a number.

    It ends within a second, whatever it is given: nodes are counted while they are read, those
    behind aliases as often as they are named.
    """

    def __init__(self, text: str) -> None:
        if len(text) > _MOST_CHARACTERS:
            raise InputError(
                f"It has more than {_MOST_CHARACTERS:,} characters. Settings need fewer."
            )
        super().__init__(text)
        self._num_nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, alias = self._num_nodes, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise InputError(f"An alias in line {self._line()} names what it stands in.")
        self._num_nodes += self._sizes[id(node)] if alias else 1
        if self._num_nodes > _MOST_NODES:
            raise InputError(
                f"Up to line {self._line()} it has more than {_MOST_NODES:,} values, those behind "
                "aliases counted as often as they are named. Settings need fewer."
            )
        if not alias:
            self._sizes[id(node)] = self._num_nodes - before
        return node

    def _line(self) -> int:
        return int(self.line) + 1

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        if self.flow_level > _DEEPEST:
            raise InputError(f"The brackets in line {self._line()} are too deep.")
        super().fetch_flow_collection_start(kind)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if len(node.value) > _LONGEST_NUMBER:
            raise InputError(f"The number in line {node.start_mark.line + 1} is too long.")
        whole = node.tag.endswith(":int")
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        counts = Counter(key for key in keys if isinstance(key, Hashable))
        repeated = [key for key, count in counts.items() if count > 1]
        if repeated:
            line = node.start_mark.line + 1
            raise InputError(f"The key {repeated[0]!r} is given twice from line {line} on.")
        return super().construct_mapping(node, deep)


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_number)
# YAML 1.1, which PyYAML follows, wants 1.0e-3; everyone writes 1e-3
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    [*"-+0123456789"],
)


def parse_yaml(text: str) -> Any:
    """The content of a YAML text; what is no YAML raises what PyYAML does."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def load_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: it is missing, or not YAML.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return parse_yaml(file.read(_MOST_CHARACTERS + 1))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}.") from error
    except InputError as error:
        raise InputError(f"{path} cannot be used. {error}") from error
    except _NOT_YAML as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error


class _Settings(BaseModel):
    """Frozen, strict about types, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True)


class Component(_Settings):
    """A module by its name, with options of its `build`: written {dropout: {rate: 0.5}}.

    The name alone stands for a component without options.
    """

    name: str
    given: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_entry(cls, entry: Any) -> Any:
        if isinstance(entry, str):
            return {"name": entry}
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise ValueError("A component is a name with its options, as dropout: {rate: 0.5}")
        ((name, options),) = entry.items()
        return {"name": name, "given": {} if options is None else options}

    @model_serializer
    def entry(self) -> dict[str, dict[str, Any]]:
        """As it is written, in a copy that callers may change."""
        return {self.name: copy.deepcopy(self.given)}

    @property
    def options(self) -> dict[str, Any]:
        """The options, in a copy that callers may change."""
        return copy.deepcopy(self.given)


class Training(_Settings):
    """How a model is trained, whatever the method. The defaults are the paper's.

    epoch_steps: steps of an epoch, at whose end the model is validated; null: one pass over the
                 training samples. Large tasks are validated more often than once a pass.
    normalizer:  of stays: the benchmark's published means and deviations, for its cohort alone, or
                 those fitted to this cohort; of images: unit (pixels in [0, 1]), fitted, or raw
                 (0 to 255)
    by_length:   batches of similar lengths; the paper pads within random batches
    output_bias: how the last layer's bias starts: zero, as the model makes it (the paper's; a dnn
                 with torch's init draws it), or prevalence: the log-odds of each label among the
                 training samples, log shares of classes, means of a regression. It changes what
                 ITPS's thresholds mean: see methods/itps.py

    When training ends early is no setting here, but a method: early_stopping, with its patience.
    """

    optimizer: Literal["adam", "sgd", "adagrad"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=32, ge=1)
    max_epochs: int = Field(default=100, ge=1)
    epoch_steps: int | None = Field(default=None, ge=1)
    normalizer: Literal["published", "fitted", "unit", "raw"] = "published"
    by_length: bool = False
    output_bias: Literal["zero", "prevalence"] = "zero"


class Together(_Settings):
    """What a trial is a part of, where several tasks are trained together.

    strategy: how; its module, with its options
    tasks:    all of them, in the order in which they are trained
    fit:      the identity of the fit's settings; those of the other tasks count
    """

    strategy: Component
    tasks: tuple[str, ...]
    fit: str

    @field_validator("tasks", mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given


class Start(_Settings):
    """How a trial on few samples starts: transfer from a trained trunk, or not.

    trunk:       what the trunk was trained on and how, for people; null: it starts as ever
    fingerprint: a hash of its weights
    """

    trunk: str | None = None
    fingerprint: str | None = None


class Trial(_Settings):
    """One fully specified fit, or one task's part in a fit of several.

    supervision:      fraction of the training samples, nested between levels
    supervision_unit: what is kept or left out as a whole
    seed:             the pair's number: trials that differ only in their regularisers share initial
                      weights and batches
    together:         the fit of several tasks that this is a part of
    num_samples:      training samples to keep, instead of a fraction; nested, too
    start:            from a trained trunk, or expressly not
    """

    task: str
    model: Component
    regularisers: tuple[Component, ...] = ()
    supervision: float = Field(default=1.0, gt=0, le=1)
    supervision_unit: Literal["sample", "subject"] = "sample"
    seed: int = Field(default=0, ge=0)
    training: Training = Training()
    together: Together | None = None
    num_samples: int | None = Field(default=None, ge=2)
    start: Start | None = None

    @model_validator(mode="after")
    def _keeps_a_share_or_a_number(self) -> "Trial":
        if self.num_samples is not None and self.supervision != 1:
            raise ValueError("it has both num_samples and a supervision level; give one of them")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {n for n in ("together", "num_samples", "start") if getattr(self, n) is None}
        return {name: value for name, value in content(self).items() if name not in unused}

    @field_validator("regularisers", mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given

    def id(self, data: str) -> str:
        """The trial's identity on the data with this fingerprint; stable over machines."""
        return _identity(self, data)

    def to_yaml(self) -> str:
        """The resolved configuration, for reading; `resolve(load_yaml(…))` gives it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


_SAME = ("model", "supervision", "supervision_unit", "seed")  # in all parts of a fit
_SAME_TRAINING = ("optimizer", "learning_rate", "max_epochs")


class MultiTrial(_Settings):
    """One fully specified fit of several tasks, which share a trunk.

    strategy: how they are trained together; its module, with its options
    trials:   a task each; they differ in what belongs to a task: batch size, normaliser, patience
    """

    strategy: Component
    trials: tuple[Trial, ...] = Field(min_length=1)

    @field_validator("trials", mode="before")
    @classmethod
    def _list(cls, given: Any) -> Any:
        return tuple(given) if isinstance(given, list) else given

    @model_validator(mode="after")
    def _are_one_fit(self) -> "MultiTrial":
        tasks = self.tasks
        if repeated := [task for task in tasks if tasks.count(task) > 1]:
            raise ValueError(f"the task {repeated[0]!r} is given twice")
        first = self.trials[0]
        for trial in self.trials[1:]:
            for one, other, names in (
                (first, trial, _SAME),
                (first.training, trial.training, _SAME_TRAINING),
            ):
                for name in names:
                    if getattr(one, name) != getattr(other, name):
                        raise ValueError(
                            f"the tasks of a fit have one {name}, but {first.task} has "
                            f"{_said(getattr(one, name))} and {trial.task} "
                            f"{_said(getattr(other, name))}"
                        )
            if (theirs := _names(trial)) != _names(first):
                raise ValueError(
                    f"the tasks of a fit have the same methods, but {first.task} has "
                    f"{_names(first)} and {trial.task} {theirs}"
                )
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order in which they are trained."""
        return tuple(trial.task for trial in self.trials)

    @property
    def task(self) -> str:
        """All tasks as one name, for people."""
        return " + ".join(self.tasks)

    @property
    def model(self) -> Component:
        """The model whose trunk is shared."""
        return self.trials[0].model

    @property
    def regularisers(self) -> tuple[Component, ...]:
        """The methods of the first task; those of others differ in their patience, say."""
        return self.trials[0].regularisers

    @property
    def supervision(self) -> float:
        """The level of every task."""
        return self.trials[0].supervision

    @property
    def seed(self) -> int:
        """The seed of every task."""
        return self.trials[0].seed

    @property
    def max_epochs(self) -> int:
        """Epochs at the most."""
        return self.trials[0].training.max_epochs

    def id(self, data: str) -> str:
        """The fit's identity on the data with this fingerprint; stable over machines."""
        return _identity(self, data)

    def parts(self) -> tuple[Trial, ...]:
        """The trial of every task, as part of this fit."""
        together = Together(strategy=self.strategy, tasks=self.tasks, fit=self.id(""))
        return tuple(trial.model_copy(update={"together": together}) for trial in self.trials)

    def to_yaml(self) -> str:
        """The resolved configuration, for reading; `resolve_multi(load_yaml(…))` takes it."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _identity(settings: Trial | MultiTrial, data: str) -> str:
    text = json.dumps({"trial": settings.model_dump(mode="json"), "data": data}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _names(trial: Trial) -> list[str]:
    return [method.name for method in trial.regularisers]


def _said(value: Any) -> str:
    return str(value.entry() if isinstance(value, Component) else value)


def resolve(settings: Mapping[str, Any]) -> Trial:
    """A trial from plain settings: every name looked up, every default written out.

    Raises:
        InputError: an unknown key, name or option, a wrong type, a value out of range.
    """
    try:
        trial = Trial.model_validate(dict(settings))
    except ValidationError as error:
        raise InputError("\n".join(_explain(e) for e in error.errors())) from error
    # what the engine gives a model is no setting
    given = ("n_outputs", "shape", "generator")
    package = _package_of(trial.model.name)
    model = _resolve(package, "Model", trial.model, skip=given)
    if package != "mimic_reg.models":
        find_module(package, model.name).build(**model.options)
        return trial.model_copy(update={"model": model, "regularisers": _no_methods(trial)})
    methods = [_resolve("mimic_reg.methods", "Regulariser", r) for r in trial.regularisers]
    for method in methods:  # its own checks: now, before data are loaded, or a sweep has begun
        find_module("mimic_reg.methods", method.name).build(**method.options)
    return trial.model_copy(update={"model": model, "regularisers": tuple(methods)})


def _package_of(model: str) -> str:
    """Return the package of a model's module: of networks, or of the other learners."""
    others = "mimic_reg.learners"
    if model in module_names("mimic_reg.models") or model not in module_names(others):
        return "mimic_reg.models"
    return others if hasattr(find_module(others, model), "build") else "mimic_reg.models"


def _no_methods(trial: Trial) -> tuple[Component, ...]:
    """Return no methods, for a learner that takes none.

    Raises:
        InputError: the trial has some.
    """
    acting = [m.name for m in trial.regularisers if m.name not in ("none", "early_stopping")]
    if acting:
        raise InputError(
            f"{acting[0]!r} acts on networks, and {trial.model.name} is none: give it the method "
            "'none', in a grid of its own."
        )
    return ()


def resolve_multi(settings: Mapping[str, Any]) -> MultiTrial:
    """A fit of several tasks from plain settings: a strategy, and a trial for each task.

    Raises:
        InputError: see `resolve`; the trials differ in what they share; an unknown strategy.
    """
    content = dict(settings)
    if isinstance(content.get("trials"), Sequence):
        content["trials"] = tuple(resolve(_plain_trial(trial)) for trial in content["trials"])
    try:
        multi = MultiTrial.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(_explain(e, MultiTrial) for e in error.errors())) from error
    allowed = strategies()
    if multi.strategy.name not in allowed:
        raise InputError(
            f"There is no strategy {multi.strategy.name!r} for several tasks. "
            f"{suggest(multi.strategy.name, allowed)}"
        )
    strategy = _resolve("mimic_reg.multitask", "Strategy", multi.strategy)
    num_tasks = len(multi.trials)
    built = find_module("mimic_reg.multitask", strategy.name).build(**strategy.options)
    trials = tuple(
        trial.model_copy(
            update={
                "training": trial.training.model_copy(
                    update={"epoch_steps": built.epoch_steps(num_tasks)}
                )
            }
        )
        for trial in multi.trials
    )
    return multi.model_copy(update={"strategy": strategy, "trials": trials})


def strategies() -> list[str]:
    """The strategies for several tasks: the modules of that package that have a `build`."""
    package = "mimic_reg.multitask"
    return [n for n in module_names(package) if hasattr(find_module(package, n), "build")]


def _plain_trial(trial: Any) -> dict[str, Any]:
    return trial.model_dump() if isinstance(trial, Trial) else dict(trial)


def _resolve(package: str, kind: str, component: Component, skip: Iterable[str] = ()) -> Component:
    build = find_module(package, component.name).build
    what = f"{kind} {component.name!r}"
    return Component.model_validate(
        {component.name: resolve_options(build, component.given, what, skip)}
    )


def compose_trial(
    task: str,
    model: str,
    method: str,
    *,
    supervision: float = 1.0,
    supervision_unit: str = "sample",
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
) -> Trial:
    """The trial of a task's, a model's and a method's settings, as the command line names them.

    task:   a YAML file, or the name of a task; `configs/tasks` has the settings of the known ones,
            and `default.yaml` for those of other cohorts. Its regularisers (early stopping, say)
            act after those of the method
    model:  a YAML file, or the model's name
    method: a YAML file, or the name of one in `configs/regularisers`: for this model (`l2` stands
            for `lstm/l2`), for all (`none`), or with its folder (`resnet50_cifar/l2`)
    training: settings that replace those of the method, which replace those of the task

    Raises:
        InputError: see `resolve`; or there is no such file.
    """
    common = _read("tasks", task_file(task), {"task", "training", "regularisers"})
    architecture = load_yaml(Path(model)) if _is_file(model) else model
    family = next(iter(architecture)) if isinstance(architecture, dict) else model
    own = _read("regularisers", method, {"training", "regularisers"}, folder=str(family))
    return resolve(
        {
            "task": common.get("task", task),
            "model": architecture,
            "regularisers": [*own.get("regularisers", []), *common.get("regularisers", [])],
            "supervision": supervision,
            "supervision_unit": supervision_unit,
            "seed": seed,
            "training": {
                **common.get("training", {}),
                **own.get("training", {}),
                **(training or {}),
            },
        }
    )


def compose_multi(
    tasks: Sequence[str],
    model: str,
    method: str,
    strategy: str,
    *,
    supervision: float = 1.0,
    supervision_unit: str = "sample",
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
) -> MultiTrial:
    """The fit of several tasks, as the command line names it; see `compose_trial`.

    strategy: the name of one for several tasks; its options are the defaults

    Raises:
        InputError: see `resolve_multi` and `compose_trial`.
    """
    trials = [
        compose_trial(
            task,
            model,
            method,
            supervision=supervision,
            supervision_unit=supervision_unit,
            seed=seed,
            training=training,
        )
        for task in tasks
    ]
    return resolve_multi({"strategy": strategy, "trials": trials})


def task_file(task: str) -> str:
    """Return the YAML file with a task's settings: its own, or that of all other tasks."""
    if _is_file(task):
        return task
    own = CONFIGS / "tasks" / f"{task}.yaml"
    return str(own if own.is_file() else own.with_name("default.yaml"))


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


def _read(kind: str, name: str, allowed: set[str], folder: str = "") -> dict[str, Any]:
    """The mapping in a YAML file, or in the one of that name in `configs` or a `folder` of it."""
    places = _places(kind, folder)
    path = Path(name) if _is_file(name) else places.get(name, CONFIGS / kind / f"{name}.yaml")
    if not path.is_file():
        raise InputError(
            f"There is no {name!r} in configs/{kind}, and no such file. {suggest(name, places)}"
        )
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold settings with their names, as 'training: ...'.")
    for key in content:
        if key not in allowed:
            raise InputError(f"{path} has no business with {key!r}. {suggest(str(key), allowed)}")
    return content


def _places(kind: str, folder: str) -> dict[str, Path]:
    """Name → file: of the kind itself, of a folder in it, and `folder/name` for all its families.

    The families of a model are folders that begin with its name: resnet50_cifar, resnet50_stl.
    """
    base = CONFIGS / kind
    families = base.glob(f"{folder}*/*.yaml") if folder else ()
    places = {str(path.relative_to(base).with_suffix("")): path for path in sorted(families)}
    own = [path for place in ("", folder) for path in (base / place).glob("*.yaml")]
    return {**places, **{path.stem: path for path in own}}


def _explain(error: ErrorDetails, kind: type[_Settings] = Trial) -> str:
    if not error["loc"]:  # about the whole
        return f"These settings cannot be: {error['msg'].removeprefix('Value error, ')}."
    *parents, name = error["loc"]
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        fields = Training.model_fields if parents else kind.model_fields
        return f"There is no setting {where!r}. {suggest(str(name), fields)}"
    if error["type"] == "missing":
        return f"The setting {where!r} is missing."
    return f"The setting {where!r} is {error['input']!r}. {error['msg']}."
