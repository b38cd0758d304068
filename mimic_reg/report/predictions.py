"""A trial's predictions with the labels; ids are read only if the caller asks for them.

Shapes: N samples, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.report.results import TrialResult
from mimic_reg.runs import PREDICTIONS
from mimic_reg.store import Store, reading


@dataclass(frozen=True)
class Predictions:
    """Labels and predictions (N, C) of the test samples of a trial, without ids."""

    y: np.ndarray
    p: np.ndarray


def read_predictions(trial: TrialResult, store: Store) -> Predictions:
    """Return a trial's predictions with the labels; only label columns are read.

    Raises:
        InputError: the trial was trained on another store; the predictions are missing or damaged,
            or have rows that the sample table does not have.
    """
    labels = list(trial.target.labels)
    table, p = read_joined(trial, store, labels)
    return Predictions(table.to_numpy(), p)


def read_joined(
    trial: TrialResult, store: Store, columns: Sequence[str]
) -> tuple[pl.DataFrame, np.ndarray]:
    """Return columns of the sample table, and a trial's (N, C) predictions for these N rows.

    Raises:
        InputError: as `read_predictions`.
    """
    if store.manifest["fingerprint"] != trial.fingerprint:
        raise InputError(f"{store.folder} is not the store that {trial.name} was trained on.")
    path = trial.folder / PREDICTIONS["test"]
    if not path.is_file():
        raise InputError(f"{trial.name} has no {path.name}. Run `mimic-reg evaluate` on it.")
    samples = store.path(f"tasks/{trial.task}.parquet")
    with reading(samples, "a table"):
        table = pl.read_parquet(samples, columns=list(columns))
    with reading(path, "predictions"):
        predictions = pl.read_parquet(path)
        row = predictions["row"].to_numpy()
    if len(row) and int(row.max()) >= table.height:
        raise InputError(f"{path.name} of {trial.name} is not that of {store.folder}.")
    p = predictions.select(pl.col(r"^p\d+$"))  # not the deviations of predictions
    return table[row], p.to_numpy()


def has_curves(trial: TrialResult) -> bool:
    """Return whether a trial predicts probabilities of labels, which ROC curves need."""
    return trial.target.target in ("binary", "multilabel")
