"""A trial's predictions with the labels; numbers stand in the place of ids.

Shapes: N samples.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.metrics.resampling import Tested
from mimic_reg.report.results import TrialResult
from mimic_reg.runs import PREDICTIONS
from mimic_reg.store import Store, reading


@dataclass(frozen=True)
class Predictions(Tested):
    """The test samples of a trial; row: (N,) in the task's sample table."""

    row: np.ndarray


def read_predictions(trial: TrialResult, store: Store) -> Predictions:
    """Return a trial's predictions with the labels and subjects.

    Raises:
        InputError: the trial was trained on another store; the predictions are missing or damaged,
            or have rows that the sample table does not have.
    """
    if store.manifest["fingerprint"] != trial.fingerprint:
        raise InputError(f"{store.folder} is not the store that {trial.name} was trained on.")
    path = trial.folder / PREDICTIONS["test"]
    if not path.is_file():
        raise InputError(f"{trial.name} has no {path.name}. Run `mimic-reg evaluate` on it.")
    samples = store.path(f"tasks/{trial.task}.parquet")
    labels, key = list(trial.target.labels), trial.cohort.subject
    with reading(samples, "a table"):
        table = pl.read_parquet(samples, columns=list(dict.fromkeys([*labels, key])))
    with reading(path, "predictions"):
        predictions = pl.read_parquet(path)
        row = predictions["row"].to_numpy()
    if len(row) and int(row.max()) >= table.height:
        raise InputError(f"{path.name} of {trial.name} is not that of {store.folder}.")
    p = predictions.select(pl.col(r"^p\d+$")).to_numpy()  # not the deviations of predictions
    here = table[row]
    subject = np.unique(here[key].to_numpy(), return_inverse=True)[1]
    return Predictions(here.select(labels).to_numpy(), p, subject, row)


def has_curves(trial: TrialResult) -> bool:
    """Return whether a trial predicts probabilities of labels, which ROC curves need."""
    return trial.target.target in ("binary", "multilabel")
