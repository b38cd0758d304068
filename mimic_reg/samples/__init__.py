"""What a model is fed: the samples of a task, from a store of ICU stays or of images."""

import torch

from mimic_reg.errors import InputError
from mimic_reg.samples import images, stays
from mimic_reg.samples.base import CPU, Batch, Samples, Units, from_arrays
from mimic_reg.samples.stays import constant_channels, read_normalizer
from mimic_reg.schema import IMAGES
from mimic_reg.storage import Store, reading
from mimic_reg.tasks.base import Task

__all__ = [
    "Batch",
    "Samples",
    "Units",
    "from_arrays",
    "load",
    "notes",
    "num_outputs",
    "read_normalizer",
]


def load(
    store: Store, task: Task, *, normalizer: str, device: torch.device = CPU
) -> dict[str, Samples]:
    """The samples of a task: split → samples, over the same units.

    normalizer: "published" or "fitted" for stays, "unit", "fitted" or "raw" for images

    Raises:
        InputError: the store does not hold the task, or its tables do not fit together; it has no
            such normaliser; "published" is for the benchmark's cohort alone.
    """
    source = images if IMAGES in store.manifest["files"] else stays
    what = "images" if source is images else "ICU stays"
    if (source is images) != ("image" in task.keys):
        raise InputError(f"{store.folder} holds {what}: {task.name} is no task for them.")
    if normalizer not in source.NORMALIZERS:
        raise InputError(
            f"{store.folder} holds {what}; their normalizer is one of "
            f"{', '.join(source.NORMALIZERS)}, not {normalizer!r} (training: normalizer)."
        )
    with reading(store.folder, "a cohort store"):
        loaded: dict[str, Samples] = source.load(store, task, normalizer=normalizer, device=device)
    return loaded


def notes(store: Store, task: Task, *, normalizer: str) -> list[str]:
    """Return what a user should know of these samples, a sentence each."""
    if IMAGES in store.manifest["files"] or normalizer != "fitted":
        return []
    constant = constant_channels(store, task)
    if not constant:
        return []
    return [
        f"Constant in the training hours of {task.name}: {', '.join(constant)}. A model cannot "
        "learn from a channel that does not vary; its normaliser keeps deviation 1."
    ]


def num_outputs(store: Store, task: Task) -> int:
    """Logits of a model for a task on this data: as many as the store's images have classes."""
    classes = store.manifest.get("classes")
    return len(classes) if task.target == "multiclass" and classes else task.num_outputs
