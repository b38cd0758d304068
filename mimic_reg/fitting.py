"""Fit one trial of one task in its run folder, from settings to scores.

A run folder has `trial.json` (resolved settings, data fingerprint, environment), `history.jsonl`,
`checkpoint.safetensors`, `best.safetensors`, `predictions_<split>.parquet` (row of the task's
sample table and probabilities p0, p1, …; their deviations sd0, sd1, … if the model knows them; no
ids), `scores.json`, and at the end `done.json`, with the trial's id and the files' hashes. During
training there is also `checkpoint.previous.safetensors`.
"""

import math
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from mimic_reg import learners
from mimic_reg.engine.checkpoint import previous
from mimic_reg.engine.devices import find_device, reset_peak_memory
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.learners.base import Predictor
from mimic_reg.learners.data import TaskData, load_data
from mimic_reg.learners.deep import DeepLearner, without_weights
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import Trunk
from mimic_reg.metrics.scores import Score, score
from mimic_reg.models.base import Model
from mimic_reg.progress import Progress
from mimic_reg.runs import (
    BEST,
    CHECKPOINT,
    DONE,
    FIT,
    PREDICTIONS,
    SCORED,
    SCORES,
    TRIAL,
    check_finished,
    finish,
    is_done,
    read_trial,
)
from mimic_reg.runs.description import check_weights, count_threads, describe, open_store
from mimic_reg.runs.record import read_scores
from mimic_reg.samples import Samples
from mimic_reg.settings import Trial
from mimic_reg.store import Store, atomic, locked, write_json
from mimic_reg.threads import DEFAULT_THREADS, torch_threads

NUM_REPLICATES = 1000
_Predicted = tuple[np.ndarray, np.ndarray | None]  # predictions and their deviations
_ROUNDING = 1e-6  # scores this close count as the same: devices round differently


@dataclass(frozen=True)
class Outcome:
    """Result of a fit, of one task or of several.

    status:  "skipped": the fit was finished before, so nothing was done
    scores:  task → split → name → score; empty after an interruption
    threads: number of threads in training; None if nothing was done
    """

    status: Literal["finished", "interrupted", "skipped"]
    trial_id: str
    scores: dict[str, dict[str, dict[str, Score]]]
    threads: int | None = None


def train(
    trial: Trial,
    store: Path,
    out: Path,
    *,
    progress: Progress | None = None,
    device: str | None = None,
    threads: int | None = None,
    trunk: Trunk | None = None,
) -> Outcome:
    """Fit a trial in the folder `out`, or continue an interrupted fit.

    The first Ctrl-C ends the running step, writes a checkpoint and returns "interrupted".

    threads: number of torch's threads; a run that continues keeps its first number
    trunk:   trained trunk to start from, if the trial has one

    Raises:
        InputError: `out` has another trial; the data do not fit this one.
        MimicRegError: the model diverged; another process writes to `out`.
    """
    progress = progress or Progress()
    trial = resolve(trial.model_dump())
    opened = Store.open(store).in_fold(trial.fold)
    _check_start(trial, trunk)
    trial_id = trial.id(opened.manifest["fingerprint"])
    with locked(out):
        check_weights(out, trial)
        if is_done(out, trial_id):
            check_finished(out)
            forget_checkpoints(out)  # a power cut may have left one
            progress.note(f"{out} has this trial, finished; there is nothing to do.")
            return Outcome("skipped", trial_id, {trial.task: read_scores(out)})
        where = find_device(device)
        number = describe(out, trial, trial_id, opened, where, threads, progress)
        reset_peak_memory(where)
        with torch_threads(number):
            data = load_data(trial, opened, where, progress)
            learner = learners.create(trial, data, out, progress, trunk)
            if learner.fit() == "interrupted":
                return Outcome("interrupted", trial_id, {}, number)
            scores = score_best(*learner.best(), data, out)
        finish(out, trial_id)
        forget_checkpoints(out)
        return Outcome("finished", trial_id, {trial.task: scores}, number)


def evaluate(
    run: Path,
    *,
    store: Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> dict[str, dict[str, Score]]:
    """Score a run's best model again; a finished run must get the same scores.

    store:     present folder of the cohort store, if it was moved
    overwrite: replace scores and predictions, whatever they were
    threads:   number of torch's threads; None: as in training

    Raises:
        InputError: `run` has no trained model; the store is not that of the training; a file of the
            run is damaged.
        MimicRegError: the scores differ from the stored ones, which are kept.
    """
    progress = progress or Progress()
    trial, opened = _reopen(run, store, but=SCORED if overwrite else ())
    recorded = read_trial(run).get("threads")
    if threads is not None and recorded is not None and threads != recorded:
        progress.note(
            f"{run} was trained with {count_threads(recorded)}; with {count_threads(threads)} the "
            "last digits of its scores may differ."
        )
    only_reads = not overwrite and (run / DONE).is_file()  # a folder that may not be written
    alone = nullcontext() if only_reads else locked(run)
    with alone, torch_threads(threads or recorded or DEFAULT_THREADS):
        where = find_device(device)
        data = load_data(trial, opened, where, progress)
        best = learners.create(trial, data, run, progress).best()
        done = (run / DONE).is_file()
        if overwrite or not done:
            scores = score_best(*best, data, run)
            if done:
                finish(run, read_trial(run)["id"])
            return scores
        scores = {split: found for split, (found, _) in _score(best[0], data).items()}
        _compare(read_scores(run), scores, run)
        return scores


def _compare(
    stored: dict[str, dict[str, Score]], now: dict[str, dict[str, Score]], run: Path
) -> None:
    """Raise MimicRegError if scores differ from the stored ones."""
    before, after = _values(stored), _values(now)
    differing = [
        f"{name}: stored {before.get(name)}, now {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if not _same(before.get(name), after.get(name))
    ]
    if differing:
        raise MimicRegError(
            f"The scores of {run} differ from the stored ones, which are kept: "
            f"{'; '.join(differing)}. The reason may be another device, number of threads "
            "or version: try those of the training. To replace the scores, add --overwrite."
        )


def _values(scores: dict[str, dict[str, Score]]) -> dict[str, float | None]:
    """Return scores and the ends of their intervals, by split and name; None: undefined."""
    parts = {"value": "", "low": ", low end", "high": ", high end"}
    return {
        f"{split} {name}{called}": getattr(score, part)
        for split, of_split in scores.items()
        for name, score in of_split.items()
        for part, called in parts.items()
    }


def _same(stored: float | None, now: float | None) -> bool:
    if stored is None or now is None:
        return stored is now
    return math.isclose(stored, now, rel_tol=_ROUNDING, abs_tol=_ROUNDING)


def forget_checkpoints(out: Path) -> None:
    """Remove the checkpoint before the last one, which a finished run does not need."""
    previous(out / CHECKPOINT).unlink(missing_ok=True)
    atomic.sync_folder(out)


def trained(
    run: Path, *, store: Path | None = None, device: str | None = None
) -> tuple[Model, Samples]:
    """Return a run's best network, and its training samples.

    store: present folder of the cohort store, if it was moved

    Raises:
        InputError: `run` has no trained network, or the store is not that of the training.
    """
    trial, opened = _reopen(run, store)
    with locked(run):
        data = load_data(trial, opened, find_device(device), Progress())
        learner = learners.create(trial, data, run, Progress())
        if not isinstance(learner, DeepLearner):
            raise InputError(f"{run} must have a network, got a {trial.model.name}.")
        learner.best()
        return learner.trainer.model, data.train


def _reopen(run: Path, store: Path | None, *, but: Collection[str] = ()) -> tuple[Trial, Store]:
    if (run / FIT).is_file():
        tasks_there = ", ".join(sorted(path.parent.name for path in run.glob(f"*/{TRIAL}")))
        raise InputError(
            f"{run} is a fit of several tasks. Name the folder of one of them in it: {tasks_there}."
        )
    if not (run / TRIAL).is_file() or not (run / BEST).is_file():
        raise InputError(f"{run} has no trained model. Train one with `mimic-reg train`.")
    check_finished(run, but=but)
    description = read_trial(run)
    opened = open_store(run, description, store)
    return without_weights(resolve(description["trial"])), opened


def _check_start(trial: Trial, trunk: Trunk | None) -> None:
    wanted = trial.start.fingerprint if trial.start else None
    if wanted != (trunk.fingerprint if trunk else None):
        raise InputError(
            "The trial starts from another trunk than the one given, or its trunk is missing. Use "
            "`mimic-reg finetune`."
        )


def score_best(
    predictor: Predictor, best_epoch: int, data: TaskData, out: Path
) -> dict[str, dict[str, Score]]:
    """Predict validation and test with a run's best model; write predictions and scores.

    best_epoch: the model's epoch, counted from 0
    """
    found = _score(predictor, data)
    scores = {split: of_split for split, (of_split, _) in found.items()}
    parts = _evaluated(data)
    for split, (_, predicted) in found.items():
        _write_predictions(out / PREDICTIONS[split], parts[split], *predicted)
    write_json(
        out / SCORES,
        {
            "trial": read_trial(out)["id"],
            "best_epoch": best_epoch,
            "selected_by": data.task.score,
            "num_samples": {split: len(samples) for split, samples in parts.items()},
            "interval": {"coverage": 0.95, "resampled": "subjects", "drawn": NUM_REPLICATES},
            "scores": {
                split: {name: asdict(s) for name, s in of_split.items()}
                for split, of_split in scores.items()
            },
        },
    )
    return scores


def _score(predictor: Predictor, data: TaskData) -> dict[str, tuple[dict[str, Score], _Predicted]]:
    """Return scores, predictions and their deviations, by split."""
    found = {}
    for split, samples in _evaluated(data).items():
        predictions, spread = predictor.predict_with_spread(samples)
        scores = score(
            data.task.target,
            samples.label.cpu().numpy(),
            predictions,
            samples.subject,
            labels=data.task.labels,
            num_replicates=NUM_REPLICATES,
        )
        found[split] = scores, (predictions, spread)
    return found


def _evaluated(data: TaskData) -> dict[str, Samples]:
    return {"validation": data.validation, "test": data.test}


def _write_predictions(
    path: Path, samples: Samples, predictions: np.ndarray, spread: np.ndarray | None
) -> None:
    """Write rows of the task's sample table with their predictions, atomically and without ids.

    spread: standard deviation of each prediction, if known: columns sd0, sd1, …
    """
    columns = {f"p{c}": predictions[:, c] for c in range(predictions.shape[1])}
    if spread is not None:
        columns |= {f"sd{c}": spread[:, c] for c in range(spread.shape[1])}
    frame = pl.DataFrame({"row": samples.row, **columns}).sort("row")
    with atomic.writing(path) as file:
        frame.write_parquet(file)
