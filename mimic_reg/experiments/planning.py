"""Grids → their trials, each with the name of its run folder."""

import hashlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.experiments.grid import Experiment, Grid, Method, Model, name_of
from mimic_reg.experiments.identity import code_of
from mimic_reg.settings import BASELINE, STOPPING, Component, Trial, acting, files, suggest
from mimic_reg.settings.files import (
    MethodFile,
    compose,
    method_called,
    model_called,
    model_space,
    name_of_method,
    task_called,
)
from mimic_reg.settings.space import Range, Space, Values, draw
from mimic_reg.store.spec import Task


@dataclass(frozen=True)
class Combination:
    """One fit of a grid, by names.

    tasks:    one, or all that a strategy trains together
    name:     of the method, after its strategy if it has one
    size:     supervision or num_samples
    fold:     None for a cohort without folds, and for a grid whose folds are not known yet
    searched: component.option → value
    share:    of the points of a plan: how many points that are left out it stands for, and itself
    """

    grid: Grid
    tasks: tuple[str, ...]
    model: Model
    method: Method
    name: str
    size: Mapping[str, Any]
    seed: int
    searched: Mapping[str, Any]
    fold: int | None = None
    share: float = 1.0


def combinations(experiment: Experiment, most_points: int | None = None) -> list[Combination]:
    """Return all fits of an experiment, in the order of their grids.

    most_points: of each search whose points are not found yet; None: all

    Raises:
        InputError: a method has no values for a model; no method or model has a searched option.
    """
    return [c for grid in experiment.grids for c in _combinations(grid, most_points)]


def _combinations(grid: Grid, most_points: int | None) -> Iterator[Combination]:
    tasks = [grid.tasks] if grid.together else [(name,) for name in grid.tasks]
    prefix = f"{grid.strategy.name}: " if grid.together else ""
    unused, known = {*grid.search, *grid.space}, set[str]()
    for task, model in itertools.product(tasks, grid.models):
        for method in _methods_of(grid, model)[0]:
            found = _method(grid, model, method)
            present = _groups(grid, model, found)
            known |= present
            keys = [key for key in grid.search if _acts(key, present)]
            unused -= {key for key in unused if _acts(key, present)}
            name, share = prefix + _name(method), 1.0
            if grid.undecided:
                every = _random(grid, task, model, method)
                points = every[:most_points]
                share = len(every) / len(points)
            elif grid.points:
                points = list(grid.tried)
            else:
                search = found.search if grid.own_search else {k: grid.search[k] for k in keys}
                values = itertools.product(*search.values())
                points = [dict(zip(search, each, strict=True)) for each in values]
            for searched in points:
                folds = (None,) if grid.folds == "all" else grid.folds or (None,)
                for size, fold, seed in itertools.product(grid.sizes, folds, grid.seeds):
                    yield Combination(
                        *(grid, task, model, method, name, size, seed, searched, fold, share)
                    )
    if unused:
        key = sorted(unused)[0]
        near = suggest(key.partition(".")[0], known)
        raise InputError(f"search: no method or model of its grid has {key!r}. {near}")


def _groups(grid: Grid, model: Model, method: MethodFile) -> set[str]:
    """Return the groups of settings that the trials of a model and a method have.

    Of a model that is not a network, training has single settings: the rest changes nothing.
    """
    from mimic_reg.learners.trials import takes_methods  # loads torch

    name = name_of(model)
    if not takes_methods(name):
        return {name, *(f"training.{n}" for n in ("normalizer", "indicators", "corrupted_labels"))}
    stops = {STOPPING} if grid.stopping else set()
    return {name, "training", *(c.name for c in method.regularisers)} | stops


def _acts(key: str, present: Collection[str]) -> bool:
    return key in present or key.partition(".")[0] in present


def _random(grid: Grid, task: Sequence[str], model: Model, method: Method) -> list[dict[str, Any]]:
    """Return different random points in place of those that a search has not found yet."""
    from mimic_reg.seeds import derive  # loads torch

    space = space_of(grid, model, method)
    seed = derive("plan of a search", *task, name_of(model), _name(method), grid.search_seed)
    rng = np.random.default_rng(seed)
    drawn = [draw(space, rng) for _ in range(grid.points or 0)]
    return list({str(point): point for point in drawn}.values())


def space_of(grid: Grid, model: Model, method: Method) -> Space:
    """Return the space of a model and a method: of their files, replaced by that of the grid.

    Raises:
        InputError: it is empty.
    """
    found = _method(grid, model, method)
    space = {**model_space(name_of(model)), **(found.space or found.search), **grid.space}
    known = _groups(grid, model, found)
    space = {k: _typed(k, v, model) for k, v in space.items() if _acts(k, known)}
    if not space:
        raise InputError(
            f"{name_of(model)} with {_name(method)} has nothing to search: give "
            f"configs/models/{name_of(model)}.yaml a 'space', or the grid."
        )
    return space


def _typed(key: str, values: Values, model: Model) -> Values:
    """Return a range of a real-valued option as one of real numbers, however its ends are written.

    So {low: 0, high: 1} is not 0 or 1 alone.
    """
    from mimic_reg.learners.trials import takes_reals  # loads torch

    if not (isinstance(values, Range) and values.whole and takes_reals(key, name_of(model))):
        return values
    return Range(low=float(values.low), high=float(values.high), log=values.log)


def _methods_of(grid: Grid, model: Model) -> tuple[list[Method], list[Method]]:
    """Return a grid's methods for a model, and those that are left out.

    A model that is not a network takes only 'none'. A grid without 'none' is refused later.
    """
    from mimic_reg.learners.trials import takes_methods  # loads torch

    asked = methods_of(grid, model)
    plain = [m for m in asked if acting(_components(m)) == (BASELINE,)]
    if not plain or takes_methods(name_of(model)):
        return list(asked), []
    return plain, [m for m in asked if m not in plain]


def fitting(grid: Grid, tasks: Sequence[Task]) -> tuple[Grid, ...]:
    """Return a grid whose methods may act on its tasks; `all` leaves out others for a regression.

    Raises:
        InputError: a method that is named needs classes, and a task is a regression.
    """
    regressions = [task for task in tasks if task.target == "regression"]
    if not regressions:
        return (grid,)
    if grid.methods == "all" and not grid.together and len(regressions) < len(tasks):
        names = [task.name for task in regressions]
        classes = tuple(name for name in grid.tasks if name not in names)
        return (
            grid.model_copy(update={"tasks": classes}),
            *fitting(grid.model_copy(update={"tasks": tuple(names)}), regressions),
        )
    from mimic_reg.methods import check_target  # loads torch

    def check(method: Method) -> None:
        for task in tasks:
            check_target(_components(method), task)

    def fits(method: Method) -> bool:
        with suppress(InputError):
            check(method)
            return True
        return False

    if grid.methods != "all":
        for method in grid.methods:
            check(method)
        return (grid,)
    return tuple(
        _part(grid, model, tuple(filter(fits, methods_of(grid, model)))) for model in grid.models
    )


def _part(grid: Grid, model: Model, methods: tuple[Method, ...]) -> Grid:
    """Return a grid for one of its models and some methods, with the searched options they have."""
    groups = (_groups(grid, model, _method(grid, model, method)) for method in methods)
    present = set[str]().union(*groups)
    found = {
        name: {key: values for key, values in getattr(grid, name).items() if _acts(key, present)}
        for name in ("search", "space")
    }
    return grid.model_copy(update={"models": (model,), "methods": methods, **found})


def left_out(experiment: Experiment) -> list[str]:
    """Return sentences about methods that an experiment does not combine with a model."""
    found: dict[str, None] = {}
    for grid in experiment.grids:
        for model in grid.models:
            if names := [_name(m) for m in _methods_of(grid, model)[1]]:
                found[
                    f"{name_of(model)} is not a network: it is trained with 'none' only, not with "
                    f"{', '.join(names)}."
                ] = None
    return list(found)


def _components(method: Method) -> list[str]:
    parts = method_called(method).regularisers if isinstance(method, str) else method
    return [part.name for part in parts]


def _name(method: Method) -> str:
    return method if isinstance(method, str) else name_of_method(c.entry() for c in method)


def methods_of(grid: Grid, model: Model) -> tuple[Method, ...]:
    """Return the methods of a grid for one of its models; `all`: those that fit it.

    The baseline comes first, because a trial that two methods share is named by the first.
    """
    if grid.methods != "all":
        return grid.methods
    family = grid.families.get(name_of(model), name_of(model))
    serving = (name for name in files.names("methods") if method_called(name).serves(family))
    return tuple(sorted(serving, key=lambda name: (name != BASELINE, name)))


def _method(grid: Grid, model: Model, method: Method) -> MethodFile:
    """Return a method of a grid with its values for a model."""
    if not isinstance(method, str):
        return MethodFile(regularisers=method)
    return method_called(method).of(grid.families.get(name_of(model), name_of(model)), method)


@dataclass(frozen=True)
class Planned:
    """A trial of an experiment, and the name of its method there.

    searched: component.option → value of a search
    share:    see `Combination`
    """

    trial: Trial
    method: str
    searched: Mapping[str, Any]
    share: float = 1.0

    @property
    def label(self) -> str:
        """Return the name of its method, with the values of a search."""
        values = (f"{key.partition('.')[2]}={value}" for key, value in self.searched.items())
        return f"{self.method} ({', '.join(values)})" if self.searched else self.method

    def identity(self, data: str) -> str:
        """Return the hash of settings, seed, data and code, which determine the result."""
        text = f"{self.trial.id(data)} {code_of(self.trial)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def folder_name(self, data: str) -> str:
        """Return the name of a run folder: readable, and unique because it ends in the identity."""
        trial = self.trial
        methods = "+".join(acting(r.name for r in trial.regularisers))
        what = trial.task
        if trial.strategy:
            what = f"{trial.strategy.name}-{'+'.join(trial.tasks)}"
        called = f"{what}-{trial.model.name}-{methods}-{trial.size.name}-seed{trial.seed}"
        called += f"-fold{trial.fold}" if trial.fold else ""
        return f"{called.replace(':', '.')}-{self.identity(data)}"


def plan(experiment: Experiment, most_points: int | None = None) -> list[Planned]:
    """Return the trials of an experiment without duplicates.

    most_points: see `combinations`

    Raises:
        InputError: a setting that a module refuses; a change of a setting that no trial has, or
            that a search tries values of.
    """
    from mimic_reg.multitask.changes import change_known, check_known, known_settings

    found: dict[str, Planned] = {}
    known: set[str] = set()
    for combination in combinations(experiment, most_points):
        try:
            planned = _resolve(combination, experiment)
        except InputError as error:
            if not combination.searched:
                raise
            values = ", ".join(f"{key}={value}" for key, value in combination.searched.items())
            who = f"{name_of(combination.model)} with {combination.name}"
            raise InputError(f"{who} cannot be trained with {values}. {error}") from error
        if experiment.set:
            known |= known_settings(planned.trial)
            _check_searched(experiment, combination)
            changed = change_known(planned.trial, experiment.set)
            planned = replace(planned, trial=changed)
        found.setdefault(planned.trial.id(""), planned)
    check_known(experiment.set, known)
    return list(found.values())


def _check_searched(experiment: Experiment, combination: Combination) -> None:
    for key in combination.searched:
        group, _, option = key.partition(".")
        if key in experiment.set or (
            group == name_of(combination.model) and f"model.{option}" in experiment.set
        ):
            raise InputError(
                f"{experiment.title} searches values of {key!r}: do not set it as well."
            )


def _resolve(combination: Combination, experiment: Experiment) -> Planned:
    trials = [_trial(task, combination, experiment) for task in combination.tasks]
    trial = trials[0]
    if combination.grid.together:
        from mimic_reg.multitask.trials import resolve_multi

        trial = resolve_multi({"strategy": combination.grid.strategy, "trials": trials})
    searched = {} if combination.grid.undecided else combination.searched
    return Planned(trial, combination.name, searched, combination.share)


def _trial(task: str, combination: Combination, experiment: Experiment) -> Trial:
    from mimic_reg.learners.trials import resolve

    grid, model = combination.grid, combination.model
    common, method = task_called(task), _method(grid, model, combination.method)
    searched = combination.searched
    component = model_called(model) if isinstance(model, str) else model
    parts = (_with(part, searched) for part in method.regularisers)
    method = method.model_copy(update={"regularisers": (*parts, *grid.probes)})
    kept = [c for c in common.regularisers if grid.stopping or c.name != STOPPING]
    common = common.model_copy(update={"regularisers": tuple(_with(c, searched) for c in kept)})
    training = {**experiment.training, **grid.training, **grid.training_of.get(task, {})}
    return resolve(
        compose(
            common,
            _with(component, searched),
            method,
            training=training | _own("training", searched),
            **combination.size,
            supervision_unit=grid.supervision_unit,
            seed=combination.seed,
            fold=combination.fold,
            **({} if grid.start is None else {"start": grid.start.model_dump()}),
        )
    )


def _with(component: Component, searched: Mapping[str, Any]) -> Component:
    """Return the component with its values of a search."""
    own = _own(component.name, searched)
    return Component.model_validate({component.name: {**component.options, **own}})


def _own(group: str, searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return option → value of a group's values of a search."""
    start = f"{group}."
    return {k.removeprefix(start): v for k, v in searched.items() if k.startswith(start)}
