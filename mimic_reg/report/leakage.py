"""Leakage checks beside results: of the stores, and of one run of each task and model."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimic_reg.checks import Outcome, check_predictions, check_store
from mimic_reg.errors import MimicRegError
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.store import Store, reading

CHEAP = 50_000_000  # cells of an hourly table that is checked in seconds


def check_trials(store: Path, trials: Sequence[TrialResult]) -> list[Outcome]:
    """Return the outcomes of all checks; a check that cannot be made says why, and stops nothing.

    store: that the trials were trained on
    """
    models = {(t.task, t.model): t for t in trials}
    try:
        with reading(store, "a cohort store"):
            outcomes = check_store(Store.open(store), sorted({task for task, _ in models}))
            for (task, model), trial in models.items():
                for outcome in check_predictions(trial.folder, store=store):
                    text = f"{model}: {outcome.text}"
                    outcomes.append(Outcome(**{**vars(outcome), "text": text, "task": task}))
    except MimicRegError as error:
        return [_not_checked(f"The checks could not be made. {error}")]
    return outcomes


def check_results(results: Results, stores: Sequence[Store]) -> list[Outcome]:
    """Return the outcomes for results whose stores are there, unless a store is large."""
    found: list[Outcome] = []
    for store in stores:
        trials = [t for t in results.trials if t.fingerprint == store.manifest["fingerprint"]]
        found += check_trials(store.folder, trials) if is_cheap(store) else [_LARGE]
    return found


def is_cheap(store: Store) -> bool:
    """Return whether the checks of a store take seconds; False also if its hours are damaged."""
    if not store.spec.is_hourly:
        return True
    try:
        with reading(store.folder, "a cohort store"):
            rows = store.scan("hourly.parquet").select(pl.len()).collect().item()
    except MimicRegError:
        return False
    return int(rows) * len(store.spec.channels) <= CHEAP


def _not_checked(text: str) -> Outcome:
    return Outcome("leakage", "not checked", text)


_LARGE = _not_checked("The store is large. Check it once, with `mimic-reg check STORE`.")
