"""Samples: a sample is (unit, length, label); a unit is a stay's hourly matrix or an image.

All samples and splits share one array with the rows of all units, so the millions of prefixes of
decompensation need no extra memory. A batch is gathered by index arithmetic in one operation, on
the device of the array.

Shapes: B samples, T hours, F channels, C labels, N samples of a split.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimic_reg.store.spec import Target

CPU = torch.device("cpu")

# Constants of a normaliser: mean and deviation (F,) of hours, scale and shift (C,) of images.
Constants = tuple[np.ndarray, np.ndarray]

_BUCKET = 64  # batches that are sorted by length together


@dataclass(frozen=True)
class Batch:
    """The samples of one step.

    x:       (B, T, F), zero beyond a sample's length; or images (B, ...). If samples share the
             hours of their stay, a row is a stay, up to its last hour that a sample sees
    lengths: (B,) valid hours, on the CPU, where packing needs them; ones for images. If samples
             share the hours of their stay: (B, 2), the row of x and the valid hours of each
    y:       (B, C) float; (B,) int64 if classes exclude each other
    index:   (B,) position in the split, the same in every epoch; on the CPU
    """

    x: Tensor
    lengths: Tensor
    y: Tensor
    index: Tensor


@dataclass(frozen=True)
class Units:
    """The features of all units.

    values:   (rows + 1, F): the hourly rows of all stays, then a row of zeros for padding; or
              images (N, ...), which may be uint8 pixels
    offset:   (units,) int64, first row of each unit
    subject:  (units,) number of the subject, from 0; never an id
    sequence: True if a unit has a time axis
    scale, shift: factor and summand of pixels when a batch is gathered; they broadcast against a
              unit; None: values are used as they are
    """

    values: Tensor
    offset: Tensor
    subject: np.ndarray
    sequence: bool
    scale: Tensor | None = None
    shift: Tensor | None = None


@dataclass(frozen=True)
class Samples:
    """The samples of one split.

    unit, length, label: (N,), (N,), (N, C) or (N,); compact types, on the units' device
    lengths: a copy of `length` on the CPU
    row:     (N,) row in the task's sample table, to join predictions
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
        """Return the subject's number (N,); intervals are resampled over subjects."""
        return self.units.subject[self.unit.cpu().numpy()]

    def keep(self, positions: np.ndarray) -> "Samples":
        """Return the samples at `positions`, with the same units."""
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

    def gather(self, index: Tensor, *, by_stay: bool = False) -> Batch:
        """Return the batch of the samples at `index` (on the CPU).

        by_stay: samples of one stay that follow each other share its hours. This waits for the
                 device; otherwise nothing does
        """
        lengths = self.lengths[index].long()
        here = index.to(self.unit.device, non_blocking=True)
        label = self.label[here]
        if by_stay:
            first = self.units.offset[self.unit[here].long()]
            first, row = torch.unique_consecutive(first, return_inverse=True)
            row = row.cpu()
            longest = lengths.new_zeros(len(first)).scatter_reduce(0, row, lengths, "amax")
            x = self._hours(first, longest.to(first.device), int(lengths.max()))
            lengths = torch.stack([row, lengths], dim=1)
        else:
            x = self._features(here, int(lengths.max()))
        return Batch(
            x=x,
            lengths=lengths,
            y=label.long() if self.target == "multiclass" else label.float(),
            index=index,
        )

    def _features(self, here: Tensor, longest: int) -> Tensor:
        units = self.units
        first = units.offset[self.unit[here].long()]
        if not units.sequence:
            features = units.values.index_select(0, first)
            if units.scale is None or units.shift is None:
                return features
            return torch.addcmul(units.shift, features.to(units.scale.dtype), units.scale)
        return self._hours(first, self.length[here], longest)

    def _hours(self, first: Tensor, length: Tensor, longest: int) -> Tensor:
        """Return the hours (B, longest, F) from the rows `first` on, zero beyond `length`."""
        values = self.units.values
        hours = torch.arange(longest, device=first.device)
        rows = first[:, None] + hours
        rows.masked_fill_(hours >= length[:, None], len(values) - 1)
        return values.index_select(0, rows.view(-1)).view(len(first), longest, -1)

    def training_order(
        self,
        batch_size: int,
        generator: torch.Generator,
        *,
        by_length: bool = False,
        by_stay: bool = False,
    ) -> Tensor:
        """Return the order of an epoch, whose consecutive slices of `batch_size` are its batches.

        by_length: make batches of similar lengths, hence with little padding: the shuffled samples
            are sorted by length within blocks of 64 batches, then the batches are shuffled
        by_stay: shuffle stays instead of samples; the samples of a stay follow each other, and are
            in two batches or more if they do not fit into the first
        """
        if by_stay:
            stay, lengths = self._stays()
        else:
            stay, lengths = torch.arange(len(self)), self.lengths
        order = torch.randperm(len(lengths), generator=generator)
        if by_length:
            block = torch.arange(len(order)) // max(
                1, batch_size * _BUCKET * len(order) // len(self)
            )
            longest = int(lengths.max()) + 1
            order = order[torch.argsort(block * longest + lengths[order], stable=True)]
        if by_stay:
            order = self._in_order(stay, order)
        if not by_length:
            return order
        full = len(order) // batch_size * batch_size
        batches = order[:full].view(-1, batch_size)
        batches = batches[torch.randperm(len(batches), generator=generator)]
        return torch.cat([batches.view(-1), order[full:]])

    def _stays(self) -> tuple[Tensor, Tensor]:
        """Return the number of each sample's stay (N,), and the hours of each stay's longest one.

        Samples are of one stay if they begin in the same hour.
        """
        first = self.units.offset[self.unit.long()].cpu()
        stay = torch.unique(first, return_inverse=True)[1]
        longest = self.lengths.new_zeros(int(stay.max()) + 1)
        return stay, longest.scatter_reduce(0, stay, self.lengths, "amax")

    def _in_order(self, stay: Tensor, stays: Tensor) -> Tensor:
        """Return the samples by the order of stays, those of a stay by length."""
        place = torch.empty_like(stays)
        place[stays] = torch.arange(len(stays))
        longest = int(self.lengths.max()) + 1
        return torch.argsort(place[stay] * longest + self.lengths, stable=True)

    def evaluation_batches(
        self, numbers: int, unit_numbers: int = 0, *, by_stay: bool = False
    ) -> Iterator[Tensor]:
        """Yield indices of all samples, longest first, in batches of about `numbers` input numbers.

        unit_numbers: numbers of an hour or an image as the model sees it, if there are more
        by_stay:      all samples of a stay are in one batch, and follow each other
        """
        hours = numbers // max(self.units.values[0].numel(), unit_numbers)
        if by_stay:
            stay, lengths = self._stays()
            order = torch.argsort(lengths, descending=True, stable=True)
            counts = torch.bincount(stay)[order].tolist()
            parts: tuple[Tensor, ...] = torch.split(self._in_order(stay, order), counts)
        else:
            lengths = self.lengths
            order = torch.argsort(lengths, descending=True, stable=True)
        start = 0
        while start < len(order):
            count = max(1, hours // int(lengths[order[start]]))
            here = slice(start, start + count)
            yield torch.cat(parts[here]) if by_stay else order[here]
            start += count


def from_arrays(
    values: np.ndarray,
    labels: np.ndarray,
    target: Target,
    subject: np.ndarray | None = None,
    device: torch.device = CPU,
) -> Samples:
    """Return samples that are whole units without a time axis, such as images.

    values: (N, ...) float32; subject: (N,) subject of each unit, by default all different
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
    return make_samples(units, target, np.arange(num, dtype=np.int32), ones, labels, np.arange(num))


def make_samples(
    units: Units,
    target: Target,
    unit: np.ndarray,
    length: np.ndarray,
    label: np.ndarray,
    row: np.ndarray,
) -> Samples:
    """Return the samples of a split from plain columns, on the units' device; see `Samples`."""
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
