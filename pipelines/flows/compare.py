"""A comparison of methods in one go: a search of each one's strength, then seeds of what won.

The search is that of `tune`: each method tries the values that its file in `configs/methods` has
under `search`, as many as every other one, and the best validation score wins. Then a sweep trains
the winners with all seeds, and the report compares them. Both share the run folders of the work
folder, so what the search has trained is not trained again, and the same call goes on after a stop.
Test scores are looked at in the report only.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import (
    IMAGE_TASK,
    Combination,
    Experiment,
    combinations,
    parse,
    plan,
)
from mimic_reg.progress import Progress, Silent
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.settings.files import names
from mimic_reg.store import Store
from pipelines.flows import dry_run
from pipelines.flows.dry_run import DryRun
from pipelines.flows.report import Concluded, conclude
from pipelines.flows.result import SweepResult
from pipelines.flows.settings import Work
from pipelines.flows.sweep import find_store, sweep
from pipelines.flows.tune import Choice, check, choose_point, searches
from pipelines.runners.settings import Running

_Key = tuple[str, str, str, TrainingSize]  # task, model, method


@dataclass(frozen=True)
class Compared:
    """Result of a comparison.

    choices:   the best point of each search
    problems:  of each search without one, why; its method is not in `result`
    search, result: the sweeps of the search and of the winners
    concluded: None where no trial of the winners has a result
    """

    choices: tuple[Choice, ...]
    problems: tuple[str, ...]
    search: SweepResult
    result: SweepResult
    concluded: Concluded | None

    @property
    def exit_code(self) -> int:
        """0 if every method has all its results, else 1."""
        return 1 if self.problems or self.search.failed else self.result.exit_code


def comparison(
    task: str,
    model: str,
    methods: Sequence[str],
    *,
    supervision: float = 1.0,
    training: Mapping[str, Any] | None = None,
    store: Path | None = None,
    work: Path | None = None,
) -> Experiment:
    """Return the search of a comparison, as the command line names it.

    methods: names in configs/methods; `all` alone: every one that serves the model
    store, work: where the store is, which says what cohort it holds

    Raises:
        InputError: see `experiments.parse`; too few methods.
    """
    repeated = [name for name, count in Counter(methods).items() if count > 1]
    if repeated:
        raise InputError(f"--methods names {repeated[0]!r} twice.")
    grid = {
        "tasks": [task],
        "models": [model],
        "methods": "all" if list(methods) == ["all"] else list(methods),
        "supervision": [supervision],
        "own_search": True,
        "data": _cohort(task, store, work),
    }
    title = f"{task}, {model}"
    return parse(
        {
            "name": f"compare-{task}-{model}-{100 * supervision:g}",
            "title": f"Comparison of methods: {title}",
            "grids": [grid],
            "training": dict(training or {}),
        }
    )


def _cohort(task: str, store: Path | None, work: Path | None) -> str | None:
    """Return the cohort that a store holds, for a task that is not the benchmark's."""
    if task != IMAGE_TASK and task in names("tasks"):
        return None
    place = store or (Work(work).store if work else None)
    if place is None or not place.is_dir():
        raise InputError(
            f"The task {task!r} is not of the benchmark's cohort: name the store that holds it "
            "with --store."
        )
    return Store.open(place).spec.name


def compare(
    experiment: Experiment,
    work: Path,
    *,
    seeds: Sequence[int],
    store: Path | None = None,
    running: Running | None = None,
    tracking_uri: str | None = None,
    commands: Sequence[str] = (),
    progress: Progress | None = None,
) -> Compared:
    """Search, train the winners with all seeds, report.

    experiment: the search; its grids have `own_search`, or a `search`
    seeds:      of the winners

    Raises:
        InputError: the methods are too few, or have different numbers of tries; see also `sweep`.
        MimicRegError: no method has a result.
    """
    progress = progress or Silent()
    check_fair(experiment)
    for note in notes(experiment):
        progress.note(note)
    options: dict[str, Any] = {
        "store": find_store(experiment, Work(work), store),
        "running": running,
        "tracking_uri": tracking_uri,
        "progress": progress,
    }
    search = sweep(experiment, work, **options)
    choices, problems = _choose(search)
    for choice in choices:
        progress.note(described(choice))
    for problem in problems:
        progress.note(problem)
    result = sweep(winners(experiment, choices, seeds), work, **options)
    concluded = None
    if any(trial.done for trial in result.trials):
        concluded = conclude(
            result, tracking_uri=tracking_uri, commands=commands, progress=progress
        )
    return Compared(tuple(choices), tuple(problems), search, result, concluded)


def check_fair(experiment: Experiment) -> None:
    """Refuse a comparison of fewer than two methods, or with unequal numbers of tries.

    Raises:
        InputError: says which methods have how many.
    """
    check(experiment)
    tries: dict[tuple[str, str, TrainingSize], dict[str, int]] = {}
    points = {(*_key(c), str(c.searched)): c for c in combinations(experiment)}
    for combination in points.values():
        task, model, method, level = _key(combination)
        of_place = tries.setdefault((task, model, level), {})
        of_place[method] = of_place.get(method, 0) + bool(combination.searched)
    for (task, model, _), counts in tries.items():
        if len(counts) < 2:
            raise InputError(
                f"A comparison needs two methods or more, but {task} with {model} has "
                f"{', '.join(counts)} only."
            )
        if len({count for count in counts.values() if count}) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
            raise InputError(
                f"The methods have different numbers of tries on {task} with {model}: {told}. "
                "Give their files in configs/methods as many values under 'search' each."
            )
    trials = plan(experiment)
    if len(trials) < len(combinations(experiment)):
        known = {p.trial.id("") for p in trials}
        raise InputError(
            f"{experiment.title} names {len(combinations(experiment))} fits, but only {len(known)} "
            "different ones: two of its methods, or two values of a search, mean the same."
        )


def notes(experiment: Experiment) -> list[str]:
    """Return a sentence on each method that has no strength to search, but for the baseline."""
    found = dict.fromkeys(
        c.name for c in combinations(experiment) if not c.searched and c.name != BASELINE
    )
    return [
        f"{name} has no 'search' in its file: it is run with the one setting that it has there."
        for name in found
    ]


def _key(combination: Combination) -> _Key:
    model = combination.model if isinstance(combination.model, str) else combination.model.name
    size = TrainingSize(**combination.size)
    return " + ".join(combination.tasks), model, combination.name, size


def _choose(search: SweepResult) -> tuple[list[Choice], list[str]]:
    """Return the best point of each search, and why others have none.

    Raises:
        MimicRegError: none has one.
    """
    choices, problems = [], []
    for trials in searches(search):
        try:
            choices.append(choose_point(search, trials))
        except MimicRegError as error:
            problems.append(str(error))
    if problems and not choices:
        raise MimicRegError(problems[0])
    return choices, problems


def described(choice: Choice) -> str:
    """Return a sentence on the best point of a search."""
    values = ", ".join(f"{key}={value}" for key, value in choice.best.values.items())
    return (
        f"{choice.task}, {choice.model}, {choice.method}: {values} is best of "
        f"{len(choice.points)}, validation {choice.best.score} {choice.best.mean:.4f}"
    )


def winners(experiment: Experiment, choices: Sequence[Choice], seeds: Sequence[int]) -> Experiment:
    """Return the sweep of what won, and of the methods that have nothing to search."""
    best = {(c.task, c.model, c.method, c.size): c.best.values for c in choices}
    return _with_seeds(experiment, seeds, best)


def _with_seeds(
    experiment: Experiment, seeds: Sequence[int], best: Mapping[_Key, Mapping[str, Any]]
) -> Experiment:
    """Return the experiment with a grid a method, whose search is one point.

    best: the point of each method; one that searches and is not among them is left out
    """
    grids: dict[_Key, Any] = {}
    for combination in combinations(experiment):
        key = _key(combination)
        if combination.searched and key not in best:
            continue
        values = best[key] if combination.searched else {}
        grids[key] = combination.grid.model_copy(
            update={
                "tasks": combination.tasks,
                "models": (combination.model,),
                "methods": (combination.method,),
                "own_search": False,
                "search": {option: (value,) for option, value in values.items()},
                "seeds": tuple(seeds),
                **dict.fromkeys(("supervision", "num_samples"), ()),
                **{name: (size,) for name, size in combination.size.items()},
            }
        )
    return experiment.model_copy(
        update={"name": f"{experiment.name}-chosen", "grids": tuple(grids.values())}
    )


def of_compare(
    experiment: Experiment, work: Path, *, seeds: Sequence[int], store: Path | None = None
) -> DryRun:
    """Return what `compare` would do; the first point of each search stands for the one that wins.

    Raises:
        InputError: as `compare`, before anything starts.
    """
    check_fair(experiment)
    first: dict[_Key, Mapping[str, Any]] = {}
    for combination in combinations(experiment):
        first.setdefault(_key(combination), combination.searched)
    after = _with_seeds(experiment, seeds, first)
    both = experiment.model_copy(update={"grids": (*experiment.grids, *after.grids)})
    return dry_run.of_sweep(both, store, work=work)
