"""Samples: a sample is (unit, length, label), a unit a stay's hourly matrix or an image.

The units' rows lie one after the other in one array that all samples and splits share, so the
millions of prefixes of decompensation take no memory of their own. A batch is gathered by index
arithmetic in one operation, on the device that holds the array.

Shapes: B samples, T hours, F channels, C labels, N samples of a split.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.schema import CHANNELS, CONTINUOUS_CHANNELS, EPSILON, SPLITS
from mimic_reg.storage import Store, read_json
from mimic_reg.tasks.base import Target, Task

CPU = torch.device("cpu")

_ROWS_AT_ONCE = 1 << 16  # rows of a sample table decoded together
_BUCKET = 64  # batches that are ordered by length together, if asked for


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    x:       (B, T, F), zero beyond a sample's length; or (B, ...) where units are images
    lengths: (B,) valid hours, on the CPU, where packing needs them; ones for images
    y:       (B, C) float; (B,) int64 where classes exclude each other
    index:   (B,) position in the split, the same in every epoch; on the CPU
    """

    x: Tensor
    lengths: Tensor
    y: Tensor
    index: Tensor


@dataclass(frozen=True)
class Units:
    """The features of all units.

    values:   (rows + 1, F): the hourly rows of all stays, then a row of zeros that padding points
              to; or (images, ...)
    offset:   (units,) int64, the unit's first row
    subject:  (units,) the subject's number, 0-based; never an id
    sequence: whether a unit has a time axis
    """

    values: Tensor
    offset: Tensor
    subject: np.ndarray
    sequence: bool


@dataclass(frozen=True)
class Samples:
    """The samples of one split.

    unit, length, label: (N,), (N,), (N, C) or (N,); compact types, on the units' device
    lengths: `length` once more, on the CPU
    row:     (N,) row in the task's sample table: where predictions are joined
    """

    units: Units
    target: Target
    unit: Tensor
    length: Tensor
    label: Tensor
    lengths: Tensor
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def subject(self) -> np.ndarray:
        """(N,) the subject's number, what intervals are resampled over."""
        subject: np.ndarray = self.units.subject[self.unit.cpu().numpy()]
        return subject

    def keep(self, positions: np.ndarray) -> "Samples":
        """The samples at `positions`; the units stay shared."""
        at = torch.from_numpy(positions)
        here = at.to(self.unit.device)
        return Samples(
            units=self.units,
            target=self.target,
            unit=self.unit[here],
            length=self.length[here],
            label=self.label[here],
            lengths=self.lengths[at],
            row=self.row[positions],
        )

    def gather(self, index: Tensor) -> Batch:
        """The batch of the samples at `index` (on the CPU): no loop, no wait for the device."""
        lengths = self.lengths[index].long()
        here = index.to(self.unit.device, non_blocking=True)
        label = self.label[here]
        return Batch(
            x=self._features(here, int(lengths.max())),
            lengths=lengths,
            y=label.long() if self.target == "multiclass" else label.float(),
            index=index,
        )

    def _features(self, here: Tensor, longest: int) -> Tensor:
        units = self.units
        first = units.offset[self.unit[here].long()]
        if not units.sequence:
            return units.values.index_select(0, first)
        hours = torch.arange(longest, device=here.device)
        rows = first[:, None] + hours
        padding = hours >= self.length[here][:, None]
        rows.masked_fill_(padding, len(units.values) - 1)
        features = units.values.index_select(0, rows.view(-1))
        return features.view(len(here), longest, -1)

    def training_order(
        self, batch_size: int, generator: torch.Generator, *, by_length: bool = False
    ) -> Tensor:
        """An epoch's order: batches are its consecutive slices of `batch_size`, the last one short.

        by_length: batches of similar lengths, hence little padding: the shuffled samples are sorted
        by length within blocks of 64 batches, and the batches shuffled again.
        """
        order = torch.randperm(len(self), generator=generator)
        if not by_length:
            return order
        block = torch.arange(len(order)) // (batch_size * _BUCKET)
        longest = int(self.lengths.max()) + 1
        order = order[torch.argsort(block * longest + self.lengths[order], stable=True)]
        full = len(order) // batch_size * batch_size
        batches = order[:full].view(-1, batch_size)
        batches = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([batches.view(-1), order[full:]])

    def evaluation_batches(self, numbers: int) -> Iterator[Tensor]:
        """Indices of all samples, longest first, in batches of about `numbers` padded numbers."""
        order = torch.argsort(self.lengths, descending=True, stable=True)
        hours = numbers // self.units.values[0].numel()
        start = 0
        while start < len(order):
            count = max(1, hours // int(self.lengths[order[start]]))
            yield order[start : start + count]
            start += count


def from_arrays(
    values: np.ndarray,
    labels: np.ndarray,
    target: Target,
    subject: np.ndarray | None = None,
    device: torch.device = CPU,
) -> Samples:
    """Samples that are whole units without a time axis: images.

    values: (N, ...) float32; subject: (N,) whom a unit belongs to, by default each its own
    """
    num = len(values)
    numbers = np.arange(num) if subject is None else np.unique(subject, return_inverse=True)[1]
    units = Units(
        values=torch.from_numpy(values).to(device),
        offset=torch.arange(num, device=device),
        subject=numbers.astype(np.int32),
        sequence=False,
    )
    ones = np.ones(num, np.int32)
    return _samples(units, target, np.arange(num, dtype=np.int32), ones, labels, np.arange(num))


def _samples(
    units: Units,
    target: Target,
    unit: np.ndarray,
    length: np.ndarray,
    label: np.ndarray,
    row: np.ndarray,
) -> Samples:
    device = units.values.device
    lengths = torch.from_numpy(length)
    return Samples(
        units=units,
        target=target,
        unit=torch.from_numpy(unit).to(device),
        length=lengths.to(device),
        label=torch.from_numpy(label).to(device),
        lengths=lengths,
        row=row.astype(np.int32),
    )


def load(
    store: Store, task: Task, *, normalizer: str, device: torch.device = CPU
) -> dict[str, Samples]:
    """The samples of a task that come from ICU stays: split → samples, over the same units.

    normalizer: "published" or "fitted"; applied once, in place, to the continuous channels

    Raises:
        InputError: the store does not hold the task, or its tables do not fit together.
    """
    stays = _read_stays(store)
    columns, subject = _read_columns(store, task, stays)
    mean, std = read_normalizer(store, task, normalizer)
    values = torch.from_numpy(_read_values(store, int(stays.count.sum()), mean, std)).to(device)
    units = Units(values, torch.from_numpy(stays.offset).to(device), subject, sequence=True)
    return {s: _samples(units, task.target, *columns[s]) for s in SPLITS}


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
    last_stay, last_hour, num_rows = -1, -1, 0
    ordered = True
    for start, keys in _slices(store.scan("hourly.parquet").select("icustay_id", "hour")):
        stay, hour = keys["icustay_id"].to_numpy(), keys["hour"].to_numpy()
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
    missing = [name for name in task.labels if name not in scan.collect_schema()]
    if missing:
        raise InputError(
            f"The sample table of {task.name} has no label {missing[0]!r}. Extract the store again."
        )
    subject_id = np.full(len(stays.id), -1)
    pieces: dict[str, list[tuple[np.ndarray, ...]]] = {s: [] for s in SPLITS}
    for start, frame in _slices(scan):
        unit, length, label = _compact(frame, task, stays)
        subject_id[unit] = frame["subject_id"].to_numpy()
        unknown = set(frame["split"].unique()) - set(SPLITS)
        if unknown:
            raise InputError(
                f"The sample table of {task.name} has a split {unknown.pop()!r}; there are "
                f"{', '.join(SPLITS)}. Extract the store again."
            )
        for split in SPLITS:
            here = np.flatnonzero((frame["split"] == split).to_numpy()).astype(np.int32)
            pieces[split].append((unit[here], length[here], label[here], here + np.int32(start)))
    empty = [s for s in SPLITS if not sum(len(piece[0]) for piece in pieces[s])]
    if empty:
        raise InputError(f"{task.name} has no samples for {empty[0]!r} in {store.folder}.")
    subject = np.unique(subject_id, return_inverse=True)[1].astype(np.int32)
    return {
        s: tuple(np.concatenate(column) for column in zip(*pieces[s], strict=True)) for s in SPLITS
    }, subject


def _compact(
    frame: pl.DataFrame, task: Task, stays: _Stays
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit, length and labels of the samples in `frame`."""
    stay = frame["icustay_id"].to_numpy()
    unit = np.minimum(np.searchsorted(stays.id, stay), len(stays.id) - 1).astype(np.int32)
    length = np.floor(frame["period_length"].to_numpy() + 1 - EPSILON).astype(np.int32)
    if not ((stays.id[unit] == stay) & (length >= 1) & (length <= stays.count[unit])).all():
        raise InputError(
            f"Samples of {task.name} ask for hours that hourly.parquet does not have. "
            "Extract the store again."
        )
    labels = frame.select(task.labels)
    if any(column.null_count() for column in labels):
        raise InputError(f"The sample table of {task.name} has an empty label; none is guessed.")
    label = labels.to_numpy().astype(np.float32 if task.target == "regression" else np.int8)
    return unit, length, label[:, 0] if task.target == "multiclass" else label


def read_normalizer(store: Store, task: Task, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations of the 76 channels; 0 and 1 where a channel is left as it is."""
    state: dict[str, Any] = read_json(store.path(f"normalizers/{task.name}.json"))
    if state["channels"] != list(CHANNELS):
        raise InputError(
            f"The normalizer of {task.name} in {store.folder} is for other channels. "
            "Extract the store again."
        )
    left = np.array([c not in CONTINUOUS_CHANNELS for c in CHANNELS])
    mean = np.where(left, 0.0, state[which]["means"])
    std = np.where(left, 1.0, state[which]["stds"])
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise InputError(
            f"The {which} normalizer of {task.name} in {store.folder} has a deviation that is not "
            "a positive number. Use the other one, or extract the store again."
        )
    return mean, std


def _read_values(store: Store, rows: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The normalised hourly rows and the row of zeros, filled column by column."""
    path = store.path("hourly.parquet")
    values = np.empty((rows + 1, len(CHANNELS)), np.float32)
    values[-1] = 0
    for position, channel in enumerate(CHANNELS):
        column = pl.read_parquet(path, columns=[channel]).to_series()
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
