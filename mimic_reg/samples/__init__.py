"""What a model is fed: the samples of a task, from a store of ICU stays or of images."""

import torch

from mimic_reg.errors import InputError
from mimic_reg.samples import images, stays
from mimic_reg.samples.base import CPU, Batch, Samples, Units, from_arrays
from mimic_reg.samples.stays import read_normalizer
from mimic_reg.spec import Task
from mimic_reg.storage import Store, reading

__all__ = ["Batch", "Samples", "Units", "from_arrays", "load", "read_normalizer"]


def load(
    store: Store, task: Task, *, normalizer: str, device: torch.device = CPU
) -> dict[str, Samples]:
    """The samples of a task: split → samples, over the same units.

    normalizer: one of the cohort's

    Raises:
        InputError: the store does not hold the task, or its tables do not fit together; it has no
            such normaliser.
    """
    spec = store.spec
    spec.task(task.name)
    if normalizer not in spec.normalizers:
        raise InputError(
            f"The cohort {spec.name!r} in {store.folder} has no normalizer {normalizer!r}. Set "
            f"training.normalizer to one of: {', '.join(spec.normalizers)}."
        )
    source = stays if spec.is_hourly else images
    with reading(store.folder, "a cohort store"):
        loaded: dict[str, Samples] = source.load(store, task, normalizer=normalizer, device=device)
    return loaded
