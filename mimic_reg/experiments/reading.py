"""Reading an experiment, and checking every name in it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mimic_reg import probes
from mimic_reg.errors import InputError
from mimic_reg.experiments.costs import sizes
from mimic_reg.experiments.grid import SINGLE, Experiment, Grid, name_of
from mimic_reg.experiments.planning import Planned, plan
from mimic_reg.multitask.trials import strategies
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
from mimic_reg.store import Store

FOLDER = CONFIGS / "experiments"


def names() -> list[str]:
    """The experiments in configs."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(experiment: str | Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Return an experiment by its name in configs, or by its file.

    changes: group.setting → value; they join those of the file and replace them

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
        parsed = parse({"name": path.stem, **content})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not changes:
        return parsed
    return parse({**content, "name": parsed.name, "set": {**parsed.set, **changes}})


def parse(settings: Mapping[str, Any]) -> Experiment:
    """An experiment from plain settings, with every name in it checked.

    Raises:
        InputError: an unknown key or name; a value of a wrong kind.
    """
    experiment = checked(Experiment, settings, inner=Grid)
    for name in experiment.analyses:
        find_module("mimic_reg.report.analyses", name)
    for grid in experiment.grids:
        _check_names(grid)
        for given in (experiment.training, grid.training, *grid.training_of.values()):
            _check_training(given, grid)
    _check_focus(experiment.focus, plan(experiment))
    return experiment


def _check_focus(focus: str | None, planned: Iterable[Planned]) -> None:
    """Refuse a focus that no trial's method would be."""
    known: dict[str, None] = {}
    for each in planned:
        parts = acting(r.name for r in each.trial.regularisers)
        strategy = [each.trial.strategy.name] if each.trial.strategy else []
        known |= dict.fromkeys([*parts, " + ".join(parts), *strategy])
    if focus is not None and focus not in known:
        raise InputError(f"The focus {focus!r} is no method of its grids. {suggest(focus, known)}")


def _check_names(grid: Grid) -> None:
    allowed = {
        "task": (() if grid.data else grid.tasks, _known("tasks")),
        "model": ((*map(name_of, grid.models), *grid.families), _known("models")),
        "probe": ([probe.name for probe in grid.probes], set(probes.names())),
        "strategy": ((grid.strategy.name,), {SINGLE, *strategies()}),
        "task of this grid": (tuple(grid.training_of), set(grid.tasks)),
    }
    for kind, (given, known) in allowed.items():
        for name in given:
            if name not in known:
                raise InputError(f"There is no {kind} {name!r}. {suggest(name, known)}")
    families = files.families() if grid.families else set()
    for family in grid.families.values():
        if family not in families:
            raise InputError(f"There is no family {family!r}. {suggest(family, families)}")


def _known(kind: Literal["tasks", "models"]) -> set[str]:
    """Names of a kind: YAML files and modules."""
    return {*files.names(kind), *module_names(f"mimic_reg.{kind}")}


def _check_training(given: Mapping[str, Any], grid: Grid) -> None:
    if grid.together and "epoch_steps" in given:
        raise InputError(
            f"The strategy {grid.strategy.name} has epochs of its own: write "
            f"strategy: {{{grid.strategy.name}: {{epoch_iterations: …}}}} instead of "
            "'training.epoch_steps'."
        )
    files.check_training(given)


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
    """Refuse a store that does not hold what the experiment trains on.

    Raises:
        InputError: another cohort than it names, one without its tasks, or with fewer training
            samples than it asks for.
    """
    spec, wanted = store.spec, experiment.data
    if wanted and spec.name != wanted and (wanted != "images" or spec.is_hourly):
        needed = "a set of images" if wanted == "images" else f"the cohort {wanted!r}"
        advice = " Import it with `mimic-reg import-images`." if experiment.images else ""
        raise InputError(
            f"{experiment.name} needs {needed}, but {store.folder} holds {spec.name!r}.{advice} "
            "Name the right store with --store."
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
