"""The samples of a task, from a store of hours or of images: the input of models."""

from collections.abc import Mapping
from typing import Any

import torch

from mimic_reg.errors import InputError
from mimic_reg.samples import images, stays
from mimic_reg.samples.base import CPU, Batch, Constants, Samples, Units, from_arrays
from mimic_reg.samples.images import from_pixels
from mimic_reg.samples.shared import Note
from mimic_reg.samples.stays import constant_channels, from_rows
from mimic_reg.store import Store, reading
from mimic_reg.store.spec import Task


def load(
    store: Store,
    task: Task,
    *,
    normalizer: str,
    device: torch.device = CPU,
    note: Note | None = None,
) -> dict[str, Samples]:
    """Return the samples of a task for training and test: split → samples, over the same units.

    The samples loaded last stay in memory, so that a process with several trials loads them once.
    Processes of one machine share a large array of hours (`samples.shared`). Never change samples
    in place.

    normalizer: name of one of the cohort's normalisers
    note:       is told if the hours cannot be shared

    Raises:
        InputError: the store does not have the task or the normaliser; its tables do not fit
            together; a split is empty.
    """
    key = (*store.signature(), task.name, normalizer, str(device))
    if key in _last:
        return _last[key]
    _last.clear()  # before loading others: two would need twice the memory
    constants = read_normalizer(store, task, normalizer)
    loaded = _load(store, task, constants, device, note=note, share=True)
    if empty := [split for split, samples in loaded.items() if not len(samples)]:
        raise InputError(f"{task.name} has no samples for {empty[0]!r} in {store.folder}.")
    _last[key] = loaded
    return loaded


_last: dict[tuple[object, ...], dict[str, Samples]] = {}


def load_any(
    store: Store,
    task: Task,
    *,
    constants: Constants,
    device: torch.device = CPU,
    channels: Mapping[str, float] | None = None,
) -> dict[str, Samples]:
    """Return the samples of a task for prediction: split → samples; a split may be empty.

    constants: constants of the normaliser that the model was trained with
    channels:  of hours: the channels of the model in its order, and for those that the store lacks
               the value before normalisation (NaN: the mean); None: those of the store

    Raises:
        InputError: the store does not have the task, or its tables do not fit together.
    """
    return _load(store, task, constants, device, channels=channels)


def _load(
    store: Store, task: Task, constants: Constants, device: torch.device, **of_hours: Any
) -> dict[str, Samples]:
    store.spec.task(task.name)
    store.spec.check_fold(store.fold)
    with reading(store.folder, "a cohort store"):
        if store.spec.is_hourly:
            return stays.load(store, task, constants=constants, device=device, **of_hours)
        return images.load(store, task, constants=constants, device=device)


def read_normalizer(store: Store, task: Task, which: str) -> Constants:
    """Return the constants of one of the cohort's normalisers, for a task.

    Raises:
        InputError: the cohort has no such normaliser, or it is damaged.
    """
    if store.indicators:
        from mimic_reg.store.indicators import turn

        stored = store.with_indicators("stored")
        return turn(read_normalizer(stored, task, which), stored.spec, store.spec)
    spec = store.spec
    spec.check_fold(store.fold)
    if which not in spec.normalizers:
        raise InputError(
            f"The cohort {spec.name!r} in {store.folder} has no normalizer {which!r}. Set "
            f"training.normalizer to one of: {', '.join(spec.normalizers)}."
        )
    read = stays.read_normalizer if spec.is_hourly else images.read_normalizer
    with reading(store.folder, "a cohort store"):
        return read(store, task, which)


def notes(store: Store, task: Task, *, normalizer: str) -> list[str]:
    """Return what a user should know about these samples, one sentence for each fact."""
    if not store.spec.is_hourly or normalizer != "fitted":
        return []
    constant = constant_channels(store, task)
    if not constant:
        return []
    return [
        f"Constant in the training hours of {task.name}: {', '.join(constant)}. A model cannot "
        "learn from a constant channel; its normaliser uses deviation 1."
    ]
