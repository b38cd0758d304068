"""Leakage checks at the end of a sweep: of its store, and of one run of each task and model."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimic_reg.checks import Outcome, check_predictions, check_store
from mimic_reg.errors import MimicRegError
from mimic_reg.report.results import Results
from mimic_reg.store import Store, atomic, reading

FILE = "leakage.csv"


def check_sweep(store: Path, results: Results) -> list[Outcome]:
    """Return the outcomes of all checks; a check that cannot be made says why, and stops nothing.

    results: of the sweep
    """
    trials = {(t.task, t.model): t for t in results.trials}
    try:
        with reading(store, "a cohort store"):
            outcomes = check_store(Store.open(store), sorted({task for task, _ in trials}))
            for (task, model), trial in trials.items():
                for outcome in check_predictions(trial.folder, store=store):
                    text = f"{model}: {outcome.text}"
                    outcomes.append(Outcome(**{**vars(outcome), "text": text, "task": task}))
    except MimicRegError as error:
        return [Outcome("leakage", "not checked", f"The checks could not be made. {error}")]
    return outcomes


def write(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Write the outcomes as a CSV file in a folder, and return its path."""
    path = folder / FILE
    atomic.write_text(path, pl.DataFrame([vars(o) for o in outcomes]).write_csv())
    return path
