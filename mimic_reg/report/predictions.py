"""A trial's predictions, read beside the labels; no column of ids but the one that is asked for.

Shapes: N samples, C labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.report.results import TrialResult
from mimic_reg.store import Store, reading


@dataclass(frozen=True)
class Predictions:
    """Labels and predictions of the test samples of a trial; (N, C) each, without any id."""

    y: np.ndarray
    p: np.ndarray


def read_predictions(trial: TrialResult, store: Store, split: str = "test") -> Predictions:
    """A trial's predictions, joined with the labels by row; only label columns are read.

    Raises:
        InputError: the store is not the one the trial was trained on; predictions are missing,
            damaged, or point beyond the sample table.
    """
    labels = list(trial.target.labels)
    table, p = read_joined(trial, store, labels, split)
    return Predictions(table.to_numpy(), p)


def read_joined(
    trial: TrialResult, store: Store, columns: Sequence[str], split: str = "test"
) -> tuple[pl.DataFrame, np.ndarray]:
    """Some columns of the sample table, and a trial's (N, C) predictions for these N rows.

    Raises:
        InputError: as `read_predictions`.
    """
    if store.manifest["fingerprint"] != trial.fingerprint:
        raise InputError(f"{store.folder} is not the store that {trial.name} was trained on.")
    path = trial.folder / f"predictions_{split}.parquet"
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
    p = predictions.select(pl.col(r"^p\d+$"))  # deviations of predictions may stand beside them
    return table[row], p.to_numpy()


def has_curves(trial: TrialResult) -> bool:
    """Whether a trial's predictions are probabilities of labels, which curves can be drawn of."""
    return trial.target.target in ("binary", "multilabel")
