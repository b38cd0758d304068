"""Turn the outcome table into a task and its samples."""

from pathlib import Path

import polars as pl

from mimic_reg.cohorts.reading import is_zero_one
from mimic_reg.cohorts.settings import ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import METRICS
from mimic_reg.settings.base import checked
from mimic_reg.settings.names import suggest
from mimic_reg.store.spec import Target, Task

_MOST_CLASSES = 20  # whole numbers with more values than this are amounts, not classes


def encode(
    outcome: pl.DataFrame, name: str, settings: ImportSettings, path: Path
) -> tuple[Task, pl.DataFrame]:
    """Return the task, and the outcome table with encoded labels; empty labels are left out.

    Raises:
        InputError: the labels do not fit the target, or leave the target in doubt.
    """
    labels = list(settings.labels)
    table = outcome.drop_nulls(labels)
    if table.is_empty():
        raise InputError(f"{path} has no row with a label in {', '.join(labels)}.")
    target = settings.target or ("multiclass" if settings.classes else None)
    target = target or _guess(table.select(labels), path)
    classes: tuple[str, ...] = ()
    if target == "multiclass":
        classes, codes = _classes(table[labels[0]], settings, path)
        table = table.with_columns(codes)
    elif target == "regression":
        table = table.with_columns(_number(table[label], path) for label in labels)
    else:
        table = table.with_columns(_zero_one(table[label], target, path) for label in labels)
    task = {
        "name": name,
        "target": target,
        "labels": labels,
        "score": _score(settings.score, target),
        "classes": classes,
    }
    return checked(Task, task), table


def _guess(labels: pl.DataFrame, path: Path) -> Target:
    if all(is_zero_one(column) for column in labels):
        return "binary" if labels.width == 1 else "multilabel"
    if labels.width > 1:
        raise InputError(
            f"{path}: several label columns make a multilabel task, whose labels are 0 or 1. "
            f"{', '.join(c.name for c in labels if not is_zero_one(c))} has other values."
        )
    column = labels.to_series()
    if column.dtype == pl.String and column.n_unique() > 2:
        return "multiclass"
    if column.dtype.is_numeric() and not _is_whole(column):
        return "regression"
    if column.dtype.is_numeric() and column.n_unique() > _MOST_CLASSES:
        return "regression"
    raise InputError(
        f"{path}: the label {column.name!r} has {column.n_unique()} values and leaves the target "
        "in doubt. Write 0 and 1 for a binary label, or set target to multiclass or regression."
    )


def _is_whole(column: pl.Series) -> bool:
    return bool((column.cast(pl.Float64) % 1 == 0).all())


def _zero_one(column: pl.Series, target: Target, path: Path) -> pl.Series:
    if not is_zero_one(column):
        raise InputError(f"{path}: a {target} label is 0 or 1; {column.name!r} has other values.")
    return column.cast(pl.Int8)


def _number(column: pl.Series, path: Path) -> pl.Series:
    if not column.dtype.is_numeric():
        raise InputError(
            f"{path}: a regression's label is a number; {column.name!r} holds {column.dtype}."
        )
    numbers = column.cast(pl.Float64)
    if bad := int((~numbers.is_finite()).sum()):
        raise InputError(f"{path}: {bad:,} values of {column.name!r} are infinite.")
    return numbers


def _classes(
    column: pl.Series, settings: ImportSettings, path: Path
) -> tuple[tuple[str, ...], pl.Series]:
    """The names of a multiclass label's values, and their numbers."""
    if column.dtype.is_numeric() and _is_whole(column):
        column = column.cast(pl.Int64)
    values = [str(value) for value in column.unique().sort()]
    names = tuple(str(value) for value in settings.classes) or tuple(values)
    if unknown := [value for value in values if value not in names]:
        raise InputError(
            f"{path}: {column.name!r} has the value {unknown[0]!r}, which 'classes' does not list."
        )
    if not 2 <= len(names) <= 1000:
        raise InputError(
            f"{path}: {column.name!r} has {len(names):,} classes. A multiclass task has 2 to 1,000."
        )
    numbers = {name: number for number, name in enumerate(names)}
    codes = column.cast(pl.String).replace_strict(numbers, return_dtype=pl.Int64)
    return names, codes


def _score(given: str | None, target: Target) -> str:
    fitting = [name for name, metric in METRICS.items() if target in metric.targets]
    if given is None:
        return fitting[0]
    if given not in fitting:
        raise InputError(f"{given!r} is not a score of {target} tasks. {suggest(given, fitting)}")
    return given
