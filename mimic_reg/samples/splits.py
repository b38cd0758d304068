"""Training sizes: nested, class-stratified subsets of the training samples.

Every sample (or subject) gets a priority hashed from the seed and its identity; a level keeps the
first samples of each stratum. So a lower level is a subset of every higher one, and nothing depends
on the order of the table. Validation and test stay complete.
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
    """Return the rows of `samples` that a supervision level keeps, in the table's order.

    samples: keys, subject and labels of the training samples
    level:   share to keep, in (0, 1]
    unit:    what is kept or left out as a whole: single samples, or all samples of a subject
    keys:    columns that identify a sample; subject: column of a sample's subject
    """
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
    """Return `count` rows of `samples`, in the table's order; nested, each stratum with its share.

    Arguments are those of `select`.

    Raises:
        InputError: there are fewer.
    """
    if count > samples.height:
        raise InputError(f"{count:,} training samples are asked for; there are {samples.height:,}.")
    stratum = strata(samples.select(labels).to_numpy(), target)
    order, rank, size = _ranks(tuple(samples[key].to_numpy() for key in keys), stratum, seed)
    # in a stratum of 4, the first is taken when 1/8 of all samples are, the second at 3/8
    first = np.lexsort((np.arange(len(order)), (rank + 0.5) / size))[:count]
    return np.sort(order[first])


def _keep(keys: tuple[np.ndarray, ...], stratum: np.ndarray, level: float, seed: int) -> np.ndarray:
    """Return a mask of the first rows of each stratum: its share, at least one."""
    order, rank, size = _ranks(keys, stratum, seed)
    quota = np.maximum(np.floor(size * level + 0.5), 1)
    kept = np.empty(len(order), bool)
    kept[order] = rank < quota
    return kept


def _ranks(
    keys: tuple[np.ndarray, ...], stratum: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows by stratum and priority, their ranks in the stratum, and the stratum's size."""
    order = np.lexsort((*keys, priority(seed, *keys), stratum))
    _, start, count = np.unique(stratum[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, count)
    return order, rank, np.repeat(count, count)


def strata(y: np.ndarray, target: Target) -> np.ndarray:
    """Return the stratum of every row of `y` (samples, labels).

    The stratum is the class; with several labels, the row's rarest positive label (or none), so
    that rare labels keep their share; for a real-valued label, its decile.
    """
    if target == "multilabel":
        prevalence = y.sum(0)
        rarest_last = np.lexsort((np.arange(y.shape[1]), -prevalence))
        rank = np.empty(y.shape[1], np.int64)
        rank[rarest_last] = np.arange(1, y.shape[1] + 1)
        return np.where(y > 0, rank, 0).max(1)
    if target == "regression":
        edges = np.quantile(y[:, 0], np.linspace(0, 1, _NUM_QUANTILES + 1)[1:-1])
        return np.searchsorted(edges, y[:, 0], side="right")
    return y[:, 0].astype(np.int64)


def priority(seed: int, *keys: np.ndarray) -> np.ndarray:
    """Return a hash of seed and keys for every row (SplitMix64, the same on every machine)."""
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
    return x ^ (x >> np.uint64(31))
