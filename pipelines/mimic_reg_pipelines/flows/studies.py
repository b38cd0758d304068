"""Searches at equal budget: each model and method tries as many points of its own space.

Optuna's sampler (TPE) proposes the points of a task, model, method and level, one after the other,
from the validation scores of those before. In a cross-validation each fold has a sampler of its
own, which is told the validation scores of this fold alone. All of them propose in rounds, and the
trials of a round run together. Nothing of Optuna is kept on disk: with its seed the sampler
proposes the same points again, whose trials are finished. So a search continues where it was
stopped, whatever stopped it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_reg.experiments import Combination, Experiment, combinations, for_store
from mimic_reg.experiments.planning import space_of
from mimic_reg.metrics.scores import metric
from mimic_reg.seeds import derive
from mimic_reg.settings.budget import FIXED, Budget, in_words
from mimic_reg.settings.space import Range, Space, Values
from mimic_reg.store import Store
from mimic_reg_pipelines.flows.points import Point, format_values, point_of
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus
from mimic_reg_pipelines.flows.search import Key, grid_of, key_of
from mimic_reg_pipelines.flows.settings import Work, find_store

if TYPE_CHECKING:
    import optuna

_SEEDS = 2**32  # NumPy's, which Optuna uses


class Study:
    """The search of a task, model, method and level, in a fold if there are folds.

    grid:  with what it is about alone
    tried: its points so far
    """

    def __init__(self, combination: Combination) -> None:
        self.key, self.grid = key_of(combination), grid_of(combination)
        self.space = space_of(self.grid, combination.model, combination.method)
        *what, fold = self.key
        named = map(str, what if fold is None else self.key)
        seed = derive("search", self.grid.search_seed, *named) % _SEEDS
        self._study = _create(seed)
        self._distributions = {key: _distribution(values) for key, values in self.space.items()}
        self.tried: list[dict[str, Any]] = []

    def ask(self) -> None:
        """Add the next point."""
        self._asked = self._study.ask(self._distributions)
        params = self._asked.params
        self.tried.append({key: _value(v, params[key]) for key, v in self.space.items()})

    def tell(self, point: Point) -> None:
        """Tell the sampler what became of the point; without all its results it is left out."""
        if point.missing or not math.isfinite(point.mean):
            from optuna.trial import TrialState

            self._study.tell(self._asked, state=TrialState.FAIL)
        else:
            lower = metric(point.score).lower_is_better
            self._study.tell(self._asked, -point.mean if lower else point.mean)


def _create(seed: int) -> "optuna.Study":
    """Return a new study in memory, which maximises."""
    import optuna  # slow, and only searches need it

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would tell of every study
    try:
        sampler = optuna.samplers.TPESampler(seed=seed)
        return optuna.create_study(sampler=sampler, direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(values: Values) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(values, Range):
        return CategoricalDistribution(range(len(values)))
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _value(values: Values, drawn: Any) -> Any:
    return values.value(drawn) if isinstance(values, Range) else values[drawn]


def explore(
    experiment: Experiment, work: Path, *, run: Callable[..., SweepResult], **options: Any
) -> tuple[Experiment, SweepResult]:
    """Run a search; return it with all its points and folds, and its result.

    run:     how a sweep is run
    options: of `run`; its `store` decides the folds

    Raises:
        InputError, MimicRegError: see `sweep`.
    """
    place = find_store(experiment, Work(work), options.get("store"))
    experiment = for_store(experiment, Store.open(place))
    found: dict[Key, Study] = {}
    for combination in combinations(experiment):
        if combination.grid.undecided and (key := key_of(combination)) not in found:
            found[key] = Study(combination)
    studies = list(found.values())
    decided = tuple(grid for grid in experiment.grids if not grid.undecided)
    most = max((study.grid.points or 0 for study in studies), default=0)
    for number in range(most):
        open_ = [study for study in studies if number < (study.grid.points or 0)]
        for study in open_:
            study.ask()
        grids = tuple(s.grid.model_copy(update={"tried": (s.tried[-1],)}) for s in open_)
        title = f"{experiment.title}, point {number + 1} of {most}"
        asked = experiment.model_copy(update={"grids": grids, "title": title})
        result = run(asked, work, **options)
        for study in open_:
            study.tell(point_of(result, _trials(result, study.key)))
    searched = (s.grid.model_copy(update={"tried": tuple(s.tried)}) for s in studies)
    whole = experiment.model_copy(update={"grids": (*decided, *searched)})
    return whole, run(whole, work, **options)


def _trials(result: SweepResult, key: Key) -> list[TrialStatus]:
    return [t for t in result.trials if (t.task, t.model, t.method, t.size, t.fold) == key]


def budgets(
    experiment: Experiment, result: SweepResult, best: Mapping[Key, Mapping[str, Any]]
) -> tuple[Budget, ...]:
    """Return what the values of each task, model, method and level could be chosen from.

    In a cross-validation the numbers of points are those of each fold; of folds that differ, the
    smallest.

    experiment: a search with all its points and folds
    result:     of its trials
    best:       the best values of each search
    """
    groups: dict[tuple[Any, ...], dict[Key, list[Combination]]] = {}
    for combination in combinations(experiment):
        key = key_of(combination)
        groups.setdefault(key[:4], {}).setdefault(key, []).append(combination)
    found = []
    for (task, model, method, size), by_fold in groups.items():
        of_key = next(iter(by_fold.values()))
        trials = [_trials(result, key) for key in by_fold]
        points = [_by_point(of_fold) for of_fold in trials]
        found.append(
            Budget(
                task=task,
                model=model,
                method=method,
                supervision=size.supervision,
                num_samples=size.num_samples,
                points=len(of_key[0].grid.tried) or len(points[0]),
                different=min(map(len, points)),
                complete=min(sum(all(t.done for t in p) for p in each) for each in points),
                seeds=tuple(sorted({t.seed for of_fold in trials for t in of_fold})),
                chosen={
                    str(key[4]): format_values(best[key])
                    for key in by_fold
                    if key[4] is not None and key in best
                },
                space=_space_in_words(of_key[0], of_key),
                way=_way(of_key[0]),
            )
        )
    return tuple(found)


def _by_point(trials: Sequence[TrialStatus]) -> list[list[TrialStatus]]:
    points: dict[str, list[TrialStatus]] = {}
    for trial in trials:
        points.setdefault(str(trial.searched), []).append(trial)
    return list(points.values())


def _space_in_words(first: Combination, every: Sequence[Combination]) -> dict[str, str]:
    space: Space
    if first.grid.points:
        space = space_of(first.grid, first.model, first.method)
    else:
        space = {
            key: tuple(dict.fromkeys(c.searched[key] for c in every)) for key in first.searched
        }
    return {key: in_words(values) for key, values in space.items()}


def _way(first: Combination) -> str:
    if first.grid.points:
        return f"TPE, seed {first.grid.search_seed}"
    return "all combinations" if first.searched else FIXED
