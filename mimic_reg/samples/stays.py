"""Samples of ICU stays: prefixes of their hourly arrays.

Shapes: F channels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import torch

from mimic_reg.clinical.normalizers import is_constant
from mimic_reg.clinical.schema import EPSILON
from mimic_reg.errors import InputError
from mimic_reg.samples.base import CPU, Constants, Samples, Units, make_samples
from mimic_reg.samples.shared import Note, shared_array
from mimic_reg.store import Store, read_json, reading
from mimic_reg.store.spec import SPLITS, CohortSpec, Task

_ROWS_AT_ONCE = 1 << 16  # rows of a sample table decoded together


def load(
    store: Store,
    task: Task,
    *,
    constants: Constants,
    device: torch.device = CPU,
    channels: Mapping[str, float] | None = None,
    share: bool = False,
    note: Note | None = None,
) -> dict[str, Samples]:
    """Return split → samples, over the same units; a split may be empty.

    constants: mean and deviation (F,), applied once to all hours
    channels:  see `samples.load_any`
    share:     share the hours with other processes, if they are many; note: see `shared_array`

    Raises:
        InputError: the store does not have the task, or its tables do not fit together.
    """
    spec = store.spec
    _check_columns(store, "hourly.parquet", [spec.unit, str(spec.time), *spec.channel_names])
    columns = dict.fromkeys((*spec.keys, spec.subject, "split", *task.labels))
    _check_columns(store, f"tasks/{task.name}.parquet", list(columns))
    stays = _read_stays(store)
    parts, subject = _read_columns(store, task, stays)
    names = dict.fromkeys(spec.channel_names, np.nan) if channels is None else channels
    num_rows = int(stays.count.sum())
    read = partial(_read_values, store, num_rows, *constants, names)
    if share:
        content = {
            "hours": store.manifest["files"]["hourly.parquet"]["xxh3"],
            "channels": list(names),
            "constants": [c.tolist() for c in constants],
        }
        rows = shared_array(store, content, (num_rows + 1, len(names)), read, note)
    else:
        rows = read()
    values = torch.from_numpy(rows).to(device)
    units = Units(values, torch.from_numpy(stays.offset).to(device), subject, sequence=True)
    return {s: make_samples(units, task.target, *parts[s]) for s in SPLITS}


def _check_columns(store: Store, name: str, expected: Sequence[str]) -> None:
    """Raise InputError if a table lacks a column, or has an unknown one."""
    found = store.scan(name).collect_schema().names()
    missing = [column for column in expected if column not in found]
    unknown = [column for column in found if column not in expected]
    for what, columns in (("has no column", missing), ("has an unknown column", unknown)):
        if columns:
            more = f" and {len(columns) - 1} more" if len(columns) > 1 else ""
            raise InputError(
                f"{store.path(name)} {what} {columns[0]!r}{more}; it must have exactly the "
                f"{len(expected)} columns of its kind. Extract the store again."
            )


@dataclass(frozen=True)
class _Stays:
    """Ascending ids, first rows and numbers of hours of the stays in `hourly.parquet`."""

    id: np.ndarray
    offset: np.ndarray
    count: np.ndarray


def _slices(scan: pl.LazyFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yield the table piece by piece, with the number of each piece's first row."""
    num_rows = scan.select(pl.len()).collect().item()
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        yield start, scan.slice(start, _ROWS_AT_ONCE).collect()


def _read_stays(store: Store) -> _Stays:
    ids, offsets = [], []
    last_stay, last_hour, num_rows = 0, -1, 0
    ordered = True
    unit, time = store.spec.unit, str(store.spec.time)
    for start, keys in _slices(store.scan("hourly.parquet").select(unit, time)):
        stay, hour = keys[unit].to_numpy(), keys[time].to_numpy()
        if not start:
            last_stay = stay[0] - 1  # keys may be negative
        step = np.diff(stay, prepend=last_stay)
        expected = np.where(step > 0, 0, np.concatenate([[last_hour], hour[:-1]]) + 1)
        ordered &= bool((step >= 0).all() and (hour == expected).all())
        ids.append(stay[step > 0])
        offsets.append(start + np.flatnonzero(step > 0))
        last_stay, last_hour, num_rows = stay[-1], hour[-1], start + len(stay)
    if not ordered:
        raise InputError(
            f"{store.folder}/hourly.parquet is not sorted by stay and hour, or hours are missing. "
            "Extract the store again."
        )
    if not ids:
        raise InputError(f"{store.folder}/hourly.parquet is empty: the cohort has no stay.")
    offset = np.concatenate(offsets)
    return _Stays(np.concatenate(ids), offset, np.diff(offset, append=num_rows))


def _read_columns(
    store: Store, task: Task, stays: _Stays
) -> tuple[dict[str, tuple[np.ndarray, ...]], np.ndarray]:
    """Return unit, length, label and row of the samples of each split, and the units' subjects.

    The table is read piece by piece into compact types: a few bytes for each sample. Whole columns
    are large enough to be given back to the system; pieces would stay with the process.
    """
    scan = store.scan(f"tasks/{task.name}.parquet")
    subject_id = np.full(len(stays.id), -1)
    num_samples = scan.select(pl.len()).collect().item()
    columns: list[np.ndarray] = []  # unit, length, label and number of the split
    misfits: list[tuple[float, ...]] = []
    for start, frame in _slices(scan):
        unit, length, label = _compact(frame, task, stays, misfits, store.spec)
        subject_id[unit] = frame[store.spec.subject].to_numpy()
        if unknown := set(frame["split"].unique()) - set(SPLITS):
            raise InputError(
                f"The sample table of {task.name} has an unknown split {unknown.pop()!r}. Known: "
                f"{', '.join(SPLITS)}. Extract the store again."
            )
        of_split = frame["split"].replace_strict(SPLITS, range(len(SPLITS)), return_dtype=pl.Int8)
        read = unit, length, label, of_split.to_numpy()
        columns = columns or [np.empty((num_samples, *c.shape[1:]), c.dtype) for c in read]
        for column, part in zip(columns, read, strict=True):
            column[start : start + len(part)] = part
    of = f"of {num_samples:,} samples of {task.name} in {store.folder}"
    _check_misfits(np.array(misfits), of, task)
    subject = np.unique(subject_id, return_inverse=True)[1].astype(np.int32)
    *kept, splits = columns
    rows = {s: np.flatnonzero(splits == i).astype(np.int32) for i, s in enumerate(SPLITS)}
    return {s: (*(column[rows[s]] for column in kept), rows[s]) for s in SPLITS}, subject


def _misfits(
    task: Task, period: np.ndarray, known: np.ndarray, length: np.ndarray, held: np.ndarray
) -> tuple[float, ...]:
    """Return how many samples do not fit the task or `hourly.parquet`.

    These are samples of stays without a row; samples longer than their stay, or without an hour;
    samples of another length than the task's; and the shortest and the longest of the last.

    period, known, length, held: of samples: hours, whether the stay is known, rows needed and there
    """
    too_long = known & ~((length >= 1) & (length <= held))
    same = True if task.hours is None else np.abs(period - task.hours) <= EPSILON
    other = period[~np.broadcast_to(same, period.shape)]
    ends = other.min(initial=np.inf), other.max(initial=-np.inf)
    return (~known).sum(), too_long.sum(), len(other), *ends


def _check_misfits(found: np.ndarray, of: str, task: Task) -> None:
    """Raise InputError if there is a misfit.

    found: `_misfits` of all pieces
    """
    unknown, too_long, other = found[:, :3].sum(0).astype(int)
    if unknown or too_long:
        raise InputError(
            f"{unknown + too_long:,} {of} need hours that hourly.parquet does not "
            f"have: {unknown:,} are of stays without a row there, {too_long:,} have "
            "a period_length beyond their stay's rows. Extract the store again."
        )
    if other:
        raise InputError(
            f"{task.name} uses the first {task.hours:g} hours, but {other:,} {of} have a "
            f"period_length of {found[:, 3].min():g} to {found[:, 4].max():g} hours. Extract the "
            "store again."
        )


def _compact(
    frame: pl.DataFrame,
    task: Task,
    stays: _Stays,
    misfits: list[tuple[float, ...]],
    spec: CohortSpec,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit, length and labels of the samples in `frame`; count misfits."""
    stay, period = frame[spec.unit].to_numpy(), frame[str(spec.end)].to_numpy()
    unit = np.minimum(np.searchsorted(stays.id, stay), len(stays.id) - 1).astype(np.int32)
    length = np.floor(np.nan_to_num(period, nan=-1) + 1 - EPSILON).astype(np.int32)
    known = stays.id[unit] == stay
    misfits.append(_misfits(task, period, known, length, stays.count[unit]))
    labels = frame.select(task.labels)
    if any(column.null_count() for column in labels):
        raise InputError(
            f"The sample table of {task.name} has an empty label. Extract the store again."
        )
    label = labels.to_numpy().astype(np.float32 if task.target == "regression" else np.int8)
    return unit, length, label[:, 0] if task.target == "multiclass" else label


def from_rows(
    task: Task,
    values: np.ndarray,
    first: np.ndarray,
    length: np.ndarray,
    *,
    constants: Constants,
    device: torch.device = CPU,
) -> Samples:
    """Return samples without labels; each is a sequence of consecutive rows of `values`.

    values:        (R, F) hours as in a store, not normalised; NaN gets the mean
    first, length: (N,) first row of each sample, and number of rows
    """
    mean, std = constants
    rows = np.zeros((len(values) + 1, values.shape[1]), np.float32)  # the last row is padding
    rows[:-1] = np.nan_to_num((values - mean) / std, nan=0.0)
    num = len(first)
    units = Units(
        values=torch.from_numpy(rows).to(device),
        offset=torch.from_numpy(first.astype(np.int64)).to(device),
        subject=np.zeros(num, np.int32),
        sequence=True,
    )
    label, row = np.zeros((num, 1), np.int8), np.arange(num)
    return make_samples(
        units, task.target, row.astype(np.int32), length.astype(np.int32), label, row
    )


def read_normalizer(store: Store, task: Task, which: str) -> Constants:
    """Return means (F,) and deviations (F,); 0 and 1 for a channel that is not normalised.

    A channel that is constant in training has deviation 1, even if an older store says 1e-7. A
    channel that training lacks has an infinite one, which makes it 0.

    Raises:
        InputError: it has other channels, or a deviation that is not positive.
    """
    state = _read_normalizers(store, task)
    left = np.array([channel.kind != "continuous" for channel in store.spec.channels])
    mean = np.where(left, 0.0, state[which]["means"])
    std = np.where(left, 1.0, state[which]["stds"])
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(
            f"The {which} normalizer of {task.name} in {store.folder} has a deviation that is not "
            "a positive number. Use the other normalizer, or extract the store again."
        )
    std = np.where(is_constant(mean, std), 1.0, std)
    unseen = state[which].get("unseen", ())
    std[[store.spec.channel_names.index(name) for name in unseen]] = np.inf
    return mean, std


def training_moments(store: Store, task: Task) -> dict[str, Any]:
    """Return hours, means and stds of all channels (F,) over the hours of training samples."""
    with reading(store.folder, "a cohort store"):
        moments: dict[str, Any] = _read_normalizers(store, task)["fitted"]
    return moments


def constant_channels(store: Store, task: Task) -> list[str]:
    """Return the continuous channels that are constant over the training hours."""
    fitted = _read_normalizers(store, task)["fitted"]
    constant = is_constant(np.array(fitted["means"]), np.array(fitted["stds"]))
    named = fitted.get("constant", ())
    return [
        channel.name
        for channel, is_so in zip(store.spec.channels, constant, strict=True)
        if channel.kind == "continuous" and (is_so or channel.name in named)
    ]


def _read_normalizers(store: Store, task: Task) -> dict[str, Any]:
    state: dict[str, Any] = read_json(store.path(f"normalizers/{task.name}.json"))
    if state["channels"] != list(store.spec.channel_names):
        raise InputError(
            f"The normalizer of {task.name} in {store.folder} is for other channels. "
            "Extract the store again."
        )
    return state


def _read_values(
    store: Store, rows: int, mean: np.ndarray, std: np.ndarray, channels: Mapping[str, float]
) -> np.ndarray:
    """Return the normalised hourly rows and the row of zeros, filled column by column."""
    path, there = store.path("hourly.parquet"), set(store.spec.channel_names)
    values = np.empty((rows + 1, len(channels)), np.float32)
    values[-1] = 0
    for position, (channel, absent) in enumerate(channels.items()):
        if channel not in there:
            values[:-1, position] = np.nan_to_num((absent - mean[position]) / std[position])
            continue
        column = pl.read_parquet(path, columns=[channel], glob=False).to_series()
        if not store.spec.imputed:
            column = column.fill_null(mean[position])
        if column.null_count() or not column.is_finite().all():
            raise InputError(
                f"Channel {channel!r} of {path} has empty or infinite cells. "
                "Extract the store again."
            )
        numbers, normalised = column.to_numpy(), values[:-1, position]
        for start in range(0, rows, _ROWS_AT_ONCE):  # a whole column in float64 would be large
            piece = slice(start, start + _ROWS_AT_ONCE)
            exact = numbers[piece].astype(np.float64)
            exact -= mean[position]
            exact /= std[position]
            normalised[piece] = exact
    return values
