"""Read an experiment and check every name in it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mimic_reg import probes
from mimic_reg.errors import InputError
from mimic_reg.experiments.costs import sizes
from mimic_reg.experiments.grid import SINGLE, Experiment, Grid, name_of
from mimic_reg.experiments.planning import Planned, fitting, plan
from mimic_reg.settings import (
    CONFIGS,
    acting,
    checked,
    files,
    find_module,
    load_yaml,
    module_names,
    suggest,
)
from mimic_reg.settings.plugins import is_plugin
from mimic_reg.store import Store

FOLDER = CONFIGS / "experiments"


def names() -> list[str]:
    """Return the names of the experiments in configs."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(experiment: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Return an experiment by its name in configs, or by its file.

    changes: group.setting → value; they join those of the file and replace them

    Raises:
        InputError: it does not exist; an unknown key or name; a value of the wrong type.
    """
    path = Path(experiment)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{experiment}.yaml"
        if str(experiment) not in names():
            raise InputError(
                f"There is no experiment {str(experiment)!r} in {FOLDER}. "
                f"{suggest(str(experiment), names(), 'mimic-reg list experiments')}"
            )
    content = load_yaml(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} must have settings with names, such as 'title: …'.")
    try:
        parsed = parse({"name": path.stem, **content})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not changes:
        return parsed
    return parse({**content, "name": parsed.name, "set": {**parsed.set, **changes}})


def parse(settings: Mapping[str, Any]) -> Experiment:
    """Return an experiment from plain settings, and check every name in it.

    Raises:
        InputError: an unknown key or name; a value of the wrong type.
    """
    experiment = checked(Experiment, settings, inner=Grid)
    for name in experiment.analyses:
        find_module("mimic_reg.report.analyses", name)
    for grid in experiment.grids:
        _check_names(grid)
        for given in (experiment.training, grid.training, *grid.training_of.values()):
            _check_training(given, grid)
    _check_focus(experiment.focus, plan(experiment, most_points=1))
    return experiment


def _check_focus(focus: str | None, planned: Iterable[Planned]) -> None:
    """Refuse a focus that is not the method of any trial."""
    known: dict[str, None] = {}
    for each in planned:
        parts = acting(r.name for r in each.trial.regularisers)
        strategy = [each.trial.strategy.name] if each.trial.strategy else []
        known |= dict.fromkeys([each.method, *parts, " + ".join(parts), *strategy])
    if focus is not None and focus not in known:
        raise InputError(
            f"The focus {focus!r} is not a method of the grids. {suggest(focus, known)}"
        )


def _check_names(grid: Grid) -> None:
    from mimic_reg.multitask.trials import strategies  # loads torch

    allowed = {
        "task": (() if grid.data else grid.tasks, _known("tasks")),
        "model": ((*map(name_of, grid.models), *grid.families), _known("models")),
        "probe": ([probe.name for probe in grid.probes], set(probes.names())),
        "strategy": ((grid.strategy.name,), {SINGLE, *strategies()}),
        "task of this grid": (tuple(grid.training_of), set(grid.tasks)),
    }
    for kind, (given, known) in allowed.items():
        for name in given:
            plugin = kind == "model" and is_plugin("mimic_reg.models", name)
            if name not in known and not plugin:
                hint = " Set 'data' to the cohort's name for a task of another cohort."
                raise InputError(
                    f"There is no {kind} {name!r}. {suggest(name, known)}"
                    f"{hint if kind == 'task' else ''}"
                )
    families = files.families() if grid.families else set()
    for family in grid.families.values():
        if family not in families:
            raise InputError(f"There is no family {family!r}. {suggest(family, families)}")


def _known(kind: Literal["tasks", "models"]) -> set[str]:
    """Return the names of YAML files and modules of a kind."""
    return {*files.names(kind), *module_names(f"mimic_reg.{kind}")}


def _check_training(given: Mapping[str, Any], grid: Grid) -> None:
    if grid.together and "epoch_steps" in given:
        raise InputError(
            f"'training.epoch_steps' has no effect with the strategy {grid.strategy.name}. Write "
            f"strategy: {{{grid.strategy.name}: {{epoch_iterations: …}}}} instead."
        )
    files.check_training(given)


def within(work: Path, relative: str) -> Path:
    """Return a path from a configuration, in the work folder.

    Raises:
        InputError: the path is outside the folder, for example because of a link.
    """
    path = work / relative
    if not path.resolve().is_relative_to(work.resolve()):
        raise InputError(
            f"{relative!r} leads out of {work}: a configuration has paths in the work folder only. "
            "Give other paths on the command line."
        )
    return path


def for_store(experiment: Experiment, store: Store) -> Experiment:
    """Return an experiment with the folds of a store: those of its grids, or all.

    Raises:
        InputError: see `for_tasks`; the store does not have the folds.
    """
    experiment = for_tasks(experiment, store)
    spec = store.spec
    every = tuple(range(1, spec.num_folds + 1))
    for grid in experiment.grids:
        for fold in (1,) if grid.folds == "all" else grid.folds:
            spec.check_fold(fold)
        if every and grid.start is not None and grid.start.trunk is not None:
            spec.check_undivided("A trained trunk")
    grids = tuple(
        grid.model_copy(update={"folds": every if grid.folds in ("all", ()) else grid.folds})
        for grid in experiment.grids
    )
    return experiment.model_copy(update={"grids": grids})


def for_tasks(experiment: Experiment, store: Store) -> Experiment:
    """Return an experiment whose methods may act on a store's tasks; `all` leaves others out.

    Raises:
        InputError: see `check_data` and `fitting`.
    """
    check_data(experiment, store)
    grids = tuple(
        fitted
        for grid in experiment.grids
        for fitted in fitting(grid, [store.spec.task(name) for name in grid.tasks])
    )
    return experiment.model_copy(update={"grids": grids})


def check_data(experiment: Experiment, store: Store) -> None:
    """Refuse a store that does not have the data of the experiment.

    Raises:
        InputError: the store has another cohort, not all tasks, or too few training samples.
    """
    spec, wanted = store.spec, experiment.data
    if wanted and spec.name != wanted and (wanted != "images" or spec.is_hourly):
        needed = "a set of images" if wanted == "images" else f"the cohort {wanted!r}"
        advice = " Import it with `mimic-reg import-images`." if experiment.images else ""
        raise InputError(
            f"{experiment.name} needs {needed}, but {store.folder} holds {spec.name!r}.{advice} "
            "Give the right store with --store."
        )
    for name in dict.fromkeys(name for grid in experiment.grids for name in grid.tasks):
        spec.task(name)
    for grid in (grid for grid in experiment.grids if grid.num_samples):
        most, available = max(grid.num_samples), sizes(store)
        for name in grid.tasks:
            if most > (count := available[name, "train"]):
                raise InputError(
                    f"{experiment.name} asks for {most:,} training samples of {name}, but "
                    f"{store.folder} has {count:,}. Lower num_samples."
                )
