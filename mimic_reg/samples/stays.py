"""Samples that come from ICU stays: prefixes of their hourly arrays.

Shapes: F channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from mimic_reg.clinical.normalizers import is_constant
from mimic_reg.clinical.schema import EPSILON
from mimic_reg.errors import InputError
from mimic_reg.samples.base import CPU, Samples, Units, make_samples
from mimic_reg.store import Store, read_json
from mimic_reg.store.spec import SPLITS, CohortSpec, Task

Constants = tuple[np.ndarray, np.ndarray]

_ROWS_AT_ONCE = 1 << 16  # rows of a sample table decoded together


def load(
    store: Store, task: Task, *, constants: Constants, device: torch.device = CPU
) -> dict[str, Samples]:
    """Return split → samples, over the same units; a split may be empty.

    constants: mean and deviation (F,), applied once to all hours

    Raises:
        InputError: the store does not hold the task, or its tables do not fit together.
    """
    spec = store.spec
    _check_columns(store, "hourly.parquet", [spec.unit, str(spec.time), *spec.channel_names])
    columns = dict.fromkeys((*spec.keys, spec.subject, "split", *task.labels))
    _check_columns(store, f"tasks/{task.name}.parquet", list(columns))
    stays = _read_stays(store)
    parts, subject = _read_columns(store, task, stays)
    rows = _read_values(store, int(stays.count.sum()), *constants)
    values = torch.from_numpy(rows).to(device)
    units = Units(values, torch.from_numpy(stays.offset).to(device), subject, sequence=True)
    return {s: make_samples(units, task.target, *parts[s]) for s in SPLITS}


def _check_columns(store: Store, name: str, expected: Sequence[str]) -> None:
    """Refuse a table that lacks a column, or has one that nothing would read.

    Raises:
        InputError: with the columns' names.
    """
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
    """Ids (ascending), first rows and numbers of hours of the stays in `hourly.parquet`."""

    id: np.ndarray
    offset: np.ndarray
    count: np.ndarray


def _slices(scan: pl.LazyFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The table piece by piece, with each piece's first row."""
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
            f"{store.folder}/hourly.parquet is not sorted by stay and hour, or lacks hours. "
            "Extract the store again."
        )
    if not ids:
        raise InputError(f"{store.folder}/hourly.parquet is empty: the cohort has no stay.")
    offset = np.concatenate(offsets)
    return _Stays(np.concatenate(ids), offset, np.diff(offset, append=num_rows))


def _read_columns(
    store: Store, task: Task, stays: _Stays
) -> tuple[dict[str, tuple[np.ndarray, ...]], np.ndarray]:
    """Unit, length, label and row of the samples of every split; the subject's number by unit.

    The table is read piece by piece and kept in compact types: a few bytes a sample.
    """
    scan = store.scan(f"tasks/{task.name}.parquet")
    subject_id = np.full(len(stays.id), -1)
    pieces: dict[str, list[tuple[np.ndarray, ...]]] = {s: [] for s in SPLITS}
    misfits = _Misfits()
    for start, frame in _slices(scan):
        unit, length, label = _compact(frame, task, stays, misfits, store.spec)
        subject_id[unit] = frame[store.spec.subject].to_numpy()
        unknown = set(frame["split"].unique()) - set(SPLITS)
        if unknown:
            raise InputError(
                f"The sample table of {task.name} has a split {unknown.pop()!r}; there are "
                f"{', '.join(SPLITS)}. Extract the store again."
            )
        for split in SPLITS:
            here = np.flatnonzero((frame["split"] == split).to_numpy()).astype(np.int32)
            pieces[split].append((unit[here], length[here], label[here], here + np.int32(start)))
    misfits.check(store, task)
    subject = np.unique(subject_id, return_inverse=True)[1].astype(np.int32)
    return {
        s: tuple(np.concatenate(column) for column in zip(*pieces[s], strict=True)) for s in SPLITS
    }, subject


@dataclass
class _Misfits:
    """Counts the samples whose hours are not those that the task or `hourly.parquet` has.

    unknown: of stays without a row; too_long: longer than their stay, or without an hour; other:
    not as long as the task says, from `shortest` to `longest` hours
    """

    samples: int = 0
    unknown: int = 0
    too_long: int = 0
    other: int = 0
    shortest: float = np.inf
    longest: float = -np.inf

    def count(
        self,
        task: Task,
        period: np.ndarray,
        known: np.ndarray,
        length: np.ndarray,
        held: np.ndarray,
    ) -> None:
        """Add a piece: hours asked for, whether the stay is known, rows asked for and held."""
        self.samples += len(period)
        self.unknown += int((~known).sum())
        self.too_long += int((known & ~((length >= 1) & (length <= held))).sum())
        if task.hours is None:
            return
        other = period[~(np.abs(period - task.hours) <= EPSILON)]
        if len(other):
            self.other += len(other)
            self.shortest = min(self.shortest, float(other.min()))
            self.longest = max(self.longest, float(other.max()))

    def check(self, store: Store, task: Task) -> None:
        """Raise InputError where there is one."""
        of = f"of {self.samples:,} samples of {task.name} in {store.folder}"
        if self.unknown or self.too_long:
            raise InputError(
                f"{self.unknown + self.too_long:,} {of} ask for hours that hourly.parquet does not "
                f"have: {self.unknown:,} are of stays without a row there, {self.too_long:,} have "
                "a period_length beyond their stay's rows. Extract the store again."
            )
        if self.other:
            raise InputError(
                f"{task.name} is about the first {task.hours:g} hours, but {self.other:,} {of} "
                f"have a period_length of {self.shortest:g} to {self.longest:g} hours. "
                "Extract the store again."
            )


def _compact(
    frame: pl.DataFrame, task: Task, stays: _Stays, misfits: _Misfits, spec: CohortSpec
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit, length and labels of the samples in `frame`; tells `misfits` of their hours."""
    stay, period = frame[spec.unit].to_numpy(), frame[str(spec.end)].to_numpy()
    unit = np.minimum(np.searchsorted(stays.id, stay), len(stays.id) - 1).astype(np.int32)
    length = np.floor(np.nan_to_num(period, nan=-1) + 1 - EPSILON).astype(np.int32)
    misfits.count(task, period, stays.id[unit] == stay, length, stays.count[unit])
    labels = frame.select(task.labels)
    if any(column.null_count() for column in labels):
        raise InputError(f"The sample table of {task.name} has an empty label; none is guessed.")
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
    """Return samples without labels, to predict: each some consecutive rows of `values`.

    values:        (R, F) hours as a store has them, not normalised; NaN gets the mean
    first, length: (N,) a sample's first row, and how many
    """
    mean, std = constants
    rows = np.zeros((len(values) + 1, values.shape[1]), np.float32)  # the last one is padding
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
    """Return means and deviations (F,), (F,); 0 and 1 where a channel is left as it is.

    A channel that is constant in training keeps deviation 1, also where an older store says 1e-7.

    Raises:
        InputError: other channels, or no positive numbers.
    """
    state = _read_normalizers(store, task)
    left = np.array([channel.kind != "continuous" for channel in store.spec.channels])
    mean = np.where(left, 0.0, state[which]["means"])
    std = np.where(left, 1.0, state[which]["stds"])
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(
            f"The {which} normalizer of {task.name} in {store.folder} has a deviation that is not "
            "a positive number. Use the other one, or extract the store again."
        )
    return mean, np.where(is_constant(mean, std), 1.0, std)


def constant_channels(store: Store, task: Task) -> list[str]:
    """Return the continuous channels that do not vary over the hours of training."""
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


def _read_values(store: Store, rows: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The normalised hourly rows and the row of zeros, filled column by column."""
    path = store.path("hourly.parquet")
    channels = store.spec.channel_names
    values = np.empty((rows + 1, len(channels)), np.float32)
    values[-1] = 0
    for position, channel in enumerate(channels):
        column = pl.read_parquet(path, columns=[channel]).to_series()
        if not store.spec.imputed:
            column = column.fill_null(mean[position])
        if column.null_count() or not column.is_finite().all():
            raise InputError(
                f"Channel {channel!r} of {path} has empty or infinite cells. "
                "Extract the store again."
            )
        exact = column.to_numpy().astype(np.float64)
        exact -= mean[position]
        exact /= std[position]
        values[:-1, position] = exact
    return values
