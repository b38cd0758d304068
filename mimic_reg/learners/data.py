"""The samples of one trial: training samples of its size, validation and test."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Attributes
from mimic_reg.metrics.scores import METRICS, metric, score
from mimic_reg.progress import Progress
from mimic_reg.samples import Samples, load, notes
from mimic_reg.samples.attributes import read_attributes
from mimic_reg.samples.corruption import corrupt
from mimic_reg.samples.splits import select, select_count
from mimic_reg.seeds import generator
from mimic_reg.settings import Trial
from mimic_reg.store import Store
from mimic_reg.store.spec import CohortSpec, Task


@dataclass(frozen=True)
class TaskData:
    """The data of a learner.

    train:      the training samples of the trial's training size
    device:     device of the samples
    attributes: (names) -> attributes of the training samples: see `read_attributes`
    """

    spec: CohortSpec
    task: Task
    train: Samples
    validation: Samples
    test: Samples
    device: torch.device
    attributes: Attributes | None = None


def load_data(trial: Trial, store: Store, device: torch.device, progress: Progress) -> TaskData:
    """Return a trial's samples; tell `progress` what a user should know about them.

    Raises:
        InputError: the store does not have the task, or its labels do not allow to train or select.
    """
    if trial.training.indicators != "stored":
        store = store.with_indicators(trial.training.indicators)
    task = store.spec.task(trial.task)
    _check_score(task)
    splits = load(
        store, task, normalizer=trial.training.normalizer, device=device, note=progress.note
    )
    train = _corrupted(trial, task, _supervised(trial, store, task, splits["train"]))
    _check_labels(task, {**splits, "train": train})
    for note in notes(store, task, normalizer=trial.training.normalizer):
        progress.note(note)
    attributes = partial(read_attributes, store, task, train.row)
    return TaskData(store.spec, task, train, splits["val"], splits["test"], device, attributes)


def _supervised(trial: Trial, store: Store, task: Task, train: Samples) -> Samples:
    """Return the training samples of the trial's share or number."""
    if trial.supervision == 1 and trial.num_samples is None:
        return train
    keys, subject = store.spec.keys, store.spec.subject
    columns = {*keys, subject, *task.labels}
    table = store.scan(f"tasks/{task.name}.parquet").filter(pl.col("split") == "train")
    samples = table.select(columns).collect()
    of = samples, task.labels, task.target
    if trial.num_samples is not None:
        return train.keep(select_count(*of, count=trial.num_samples, seed=trial.seed, keys=keys))
    level, unit = trial.supervision, trial.supervision_unit
    kept = select(*of, level=level, seed=trial.seed, unit=unit, keys=keys, subject=subject)
    return train.keep(kept)


def _corrupted(trial: Trial, task: Task, train: Samples) -> Samples:
    """Return the training samples with the trial's corrupted labels, which its seed decides."""
    share = trial.training.corrupted_labels
    if not share:
        return train
    stream = generator("corrupted_labels", task.name, trial.seed)
    return corrupt(train, share, task.num_outputs, stream)


def _check_score(task: Task) -> None:
    """Raise InputError if the task's target does not have its score."""
    if task.target not in metric(task.score).targets:
        possible = ", ".join(name for name, m in METRICS.items() if task.target in m.targets)
        raise InputError(
            f"The score {task.score} of {task.name} does not exist for a {task.target} target. In "
            f"the cohort's specification, choose one of: {possible}."
        )


def _check_labels(task: Task, samples: dict[str, Samples]) -> None:
    """Raise InputError if labels do not allow to train or to select an epoch."""
    if task.target == "regression":
        return
    label = samples["train"].label.cpu().numpy()
    if (label == label[0]).all():
        raise InputError(
            f"All {len(label)} training samples of {task.name} have the same label, so nothing can "
            "be learned. Use a larger cohort or supervision level."
        )
    label = samples["val"].label.cpu().numpy()
    shape = (len(label), task.num_outputs)
    found = score(task.target, label, np.full(shape, 1 / shape[1]), labels=task.labels)
    if found[task.score].value is None:
        raise InputError(
            f"The validation score {task.score} of {task.name} is undefined: "
            f"{found[task.score].reason}. Without it no epoch can be selected: use a larger cohort."
        )
