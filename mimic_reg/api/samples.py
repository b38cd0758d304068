"""The samples of a split: as a torch dataset, as NumPy arrays, as data frames.

Shapes: N samples, T hours, F channels, C labels; images are (colours, height, width).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mimic_reg import samples as loading
from mimic_reg.errors import InputError
from mimic_reg.samples import Batch, Samples
from mimic_reg.settings import Training
from mimic_reg.settings.files import task_called
from mimic_reg.store import Store
from mimic_reg.store.spec import Task

if TYPE_CHECKING:
    import pandas as pd

Rows = Literal["samples", "hours"]
Split = Literal["train", "validation", "test"]
RAW = "raw"
_NAMES: dict[str, Split] = {"train": "train", "val": "validation", "test": "test"}
_MOST_BYTES = 8 << 30  # of an array that is made in one piece


class SampleSet(Dataset[tuple[Tensor, Tensor]]):
    """The samples of one split of a task; nothing is copied until it is asked for.

    As a torch `Dataset` an item is (x, y): x (T, F) float32 with the hours that the sample may see,
    y its label. `collate` makes batches of them::

        loader = DataLoader(train, batch_size=32, shuffle=True, collate_fn=train.collate)
        for x, lengths, y in loader: ...

    Attributes:
        task: the task: its target, labels and score.
        store: where they are from.
        split: "train", "validation" or "test".
        normalizer: how the features are normalised.
        channels: names of the F channels; none for images.
    """

    def __init__(
        self, store: Store, task: Task, split: Split, normalizer: str, samples: Samples
    ) -> None:
        self.task, self.split, self.normalizer = task, split, normalizer
        self.channels = store.spec.channel_names
        self.store, self._samples = store, samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} samples, got the index {index}.")
        batch = self._gather([int(index) % len(self)])
        return batch.x[0], batch.y[0]

    def __repr__(self) -> str:
        return f"<SampleSet {self.task.name}, {self.split}: {len(self):,} samples>"

    @staticmethod
    def collate(items: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return a batch of items: x (B, T, F), padded with zeros, lengths (B,) and y."""
        lengths = torch.tensor([len(x) for x, _ in items])
        if items[0][0].dim() == 3:  # images
            return torch.stack([x for x, _ in items]), torch.ones_like(lengths), _stacked(items)
        x = torch.nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
        return x, lengths, _stacked(items)

    @property
    def y(self) -> np.ndarray:
        """Labels: (N,), or (N, C) of a task with several labels."""
        return squeezed(self._samples.label.cpu().numpy())

    @property
    def lengths(self) -> np.ndarray:
        """(N,) hours that each sample may see; 1 for images."""
        return self._samples.lengths.numpy().astype(np.int64)

    @property
    def groups(self) -> np.ndarray:
        """(N,) a number for each sample's subject, for scikit-learn's `GroupKFold`."""
        return self._samples.subject

    def to_numpy(self, *, padding: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (X, lengths, y).

        Args:
            padding: the value in X beyond a sample's length; `numpy.nan` for `Classifier`.

        Returns:
            X (N, T, F) float32 with the longest sample's T, lengths (N,) and y (N,) or (N, C);
            of images X is (N, colours, height, width).

        Raises:
            InputError: X would be larger than 8 GiB. Use the samples as a torch `Dataset` then.
        """
        lengths = self.lengths
        longest = int(lengths.max()) if len(self) else 0
        shape = self._samples.units.values.shape[1:]
        is_hourly = self._samples.units.sequence
        self._check_size(len(self) * (longest if is_hourly else 1) * int(np.prod(shape)))
        if not is_hourly:
            return self._gather(range(len(self))).x.numpy(), lengths, self.y
        X = np.full((len(self), longest, *shape), padding, np.float32)
        for index in self._samples.evaluation_batches(1 << 22):
            batch = self._gather(index.tolist())
            for place, length, x in zip(
                index.tolist(), batch.lengths.tolist(), batch.x.numpy(), strict=True
            ):
                X[place, :length] = x[:length]
        return X, lengths, self.y

    def to_polars(self, rows: Rows = "samples") -> pl.DataFrame:
        """Return a Polars data frame.

        Args:
            rows: "samples": a row for each sample, with its keys, subject, hours and labels;
                "hours": a row for each hour of a sample, with its position among the samples
                (`sample`), the hour and the channels.

        Raises:
            InputError: other rows; hours of images; a frame that would be larger than 8 GiB.
        """
        if rows == "samples":
            table = self.store.read(f"tasks/{self.task.name}.parquet")
            return table[self._samples.row].drop("split")
        if rows != "hours":
            raise InputError(f"rows is {rows!r}; allowed: 'samples', 'hours'.")
        if not self._samples.units.sequence:
            raise InputError("These samples are images, which have no hours. Use rows='samples'.")
        lengths = self.lengths
        self._check_size(int(lengths.sum()) * len(self.channels))
        parts = [self[i][0].numpy() for i in range(len(self))]
        values = np.concatenate(parts) if parts else np.empty((0, len(self.channels)), np.float32)
        keys = {
            "sample": np.repeat(np.arange(len(self)), lengths),
            "hour": np.concatenate([np.arange(n) for n in lengths]) if parts else lengths,
        }
        return pl.DataFrame({**keys, **{c: values[:, i] for i, c in enumerate(self.channels)}})

    def to_pandas(self, rows: Rows = "samples") -> "pd.DataFrame":
        """Return a pandas data frame; arguments as in `to_polars`."""
        return self.to_polars(rows).to_pandas()

    def _gather(self, index: Sequence[int]) -> Batch:
        return self._samples.gather(torch.tensor(index, dtype=torch.long))

    def _check_size(self, numbers: int) -> None:
        if numbers * 4 > _MOST_BYTES:
            raise InputError(
                f"{self!r} would take {numbers * 4 / 2**30:.0f} GiB in one piece; at most 8 are "
                "allowed. Use it as a torch Dataset, in batches."
            )


class Splits(NamedTuple):
    """The samples of a task: `train, validation, test = store.samples(task)`."""

    train: SampleSet
    validation: SampleSet
    test: SampleSet


def load_splits(store: Store, task: str, normalizer: str | None) -> Splits:
    """Return the samples of a task; see `Store.samples`."""
    found = store.spec.task(task)
    default = task_called(task).training.get("normalizer", Training().normalizer)
    which = normalizer or str(default)
    if which == RAW and store.spec.is_hourly:
        num = len(store.spec.channels)
        splits = loading.load_any(store, found, constants=(np.zeros(num), np.ones(num)))
    else:
        splits = loading.load(store, found, normalizer=which)  # shared with fits of this process
    return Splits(
        *(SampleSet(store, found, name, which, splits[split]) for split, name in _NAMES.items())
    )


def squeezed(label: np.ndarray) -> np.ndarray:
    """Return (N, 1) as (N,)."""
    return label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label


def _stacked(items: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([y for _, y in items])
