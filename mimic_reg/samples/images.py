"""Samples of images: pixels stay uint8 and become numbers when a batch is gathered.

Shapes: N images, C channels, H, W pixels.
"""

import numpy as np
import polars as pl
import torch
from safetensors import safe_open
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.samples.base import CPU, Constants, Samples, Units, make_samples
from mimic_reg.store import Store
from mimic_reg.store.spec import IMAGES, SPLITS, Task

_AT_ONCE = 1024  # images summed together


def load(
    store: Store, task: Task, *, constants: Constants, device: torch.device = CPU
) -> dict[str, Samples]:
    """Return split → samples, over the same images; a split may be empty.

    constants: scale and shift (C,)

    Raises:
        InputError: the store does not have the task, or its tables do not fit together.
    """
    table = store.read(f"tasks/{task.name}.parquet")
    pixels = read_pixels(store)
    image, label = table[store.spec.unit].to_numpy(), table[task.labels[0]].to_numpy()
    classes = task.num_outputs
    if not (np.isin(image, np.arange(len(pixels))).all() and np.isin(label, range(classes)).all()):
        raise InputError(
            f"The sample table of {task.name} in {store.folder} names images or classes that are "
            "not there. Import the images again."
        )
    split = table["split"].to_numpy()
    units = _units(pixels, constants, device)
    found = {}
    for name in SPLITS:
        row = np.flatnonzero(split == name)
        unit, ones = image[row].astype(np.int32), np.ones(len(row), np.int32)
        found[name] = make_samples(units, task.target, unit, ones, label[row], row)
    return found


def read_pixels(store: Store) -> Tensor:
    """Return the images, (N, C, H, W) uint8.

    Raises:
        InputError: the file has other content.
    """
    path = store.path(IMAGES)
    try:
        with safe_open(path, "pt") as file:
            pixels: Tensor = file.get_tensor("images")
    except Exception as error:  # the library's own exception is not public
        raise InputError(f"{path} is damaged ({error}). Import the images again.") from error
    if pixels.dtype != torch.uint8 or pixels.dim() != 4:
        raise InputError(f"{path} must contain (N, C, H, W) bytes. Import the images again.")
    return pixels


def from_pixels(
    task: Task, pixels: np.ndarray, *, constants: Constants, device: torch.device = CPU
) -> Samples:
    """Return images (N, C, H, W), pixels from 0 to 255, as samples without labels."""
    num = len(pixels)
    row, ones = np.arange(num), np.ones(num, np.int32)
    units = _units(torch.from_numpy(np.ascontiguousarray(pixels)), constants, device)
    return make_samples(units, task.target, row.astype(np.int32), ones, row, row)


def _units(pixels: Tensor, constants: Constants, device: torch.device) -> Units:
    scale, shift = (torch.from_numpy(c.astype(np.float32)).view(-1, 1, 1) for c in constants)
    return Units(
        values=pixels.to(device),
        offset=torch.arange(len(pixels), device=device),
        subject=np.arange(len(pixels), dtype=np.int32),
        sequence=False,
        scale=scale.to(device),
        shift=shift.to(device),
    )


def read_normalizer(store: Store, task: Task, which: str) -> Constants:
    """Return scale and shift (C,) of a normaliser.

    which: unit (pixels in [0, 1]), fitted (standardised by the channels of the training images), or
           raw (0 to 255)
    """
    channels = store.spec.features[0]
    if which != "fitted":
        unit = 1 / 255 if which == "unit" else 1.0
        return np.full(channels, unit, np.float32), np.zeros(channels, np.float32)
    table = store.read(f"tasks/{task.name}.parquet").filter(pl.col("split") == "train")
    image = table[store.spec.unit].to_numpy().astype(np.int64)
    training = read_pixels(store)[torch.from_numpy(image)]
    count = training.numel() / channels
    total = torch.zeros(2, channels, dtype=torch.float64)
    for part in torch.split(training, _AT_ONCE):
        values = part.double()
        total += torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))])
    mean = total[0] / count
    deviation = (total[1] / count - mean.square()).clamp(min=0).sqrt()
    if (deviation == 0).any():
        raise InputError("A channel of the training images is constant: use normalizer: unit.")
    scale, shift = 1 / deviation, -mean / deviation
    return scale.float().numpy(), shift.float().numpy()
