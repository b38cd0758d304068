"""Searches and comparisons before they run: their experiments, what they refuse, dry runs.

No module of Prefect or MLflow is loaded here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.experiments import (
    IMAGE_TASK,
    Combination,
    Experiment,
    combinations,
    for_tasks,
    parse,
    plan,
)
from mimic_reg.experiments.grid import Grid, name_of
from mimic_reg.experiments.planning import space_of
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.settings.files import is_file, names
from mimic_reg.settings.space import corners
from mimic_reg.store import Store
from mimic_reg_pipelines.flows import dry_run
from mimic_reg_pipelines.flows.dry_run import DryRun
from mimic_reg_pipelines.flows.settings import Work

Key = tuple[str, str, str, TrainingSize, int | None]  # task, model, method, level, fold


def search(
    task: str,
    model: str | Sequence[str],
    method: str | Sequence[str],
    values: Mapping[str, Sequence[Any]] | None = None,
    *,
    points: Mapping[str, int] | None = None,
    supervision: float = 1.0,
    seeds: int = 1,
    changes: Mapping[str, Any] | None = None,
    store: Path | None = None,
    work: Path | None = None,
) -> Experiment:
    """Return the experiment of a search, from the options of a command.

    model, method: one, or several
    values: component.option → values to try
    points: or `points` and `search_seed` of a grid: the space of each model and method
    store, work: where the store is, for a task that is not the benchmark's

    Raises:
        InputError: see `experiments.parse`.
    """
    models = [model] if isinstance(model, str) else list(model)
    methods, families = _families([method] if isinstance(method, str) else method, models)
    _refuse_repeated("--model", models)
    _refuse_repeated("--method", methods)
    searched = {key: list(each) for key, each in (values or {}).items()}
    tried: Mapping[str, Any] = points or {"search": searched}
    grid = {
        "tasks": [task],
        "models": models,
        "methods": methods,
        "supervision": [supervision],
        "seeds": seeds,
        "data": _cohort(task, store, work),
        **families,
        **tried,
    }
    name = f"tune-{task}-{'-'.join(models + methods)}-{100 * supervision:g}"
    title = f"Search: {', '.join(methods)}, {', '.join(models)}, {task}"
    return parse({"name": name, "title": title, "grids": [grid], "set": dict(changes or {})})


def _refuse_repeated(option: str, given: Sequence[str]) -> None:
    if repeated := [name for name, count in Counter(given).items() if count > 1]:
        raise InputError(f"{option} names {repeated[0]!r} twice.")


def _families(methods: Sequence[str], models: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the names of methods given as NAME or FAMILY/NAME, and the grid's families.

    Raises:
        InputError: more than one family.
    """
    parts = [("", "", m) if is_file(m) else m.rpartition("/") for m in methods]
    families = sorted({family for family, _, _ in parts if family})
    if len(families) > 1:
        raise InputError(
            f"Methods of one family at a time, not of {' and '.join(families)}: give one, or write "
            "an experiment with a grid for each."
        )
    chosen = {"families": dict.fromkeys(models, families[0])} if families else {}
    return [name for _, _, name in parts], chosen


def check(experiment: Experiment) -> None:
    """Refuse an experiment without anything to search."""
    searching = [g for g in experiment.grids if g.search or g.own_search or g.points]
    if not searching:
        raise InputError(
            f"{experiment.title} has nothing to search. Give its grid values to try, as "
            "search: {dropout.rate: [0.2, 0.5]}, or a number of points, as points: 20."
        )
    if any(grid.together for grid in searching):
        raise InputError(
            f"{experiment.title} searches a fit of several tasks, whose best point may differ from "
            "task to task. Compare the points with `mimic-reg sweep`."
        )
    _check_spaces(experiment)


def _check_spaces(experiment: Experiment) -> None:
    """Refuse spaces with points that cannot be trained, before a later round would.

    Raises:
        InputError: names one of the points.
    """
    grids: dict[Key, Grid] = {}
    for combination in combinations(experiment):
        key = (*key_of(combination)[:4], None)  # the same in all folds
        if combination.grid.undecided and key not in grids:
            grid = grid_of(combination, seeds=(0,), folds=())
            grids[key] = grid.model_copy(update={"tried": tuple(corners(grid.space))})
    if not grids:
        return
    decided = tuple(grid for grid in experiment.grids if not grid.undecided)
    try:
        plan(experiment.model_copy(update={"grids": (*grids.values(), *decided)}))
    except InputError as error:
        raise InputError(
            f"{error} Every point of a space must be possible: narrow the space, or search it in "
            "experiments of their own."
        ) from error


def comparison(
    task: str,
    model: str | Sequence[str],
    methods: Sequence[str],
    *,
    points: Mapping[str, int] | None = None,
    supervision: float = 1.0,
    changes: Mapping[str, Any] | None = None,
    store: Path | None = None,
    work: Path | None = None,
) -> Experiment:
    """Return the search of a comparison, from the options of a command.

    model:   one, or several
    methods: names in configs/methods, or FAMILY/NAME; `all` alone: every one that serves the model
    points:  as for `search`; None: the values of `search` in each method's file
    store, work: where the store is, which says what cohort it holds

    Raises:
        InputError: see `experiments.parse`; too few methods.
    """
    models = [model] if isinstance(model, str) else list(model)
    _refuse_repeated("--model", models)
    chosen, families = _families(methods, models)
    _refuse_repeated("--methods", chosen)
    grid = {
        "tasks": [task],
        "models": models,
        "methods": "all" if chosen == ["all"] else chosen,
        **families,
        "supervision": [supervision],
        "data": _cohort(task, store, work),
        **(points or {"own_search": True}),
    }
    name = f"compare-{task}-{'-'.join(models)}-{100 * supervision:g}"
    title = f"Comparison of methods: {task}, {', '.join(models)}"
    return parse({"name": name, "title": title, "grids": [grid], "set": dict(changes or {})})


def _cohort(task: str, store: Path | None, work: Path | None) -> str | None:
    """Return the cohort that a store holds, for a task that is not the benchmark's."""
    if task != IMAGE_TASK and task in names("tasks"):
        return None
    place = store or (Work(work).store if work else None)
    if place is None or not place.is_dir():
        raise InputError(
            f"{task!r} is not a task of the benchmark. Name the store that has it with --store."
        )
    return Store.open(place).spec.name


def check_fair(experiment: Experiment) -> None:
    """Refuse a comparison of fewer than two methods, or with unequal numbers of tries.

    Raises:
        InputError: says which methods have how many.
    """
    check(experiment)
    tries: dict[tuple[str, str, TrainingSize], dict[str, int]] = {}
    every = combinations(experiment)
    points = {(*key_of(c)[:4], str(c.searched)): c for c in every}
    for combination in points.values():
        task, model, method, level, _ = key_of(combination)
        of_place = tries.setdefault((task, model, level), {})
        more = of_place.get(method, 0) + bool(combination.searched)
        of_place[method] = combination.grid.points or more
    for (task, model, _), counts in tries.items():
        if len(counts) < 2:
            raise InputError(
                f"A comparison needs two methods or more, but {task} with {model} has "
                f"{', '.join(counts)} only. Models are not compared with each other: to tune each "
                "at the same number of points, use `mimic-reg tune`."
            )
        if len({count for count in counts.values() if count}) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            raise InputError(
                f"The methods have different numbers of tries on {task} with {model}: {told}. "
                "Give their files in configs/methods as many values under 'search' each."
            )
    trials = plan(experiment, most_points=1)
    if len(trials) < len(every) and not any(grid.points for grid in experiment.grids):
        raise InputError(
            f"{experiment.title} has {len(every)} trials, but only {len(trials)} different ones: "
            "two of its methods, or two values of a search, mean the same."
        )


def notes(experiment: Experiment) -> list[str]:
    """Return a sentence on each method without values to search, except the baseline."""
    found = dict.fromkeys(
        c.name for c in combinations(experiment) if not c.searched and c.name != BASELINE
    )
    return [
        f"{name} has no 'search' in its file, so it is trained with the values there."
        for name in found
    ]


def key_of(combination: Combination) -> Key:
    """Return the search that a combination belongs to: in a cross-validation that of its fold.

    The validation part of one fold tests another, so values that all folds choose together have
    seen test patients of each.
    """
    what = " + ".join(combination.tasks), name_of(combination.model), combination.name
    return *what, TrainingSize(**combination.size), combination.fold


def grid_of(combination: Combination, **changes: Any) -> Grid:
    """Return the grid of a combination with its own task, model, method, level and space alone.

    In a cross-validation whose folds are known, with its fold alone, too.
    """
    grid, model, method = combination.grid, combination.model, combination.method
    folds = grid.folds if combination.fold is None else (combination.fold,)
    own = {
        "tasks": combination.tasks,
        "models": (model,),
        "methods": (method,),
        "folds": folds,
        **dict.fromkeys(("supervision", "num_samples"), ()),
        **{name: (size,) for name, size in combination.size.items()},
        "space": space_of(grid, model, method) if grid.points else {},
    }
    return grid.model_copy(update=own | changes)


def winners(
    experiment: Experiment, best: Mapping[Key, Mapping[str, Any]], seeds: Sequence[int]
) -> Experiment:
    """Return the sweep of the winners, and of the methods that have nothing to search.

    best: the best values of each search; a search without them is left out
    """
    grids: dict[Key, Any] = {}
    for combination in combinations(experiment):
        key = key_of(combination)
        if combination.searched and key not in best:
            continue
        values = best[key] if combination.searched else {}
        grids[key] = grid_of(
            combination,
            own_search=False,
            search={option: (value,) for option, value in values.items()},
            seeds=tuple(seeds),
            points=None,
            space={},
            search_seed=0,
            tried=(),
        )
    return experiment.model_copy(
        update={"name": f"{experiment.name}-chosen", "grids": tuple(grids.values())}
    )


def of_compare(
    experiment: Experiment, work: Path, *, seeds: Sequence[int], store: Path | None = None
) -> DryRun:
    """Return what `compare` would do, as if the first point of each search were the best.

    Raises:
        InputError: as `compare`, before anything starts.
    """
    if opened := dry_run.present_store(experiment, store, work):
        experiment = for_tasks(experiment, opened)
    check_fair(experiment)
    first: dict[Key, Mapping[str, Any]] = {}
    for combination in combinations(experiment):
        first.setdefault(key_of(combination), combination.searched)
    after = winners(experiment, first, seeds)
    both = experiment.model_copy(update={"grids": (*experiment.grids, *after.grids)})
    return dry_run.of_sweep(both, store, work=work)
