"""Scores of a cross-validation: seeds within folds, and an interval that respects shared training.

The runs of a fold differ in their seed only, so their mean is one number for each fold. Any two
folds train mostly on the same patients, so these numbers are not independent, and s / sqrt(J) is
too small a standard error of their mean over J folds. Nadeau and Bengio (Machine Learning 52, 2003)
correct the variance:

    Var(mean) = (1 / J + n_test / n_train) * s^2

If the patients are divided into k folds R times, J is R * k; n_test / n_train stays the same.

s^2 is the variance (ddof 1) over folds; n_test / n_train is the size of a test fold over that of
the training part. With k folds, of which one tests and one validates, it is 1 / (k - 2).
"""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np


class Fold(NamedTuple):
    """A run of a cross-validation, in place of its seed: a seed in a fold.

    number: of the fold, from 1 on, those of a second division after those of the first
    of:     how many folds a division has
    """

    number: int
    of: int
    seed: int


Repeat = int | Fold  # what distinguishes runs of the same settings: a seed, or a seed in a fold


def repeat(seed: int, fold: int | None, folds: int | None) -> Repeat:
    """Return the seed, or the seed in a fold of a cohort with folds."""
    return seed if fold is None or folds is None else Fold(fold, folds, seed)


def in_order(repeats: Iterable[Repeat]) -> list[Repeat]:
    """Return seeds in ascending order, or runs by fold and seed."""
    return sorted(repeats, key=lambda r: r if isinstance(r, Fold) else Fold(0, 0, r))


def num_folds(repeats: Iterable[Repeat]) -> int | None:
    """Return into how many folds the cohort of a cross-validation is divided.

    It is None for seeds, and for runs of a single fold: its seeds are compared as without folds.
    """
    folds = {(r.number, r.of) for r in repeats if isinstance(r, Fold)}
    return next(iter(folds))[1] if len(folds) > 1 else None


def by_fold(scores: Mapping[Repeat, float]) -> dict[Repeat, float]:
    """Return fold → mean over its seeds, in the order of the folds; without folds, the scores."""
    of, keys = num_folds(scores), in_order(scores)
    if of is None:
        return {key: scores[key] for key in keys}
    groups: dict[Repeat, list[float]] = {}
    for key in keys:
        assert isinstance(key, Fold)
        groups.setdefault(Fold(key.number, of, 0), []).append(scores[key])
    return {fold: math.fsum(values) / len(values) for fold, values in groups.items()}


def standard_error(values: np.ndarray, folds: int | None) -> float:
    """Return the standard error of the mean of values (J,): one a seed, or one a fold.

    folds: how many folds the cohort has, not only those with a value; None: independent values
    """
    shared = 0.0 if folds is None else 1 / (folds - 2)
    return float(values.std(ddof=1)) * math.sqrt(1 / len(values) + shared)
