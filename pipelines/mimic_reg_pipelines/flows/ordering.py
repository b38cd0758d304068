"""In which order a sweep runs its trials."""

import math
from collections.abc import Mapping, Sequence

from mimic_reg import experiments
from mimic_reg.experiments import Planned
from mimic_reg.store import Store
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus
from mimic_reg_pipelines.flows.settings import Work


def longest_first(
    trials: Sequence[TrialStatus], planned: Mapping[str, Planned], result: SweepResult
) -> tuple[list[TrialStatus], list[float | None]]:
    """Return trials and their seconds at most, longest first, those of the same data together.

    So no process works alone at the end, and each loads data seldom.
    """
    counts = experiments.sizes(Store.open(result.store))
    known = experiments.past(Work(result.work).runs)
    found = [
        (trial, experiments.estimate(planned[trial.identity].trial, counts, known).seconds)
        for trial in trials
    ]

    def data(trial: TrialStatus) -> tuple[str, ...]:
        settings = planned[trial.identity].trial
        return settings.task, settings.training.normalizer, str(settings.fold)

    longest: dict[tuple[str, ...], float] = {}
    for trial, seconds in found:
        longest[data(trial)] = max(longest.get(data(trial), 0.0), seconds or math.inf)
    found.sort(
        key=lambda each: (longest[data(each[0])], data(each[0]), each[1] or math.inf), reverse=True
    )
    return [trial for trial, _ in found], [seconds for _, seconds in found]
