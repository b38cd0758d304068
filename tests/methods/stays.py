"""Training samples of a few made-up stays, and of images, as methods see them."""

import numpy as np
import torch

from mimic_reg.samples import Samples, Units, from_arrays
from mimic_reg.samples.base import make_samples

LENGTHS = (6, 3, 1)


def make_stays(subject=(0, 0, 1)) -> Samples:
    """Three stays of a measurement, a category and what was observed; the channels' order."""
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    values = np.column_stack([rng.normal(size=rows), rng.integers(0, 2, (rows, 2))])
    values = np.vstack([values, np.zeros(3)]).astype(np.float32)
    first = np.cumsum((0, *LENGTHS[:-1]))
    units = Units(
        torch.from_numpy(values), torch.from_numpy(first), np.array(subject, np.int32), True
    )
    number = np.arange(3, dtype=np.int32)
    label = np.array([[0], [1], [1]], np.int8)
    return make_samples(units, "binary", number, np.array(LENGTHS, np.int32), label, number)


def make_images(num=4, shape=(1, 5, 5)) -> Samples:
    """Images of different pixels in three classes."""
    values = np.arange(num * np.prod(shape), dtype=np.float32).reshape(num, *shape)
    return from_arrays(values, np.arange(num) % 3, "multiclass")


def everything(samples):
    """All samples as a batch."""
    return samples.gather(torch.arange(len(samples)))
