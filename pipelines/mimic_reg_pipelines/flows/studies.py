"""Searches at equal budget: each model and method tries as many points of its own space.

Optuna's sampler (TPE) proposes the points of a task, model, method and level, one after the other,
from the validation scores of those before. All of them propose in rounds, and the trials of a round
run together. Nothing of Optuna is kept on disk: with its seed the sampler proposes the same points
again, whose trials are finished. So a search continues where it was stopped, whatever stopped it.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimic_reg.experiments import Combination, Experiment, combinations
from mimic_reg.experiments.planning import space_of
from mimic_reg.metrics.scores import metric
from mimic_reg.seeds import derive
from mimic_reg.settings.budget import FIXED, Budget, in_words
from mimic_reg.settings.space import Range, Space, Values
from mimic_reg_pipelines.flows.points import Point, point_of
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus
from mimic_reg_pipelines.flows.search import Key, grid_of, key_of

if TYPE_CHECKING:
    import optuna

_SEEDS = 2**32  # NumPy's, which Optuna uses


class Study:
    """The search of a task, model, method and level.

    grid:  with what it is about alone
    tried: its points so far
    """

    def __init__(self, combination: Combination) -> None:
        self.key, self.grid = key_of(combination), grid_of(combination)
        self.space = space_of(self.grid, combination.model, combination.method)
        seed = derive("search", self.grid.search_seed, *map(str, self.key)) % _SEEDS
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
    """Run a search; return it with all its points, and its result.

    run:     how a sweep is run
    options: of `run`

    Raises:
        InputError, MimicRegError: see `sweep`.
    """
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
    return [t for t in result.trials if (t.task, t.model, t.method, t.size) == key]


def budgets(experiment: Experiment, result: SweepResult) -> tuple[Budget, ...]:
    """Return what the values of each task, model, method and level could be chosen from.

    experiment: a search with all its points
    result:     of its trials
    """
    groups: dict[Key, list[Combination]] = {}
    for combination in combinations(experiment):
        groups.setdefault(key_of(combination), []).append(combination)
    found = []
    for key, of_key in groups.items():
        first, trials = of_key[0], _trials(result, key)
        points = {str(t.searched): [u for u in trials if u.searched == t.searched] for t in trials}
        folds = {t.fold for t in trials} - {None}
        found.append(
            Budget(
                task=key[0],
                model=key[1],
                method=key[2],
                supervision=key[3].supervision,
                num_samples=key[3].num_samples,
                points=len(first.grid.tried) or len(points),
                different=len(points),
                complete=sum(all(t.done for t in of_point) for of_point in points.values()),
                seeds=tuple(sorted({t.seed for t in trials})),
                folds=len(folds) or None,
                space=_space_in_words(first, of_key),
                way=_way(first),
            )
        )
    return tuple(found)


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
