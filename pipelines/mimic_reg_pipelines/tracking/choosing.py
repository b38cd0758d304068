"""Which trial of each task and model family to register: the best by its validation score."""

import json
from collections.abc import Iterable, Sequence

from mimic_reg.metrics.scores import improves
from mimic_reg_pipelines.tracking.cards import folds_of, validation_score
from mimic_reg_pipelines.tracking.tracked_run import TrackedRun

Runs = tuple[TrackedRun, ...]  # of one trial: a run for each fold, or a single one without folds


def best_of(runs: Iterable[TrackedRun], *, fold_by_fold: bool = False) -> list[tuple[Runs, int]]:
    """Return the best trial of each cohort, task and model family, and among how many.

    In a cross-validation only trials with the same folds are compared: those with the most.

    fold_by_fold: whether each fold chose values of its own. The runs of a trial then have method,
                  training size and seed in common, and nothing more
    """
    key = _but_values if fold_by_fold else _but_fold
    families: dict[tuple[str, str, str], dict[str, list[TrackedRun]]] = {}
    for run in runs:
        family = (run.cohort.name, run.trial.task, run.trial.model.name)
        families.setdefault(family, {}).setdefault(key(run), []).append(run)
    return [_best(list(map(_by_fold, trials.values()))) for _, trials in sorted(families.items())]


def _but_fold(run: TrackedRun) -> str:
    """Return what the runs of a trial have in common: everything but the fold."""
    same = {key: value for key, value in run.settings.items() if key != "fold"}
    if "together" in same:  # the identity of a fit has its fold
        same["together"] = {k: v for k, v in same["together"].items() if k != "fit"}
    if run.trial.fold is None:
        return run.id
    return json.dumps([run.method, run.fingerprint, same], sort_keys=True)


def _but_values(run: TrackedRun) -> str:
    return json.dumps([run.method, run.fingerprint, run.trial.size.name, run.trial.seed])


def _by_fold(runs: Iterable[TrackedRun]) -> Runs:
    return tuple(sorted(runs, key=lambda run: run.trial.fold or 0))


def _best(trials: Sequence[Runs]) -> tuple[Runs, int]:
    most = max(trials, key=len)
    same = [runs for runs in trials if folds_of(runs) == folds_of(most)]
    best = same[0]
    for runs in same[1:]:
        if _beats(runs, best):
            best = runs
    return best, len(same)


def _beats(runs: Runs, others: Runs) -> bool:
    hardly, theirs = (any(run.hardly_trained for run in each) for each in (runs, others))
    if hardly != theirs:
        return not hardly
    name, value = validation_score(runs)
    return improves(name, value, validation_score(others)[1])
