"""Divide patients into training, validation and test."""

import numpy as np
import polars as pl

from mimic_reg.cohorts.settings import Splits
from mimic_reg.errors import InputError
from mimic_reg.seeds import derive
from mimic_reg.store.spec import FOLD, SPLIT, SPLITS, Task, fold_column

SPLIT_NAMES = {
    **{"train": "train", "training": "train", "validation": "val", "val": "val", "test": "test"},
    **{"tuning": "val", "held_out": "test"},  # MEDS
}


def divide(subjects: pl.DataFrame, splits: Splits) -> pl.DataFrame:
    """Return subject and split of every subject, or subject and fold, of every repeat.

    subjects: subject and stratum, a row each. Every stratum is divided by the shares, with at least
              one subject in each split if it has three; or its subjects are dealt to the folds in
              turn, so that the sizes of folds differ by one at most.
    """
    table = subjects.sort("subject")
    rng = np.random.default_rng(derive("cohort splits", splits.seed))
    shares = np.array([splits.train, splits.validation, splits.test])
    strata = table["stratum"].to_numpy() if splits.stratify else np.zeros(table.height)
    members = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    if splits.folds:
        columns = []
        for repeat in range(1, splits.repeats + 1):
            fold = np.empty(table.height, dtype=np.int64)
            shuffled = [rng.permutation(of_stratum) for of_stratum in members]
            fold[np.concatenate(shuffled)] = np.arange(table.height) % splits.folds + 1
            columns.append(pl.Series(fold_column(repeat), fold))
        return table.select("subject", *columns)
    shuffled = [rng.permutation(of_stratum) for of_stratum in members]
    split = np.empty(table.height, dtype=object)
    for rows in shuffled:
        ends = np.cumsum(_counts(len(rows), shares))
        for name, part in zip(SPLITS, np.split(rows, ends[:-1]), strict=True):
            split[part] = name
    return table.select("subject", pl.Series(SPLIT, split.tolist(), dtype=pl.String))


def _counts(total: int, shares: np.ndarray) -> np.ndarray:
    """How many of `total` go into each split: largest remainders, none empty if possible."""
    exact = total * shares
    counts: np.ndarray = np.floor(exact).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    while total >= len(shares) and (counts == 0).any():
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts


def given(column: pl.Series) -> pl.Series:
    """Return the splits that a column names.

    Raises:
        InputError: it has other values; with a count.
    """
    names = column.cast(pl.String).str.to_lowercase()
    known = names.replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)
    if wrong := known.null_count():
        raise InputError(
            f"{wrong:,} stays have another value in {column.name!r} than train, validation (val, "
            "tuning) and test (held_out)."
        )
    return known.alias(SPLIT)


def given_folds(column: pl.Series, folds: int) -> tuple[pl.Series, list[str]]:
    """Return the folds that a column names, numbered from 1 on, and its values in their order.

    Raises:
        InputError: it has empty cells, or another number of values; with a count.
    """
    if empty := column.null_count():
        raise InputError(f"{empty:,} stays have no fold in {column.name!r}.")
    values = column.unique().sort()
    if len(values) != folds:
        raise InputError(
            f"{column.name!r} has {len(values):,} values, but splits.folds is {folds}. It must "
            "hold one value for each fold."
        )
    numbers = column.replace_strict(values, pl.Series(range(1, folds + 1)), return_dtype=pl.Int64)
    return numbers.alias(FOLD), [str(value) for value in values]


def check_labels(samples: pl.DataFrame, task: Task, where: str = "") -> list[str]:
    """Return the labels of a multilabel task that are all the same in training.

    where: the fold, for messages

    Raises:
        InputError: of another task, the label of a split is all the same, or training lacks a
            class; with the counts of samples. A regression is only checked in training.
    """
    if task.target == "multilabel":
        train = samples.filter(pl.col("split") == "train")
        return [label for label in task.labels if train[label].n_unique() < 2]
    instead = "fewer folds" if where else "other shares"
    label, classes = task.labels[0], len(task.classes) or 2
    for split in SPLITS if task.target != "regression" else SPLITS[:1]:
        here = samples.filter(pl.col("split") == split)[label]
        found = here.n_unique()
        if here.is_empty() or found >= (classes if split == "train" else 2):
            continue
        name = "validation" if split == "val" else split
        lacks = "all the same label" if found == 1 else f"only {found} of {classes} classes"
        raise InputError(
            f"The {len(here):,} {name} samples of {task.name}{where} have {lacks}, so it cannot be "
            f"learned or scored. Use more stays, {instead} or another seed in 'splits'."
        )
    return []
