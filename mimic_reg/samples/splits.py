"""Supervision levels: nested, class-stratified subsets of the training samples.

Every sample (or subject) gets a priority hashed from the seed and its own identity; a level keeps
the first ones of each stratum. So a lower level lies within every higher one, nothing depends on
the order of the table, and validation and test are not touched.
"""

from typing import Literal

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.seeds import derive
from mimic_reg.store.spec import Target

Unit = Literal["sample", "subject"]

_NUM_QUANTILES = 10  # strata of a real-valued label


def select(
    samples: pl.DataFrame,
    labels: tuple[str, ...],
    target: Target,
    *,
    level: float,
    seed: int,
    unit: Unit = "sample",
    keys: tuple[str, ...],
    subject: str = "subject_id",
) -> np.ndarray:
    """The rows of `samples` that a supervision level keeps, in the table's order.

    samples: the training samples: their keys, subject and labels
    level:   fraction to keep, in (0, 1]
    unit:    what is kept or left out as a whole: single samples, or all samples of a subject
    keys:    the columns that tell samples apart; subject: the column of whom a sample belongs to

    Raises:
        InputError: a level outside (0, 1].
    """
    if not 0 < level <= 1:
        raise InputError(f"The supervision level is {level}; it must lie in (0, 1].")
    if level == 1:
        return np.arange(samples.height)
    stratum = strata(samples.select(labels).to_numpy(), target)
    if unit == "sample":
        identity = tuple(samples[key].to_numpy() for key in keys)
        return np.flatnonzero(_keep(identity, stratum, level, seed))
    subjects, number = np.unique(samples[subject].to_numpy(), return_inverse=True)
    highest = np.zeros(len(subjects), np.int64)
    np.maximum.at(highest, number, stratum)
    return np.flatnonzero(_keep((subjects,), highest, level, seed)[number])


def select_count(
    samples: pl.DataFrame,
    labels: tuple[str, ...],
    target: Target,
    *,
    count: int,
    seed: int,
    keys: tuple[str, ...],
) -> np.ndarray:
    """So many rows of `samples`, in the table's order; nested, and each stratum with its share.

    Arguments as in `select`.

    Raises:
        InputError: there are fewer.
    """
    if not 1 <= count <= samples.height:
        raise InputError(f"{count:,} training samples are asked for; there are {samples.height:,}.")
    stratum = strata(samples.select(labels).to_numpy(), target)
    order, rank, size = _ranks(tuple(samples[key].to_numpy() for key in keys), stratum, seed)
    # the first of a stratum of 4 comes when an eighth of all is taken, the second at three eighths
    first = np.lexsort((np.arange(len(order)), (rank + 0.5) / size))[:count]
    return np.sort(order[first])


def _keep(keys: tuple[np.ndarray, ...], stratum: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Which rows are among the first of their stratum: its share, at least one."""
    order, rank, size = _ranks(keys, stratum, seed)
    quota = np.maximum(np.floor(size * level + 0.5), 1)
    kept = np.empty(len(order), bool)
    kept[order] = rank < quota
    return kept


def _ranks(
    keys: tuple[np.ndarray, ...], stratum: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows by stratum and priority; of each its rank in its stratum, and the stratum's size."""
    order = np.lexsort((*keys, priority(seed, *keys), stratum))
    _, start, count = np.unique(stratum[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, count)
    return order, rank, np.repeat(count, count)


def strata(y: np.ndarray, target: Target) -> np.ndarray:
    """The stratum of every row of `y` (samples, labels).

    A class is a stratum. Several labels: the row's rarest positive label, so that rare labels keep
    their share; rows without any are a stratum of their own. A real label: its decile.
    """
    if target == "multilabel":
        prevalence = y.sum(0)
        rarest_last = np.lexsort((np.arange(y.shape[1]), -prevalence))
        rank = np.empty(y.shape[1], np.int64)
        rank[rarest_last] = np.arange(1, y.shape[1] + 1)
        rarest: np.ndarray = np.where(y > 0, rank, 0).max(1)
        return rarest
    if target == "regression":
        edges = np.quantile(y[:, 0], np.linspace(0, 1, _NUM_QUANTILES + 1)[1:-1])
        return np.searchsorted(edges, y[:, 0], side="right")
    return y[:, 0].astype(np.int64)


def priority(seed: int, *keys: np.ndarray) -> np.ndarray:
    """A hash of seed and keys for every row (SplitMix64, the same on every machine)."""
    state = np.full(len(keys[0]), derive("supervision", seed), np.uint64)
    for key in keys:
        bits = np.ascontiguousarray(key.astype(np.float64 if key.dtype.kind == "f" else np.int64))
        state = _mix(state ^ _mix(bits.view(np.uint64)))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
