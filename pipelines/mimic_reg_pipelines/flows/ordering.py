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
    found.sort(key=lambda each: math.inf if each[1] is None else each[1], reverse=True)
    of_data: dict[tuple[str, str, str, int | None], list[tuple[TrialStatus, float | None]]] = {}
    for trial, seconds in found:
        settings = planned[trial.identity].trial
        read = settings.training.normalizer, settings.training.indicators
        data = (settings.task, *read, settings.fold)
        of_data.setdefault(data, []).append((trial, seconds))
    found = [each for group in of_data.values() for each in group]
    return [trial for trial, _ in found], [seconds for _, seconds in found]
