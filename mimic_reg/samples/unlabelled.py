"""All training stays of a cohort as samples without labels, for self-supervised training.

Shapes: N stays.
"""

from dataclasses import replace

import numpy as np
import polars as pl
import torch

from mimic_reg.errors import InputError
from mimic_reg.samples import load
from mimic_reg.samples.attributes import STAYS
from mimic_reg.samples.base import CPU, Samples, make_samples
from mimic_reg.seeds import derive
from mimic_reg.store import Store, reading
from mimic_reg.store.spec import Task

HELD_OUT = 0.1  # share of the subjects for validation


def load_unlabelled(
    store: Store, task: Task, *, normalizer: str, seed: int = 0, device: torch.device = CPU
) -> tuple[Samples, Samples]:
    """Return stays for training, and stays of other subjects for validation; labels are 0.

    Both are from the training split: none of their subjects has a stay in validation or test of any
    task. Stays are whole, or as long as the task's samples if these have the same length.

    task: task to train later, whose normaliser is used

    Raises:
        InputError: the cohort has no hours, or too few subjects.
    """
    spec = store.spec
    if not spec.is_hourly:
        raise InputError(
            f"Self-supervised training needs stays; the cohort {spec.name!r} has images."
        )
    units = load(store, task, normalizer=normalizer, device=device)["train"].units
    with reading(store.folder, "a cohort store"):
        known = known_stays(store)
        hours = store.scan("hourly.parquet").group_by(spec.unit).len("hours").sort(spec.unit)
        stays = hours.collect().with_row_index("number").join(known, on=spec.unit, how="left")
    elsewhere = stays.filter(pl.col("split") != "train")[spec.subject]
    training = stays.filter(
        (pl.col("split") == "train") & ~pl.col(spec.subject).is_in(elsewhere.implode())
    )
    subject = np.unique(stays[spec.subject].fill_null(-1).to_numpy(), return_inverse=True)[1]
    units = replace(units, subject=subject.astype(np.int32))
    longest = int(task.hours) if task.hours else None
    length = training["hours"].clip(upper_bound=longest).to_numpy().astype(np.int32)
    everything = make_samples(
        units,
        "regression",
        training["number"].to_numpy().astype(np.int32),
        length,
        np.zeros((len(length), 1), np.float32),
        np.arange(len(length)),
    )
    held_out = _held_out(everything.subject, seed)
    return everything.keep(np.flatnonzero(~held_out)), everything.keep(np.flatnonzero(held_out))


def known_stays(store: Store) -> pl.DataFrame:
    """Return unit, subject and split of all stays in the store's tables, without duplicates."""
    spec = store.spec
    names = [f"tasks/{name}.parquet" for name in spec.task_names]
    if STAYS in store.manifest["files"]:
        names.append(STAYS)
    columns = list(dict.fromkeys([spec.unit, spec.subject, "split"]))
    return pl.concat([store.scan(name).select(columns) for name in names]).unique().collect()


def _held_out(subject: np.ndarray, seed: int) -> np.ndarray:
    """Return a mask of the samples for validation: of 10 % of the subjects, at least one."""
    subjects = np.unique(subject)
    if len(subjects) < 2:
        raise InputError("Self-supervised training needs training stays of at least 2 subjects.")
    shuffled = np.random.default_rng(derive("unlabelled", seed)).permutation(subjects)
    return np.isin(subject, shuffled[: max(1, round(HELD_OUT * len(subjects)))])
