"""Which numbers of an input may be changed a little: those that are measurements.

Shapes: B samples, T hours, F channels, N units.
"""

import torch
from torch import Tensor

from mimic_reg.samples import Batch, Samples

_ROWS_AT_ONCE = 1 << 14


def continuous_channels(train: Samples | None) -> Tensor | None:
    """Return (F,) bool: True where a channel has other values than 0 and 1; None for images.

    Channels of 0 and 1 say which category was seen, or whether anything was measured: a value in
    between means nothing. The store knows this too, but a method sees samples only.
    """
    if train is None or not train.units.sequence:
        return None
    values = train.units.values
    found = torch.zeros(values.shape[1], dtype=torch.bool, device=values.device)
    for rows in torch.split(values, _ROWS_AT_ONCE):
        found |= ((rows != 0) & (rows != 1)).any(dim=0)
        if found.all():
            break
    return found


def real_hours(batch: Batch) -> Tensor:
    """Return (B, T, 1) bool: True within a sample's length, or within a stay that samples share."""
    lengths = batch.lengths
    if lengths.dim() == 2:
        row, hours = lengths.unbind(1)
        lengths = hours.new_zeros(len(batch.x)).scatter_reduce(0, row, hours, "amax")
    hours = torch.arange(batch.x.shape[1], device=batch.x.device)
    return (hours < lengths.to(batch.x.device, non_blocking=True)[:, None])[..., None]


def changeable(batch: Batch, channels: Tensor | None) -> Tensor:
    """Return the factor of a change of `batch.x`: 1 where there is a measurement, else 0.

    channels: (F,) bool; None: all numbers of a sample are measurements (pixels)
    """
    if channels is None:
        return batch.x.new_ones(())
    return (real_hours(batch) & channels).to(batch.x.dtype)
