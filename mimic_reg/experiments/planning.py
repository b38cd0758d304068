"""A grid → the trials it stands for, each with the name of its run folder."""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mimic_reg.config import (
    CONFIGS,
    Component,
    MultiTrial,
    Trial,
    is_probe,
    load_yaml,
    resolve,
    resolve_multi,
    suggest,
)
from mimic_reg.errors import InputError
from mimic_reg.experiments.grid import (
    STOPPING,
    Experiment,
    Grid,
    Method,
    Model,
    Strategy,
    name_of,
)

# What decides the result of a trial, beside its settings and data: rooms and files of the package.
_DECIDING = (
    *("config.py", "seeds.py", "schema.py", "splits.py"),
    *("samples", "tasks", "models", "regularisers", "engine", "strategies"),
    *("metrics/scores.py", "metrics/bootstrap.py"),
)


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
    prefix = f"{name_of(grid.strategy)}: " if grid.together else ""
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
    content = _method_content(grid, model, method)
    return [Component.model_validate(entry) for entry in content["regularisers"]]


def _own_training(grid: Grid, model: Model, method: Method) -> dict[str, Any]:
    """How a method wants a model to be trained, if its file says."""
    if not isinstance(method, str):
        return {}
    own: dict[str, Any] = _method_content(grid, model, method).get("training", {})
    return own


def _method_content(grid: Grid, model: Model, method: str) -> dict[str, Any]:
    family = grid.families.get(name_of(model), name_of(model))
    return _yaml(_method_file(family, method))


def _method_file(family: str, method: str) -> Path:
    folder = CONFIGS / "regularisers"
    places = {p.stem: p for own in (folder, folder / family) for p in sorted(own.glob("*.yaml"))}
    if method not in places:
        raise InputError(
            f"There is no method {method!r} for {family}: neither {family}/{method}.yaml nor "
            f"{method}.yaml in {folder}. {suggest(method, places)}"
        )
    return places[method]


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
            if r.name not in ("none", STOPPING) and not is_probe(r.name)
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
        InputError: a setting that a module refuses.
    """
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
        prefix = f"{name_of(strategy)}: "
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
        entry for entry in common.get("regularisers", []) if grid.stopping or STOPPING not in entry
    ]
    training = {
        **common.get("training", {}),
        **_own_training(grid, combination.model, combination.method),
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
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in _DECIDING:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
