"""Settings in YAML files: those in `configs`, by their names, and a user's own, by their paths.

A method's file may have values for families of models. A family is usually a model's name (`lstm`),
or a model's name and its data (`resnet50_cifar`).

    regularisers:                    # for all families, in the order in which they act
    - dropout: {rate: 0.5}
    families:                        # if given, the only families that the file serves
      lstm: {}
      cnn: {dropout: {rate: 0.3}, training: {learning_rate: 1e-4}}
    search: {dropout.rate: [0.1, 0.3, 0.5]}  # values from which comparisons choose
    space: {dropout.rate: {low: 0.1, high: 0.7}}  # where a search at equal budget takes its points

A model's file has its name with its options, and may have a `space`, too.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from mimic_reg.errors import InputError
from mimic_reg.settings.base import Settings, checked
from mimic_reg.settings.names import BASELINE, STOPPING, is_probe, suggest
from mimic_reg.settings.plugins import is_plugin, room
from mimic_reg.settings.space import Space, Values, as_search, check_space
from mimic_reg.settings.trial import Component, Training, Trial
from mimic_reg.settings.yaml import load_yaml

# beside the package in a clone; within it in a wheel, where setup.py puts it
_INSTALLED = Path(__file__).parents[1] / "configs"
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "configs"

_OTHER_TASKS = "default"


class _File(Settings):
    """The content that files of tasks and of methods share.

    training: replaces defaults, or the values of the file read before
    """

    regularisers: tuple[Component, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _training_is_known(self) -> "_File":
        check_training(self.training)
        return self


class TaskFile(_File):
    """How to train a task with any method; its regularisers act after those of the method.

    task: its name; null: any task without its own file
    """

    task: str | None = None


class ModelFile(Settings):
    """A model: {lstm: {units: 256}}.

    space: see `settings.space`: of its own options, of `training` and of early stopping
    """

    model: Component
    space: dict[str, Values] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        model = {name: options for name, options in given.items() if name != "space"}
        space = as_search(given.get("space", {}))
        return {"model": Component.model_validate(model), "space": space}

    @model_validator(mode="after")
    def _space_fits(self) -> "ModelFile":
        check_space(self.space, {self.model.name, STOPPING, "training"})
        return self


class MethodFile(_File):
    """A method: what acts on a fit.

    families: family of models → component → options, which replace or join those of
              `regularisers`, and likewise `training`. If given, the method serves no other family
    search:   component.option → values from which a comparison chooses
    space:    where a search at equal budget takes its points: see `settings.space`; without it, the
              values of `search`
    """

    families: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    search: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    space: dict[str, Values] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _empty_family(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("families"), Mapping):
            return given
        families = given["families"].items()
        return {**given, "families": {k: {} if v is None else v for k, v in families}}

    @field_validator("search", "space", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return as_search(given)

    @model_validator(mode="after")
    def _fits_together(self) -> "MethodFile":
        check_space(self.search, what="search")
        names = [component.name for component in self.regularisers]
        check_space(self.space, {*names, STOPPING, "training"})
        for key in self.search:
            name = key.partition(".")[0]
            if names.count(name) != 1:
                raise ValueError(
                    f"search has {key!r}, but the regularisers have {name!r} {names.count(name)} "
                    f"times. {suggest(name, names)}"
                )
        for family, values in self.families.items():
            for name in values:
                if name not in (*names, "training"):
                    raise ValueError(
                        f"families.{family} has {name!r}, which is not among the regularisers. "
                        + suggest(name, {*names, "training"})
                    )
                if names.count(name) > 1:
                    raise ValueError(
                        f"families.{family} has options of {name!r}, which the regularisers have "
                        f"{names.count(name)} times"
                    )
            check_training(values.get("training", {}))
        return self

    def of(self, family: str, called: str) -> "MethodFile":
        """Return the method with the values of a family only.

        called: name of the method, for errors

        Raises:
            InputError: it has families, but not this one.
        """
        if not self.families:
            return self
        if family not in self.families:
            advice = (
                "Add them to its families."
                if is_file(called)
                else f"To use those of another family, write FAMILY/{called}, or in a grid "
                f"families: {{{family}: FAMILY}}."
            )
            raise InputError(
                f"The method {called!r} has no values for {family!r}. "
                f"{suggest(family, self.families)} {advice}"
            )
        own = self.families[family]
        return MethodFile(
            regularisers=tuple(
                Component.model_validate({c.name: {**c.options, **own.get(c.name, {})}})
                for c in self.regularisers
            ),
            training={**self.training, **own.get("training", {})},
            search=self.search,
            space=self.space,
        )

    def serves(self, family: str) -> bool:
        """Return whether it has values for a family, or the same values for all."""
        return not self.families or family in self.families


def check_training(given: Mapping[str, Any]) -> None:
    """Raise InputError for an unknown key; `resolve` checks the values."""
    for name in given:
        if name not in Training.model_fields:
            raise InputError(
                f"There is no setting 'training.{name}'. "
                f"{suggest(str(name), Training.model_fields)}"
            )


# --- by name or by path ---------------------------------------------------------------------------

Named = Literal["tasks", "models", "methods"]


def names(kind: Named) -> list[str]:
    """Return the names of the files of a kind in `configs`."""
    folder = CONFIGS / kind
    return list(_names(folder, folder.stat().st_mtime_ns))


@cache  # an experiment asks thousands of times
def _names(folder: Path, mtime_ns: int) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def families() -> set[str]:
    """Return all families for which methods in `configs` have values."""
    return {family for name in names("methods") for family in method_called(name).families}


def read_task(task: str) -> TaskFile:
    """Return how to train a task: from a YAML file, or by the task's name.

    Raises:
        InputError: the file is missing, has other content, or names no task.
    """
    if not is_file(task):
        return task_called(task)
    found = _load(TaskFile, Path(task))
    if found.task is None:
        raise InputError(f"{task} does not name its task: add 'task: …'.")
    return found


def read_model(model: str) -> Component:
    """Return a model with its settings: from a YAML file, or by the model's name.

    Raises:
        InputError: the file is missing or has other content.
    """
    return _load(ModelFile, Path(model)).model if is_file(model) else model_called(model)


def read_method(method: str, family: str) -> MethodFile:
    """Return a method with its values for a family of models.

    method: a YAML file; or a name in `configs/methods`, alone (`l2`), or after another family
            whose values to use (`resnet50_cifar/l2`)

    Raises:
        InputError: there is none; the file has other content; it has no values for the family.
    """
    if is_file(method):
        return _load(MethodFile, Path(method)).of(family, method)
    other, _, name = method.rpartition("/")
    return method_called(name).of(other or family, name)


def task_called(name: str) -> TaskFile:
    """Return how to train the task of that name; the default for tasks of other cohorts."""
    found = _named(TaskFile, "tasks", name if name in names("tasks") else _OTHER_TASKS)
    return found if found.task else found.model_copy(update={"task": name})


def model_called(name: str) -> Component:
    """Return the model of that name, with the settings of its file in `configs`, if any."""
    if name in names("models"):
        return _named(ModelFile, "models", name).model
    return Component.model_validate(name)


def model_space(name: str) -> Space:
    """Return the space of the model of that name; an empty one if it has no file or no space."""
    return _named(ModelFile, "models", name).space if name in names("models") else {}


def method_called(name: str) -> MethodFile:
    """Return the method of that name; of a plugin, the plugin alone.

    Raises:
        InputError: there is none.
    """
    if name not in names("methods") and is_plugin(room("methods"), name):
        return MethodFile(regularisers=(Component.model_validate(name),))
    return _named(MethodFile, "methods", name)


def name_of_method(entries: Iterable[Mapping[str, Mapping[str, Any]]]) -> str:
    """Return what a method is called: its file in `configs/methods`, else its modules.

    Several files may have the same modules, such as `itps` and `itps_latched`. Then it is the file
    with the most options that equal those of the method; options to search do not count.

    entries: component → options, of a resolved trial; probes and early stopping are ignored
    """
    silent = (BASELINE, STOPPING)
    acts = [
        (name, options)
        for entry in entries
        for name, options in entry.items()
        if name not in silent and not is_probe(name)
    ]
    modules = tuple(name for name, _ in acts)
    files = _files_by_modules().get(modules, {})
    if len(files) < 2:
        return next(iter(files), " + ".join(modules) or BASELINE)
    given = {f"{name}.{key}": value for name, options in acts for key, value in options.items()}
    equal = {
        file: len(options)
        for file, variants in files.items()
        for options in variants
        if options.items() <= given.items()
    }
    return max(equal, key=equal.__getitem__, default=" + ".join(modules))


def name_of_trial(trial: Trial) -> str:
    """Return what a trial's method is called, after its strategy if it has one."""
    name = name_of_method(component.entry() for component in trial.regularisers)
    strategy = trial.together.strategy if trial.together else trial.strategy
    return f"{strategy.name}: {name}" if strategy else name


@cache
def _files_by_modules() -> dict[tuple[str, ...], dict[str, list[dict[str, Any]]]]:
    """Return modules → file → its fixed options, by family, as component.option → value."""
    found: dict[tuple[str, ...], dict[str, list[dict[str, Any]]]] = {}
    for name in names("methods"):
        file = method_called(name)
        modules = tuple(component.name for component in file.regularisers)
        found.setdefault(modules, {})[name] = [
            {
                f"{component.name}.{key}": value
                for component in file.of(family, name).regularisers
                for key, value in component.options.items()
                if f"{component.name}.{key}" not in {*file.search, *file.space}
            }
            for family in file.families or ("",)
        ]
    return found


def is_file(name: str) -> bool:
    """Return whether a name is a YAML file's."""
    return name.endswith((".yaml", ".yml"))


Kind = TypeVar("Kind", bound=Settings)


def _named(kind: type[Kind], folder: Named, name: str) -> Kind:
    known = names(folder)
    if name not in known:
        raise InputError(
            f"There is no {folder.removesuffix('s')} {name!r} in configs/{folder}. "
            f"{suggest(name, known, f'mimic-reg list {folder}')}"
        )
    path = CONFIGS / folder / f"{name}.yaml"
    return _cached(kind, path, path.stat().st_mtime_ns)


@cache
def _cached(kind: type[Kind], path: Path, mtime_ns: int) -> Kind:
    return _load(kind, path)


def _load(kind: type[Kind], path: Path) -> Kind:
    content = load_yaml(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must contain settings with their names, such as 'training: ...'.")
    try:
        return checked(kind, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def compose(
    task: TaskFile,
    model: Component,
    method: MethodFile,
    *,
    training: Mapping[str, Any],
    **others: Any,
) -> dict[str, Any]:
    """Return the plain settings of a trial.

    training: replaces the values of the method, which replace those of the task
    others:   other settings of the trial
    """
    return {
        "task": task.task,
        "model": model.entry(),
        "regularisers": [c.entry() for c in (*method.regularisers, *task.regularisers)],
        "training": {**task.training, **method.training, **training},
        **others,
    }
