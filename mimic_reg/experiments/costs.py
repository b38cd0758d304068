"""What trials may cost: steps and seconds of one CPU core."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mimic_reg import probes
from mimic_reg.experiments.grid import IMAGE_TASK
from mimic_reg.extraction.audit import published_sizes
from mimic_reg.methods import step_cost
from mimic_reg.settings import Trial, is_probe
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLITS

# Seconds of one CPU core for a step without a method, a batch of 32; measured on simulated stays,
# one thread, processor time. Scoring a sample costs about a fifth of training on it, and batches of
# similar lengths a third of random ones where stays are whole.
_STEP_SECONDS: Mapping[tuple[str, str], float] = {
    ("in_hospital_mortality", "lstm"): 0.035,
    ("in_hospital_mortality", "transformer"): 0.21,
    ("phenotyping", "lstm"): 0.30,
    ("phenotyping", "transformer"): 3.3,
    ("decompensation", "lstm"): 0.29,
    ("decompensation", "transformer"): 3.5,
    ("length_of_stay", "lstm"): 0.29,
    ("length_of_stay", "transformer"): 3.5,
    ("image_classification", "dnn"): 0.006,
    ("image_classification", "cnn"): 0.10,  # CIFAR-10's 32 x 32
    ("image_classification", "efficientnet_b0"): 3.1,  # 224 x 224, as the two that follow
    ("image_classification", "resnet50"): 12.6,
    ("image_classification", "vgg16"): 40.0,
}
_OTHER_STEP_SECONDS = 0.3
# Training, validation and test images of the paper's Table I.
KNOWN_SIZES: Mapping[str, tuple[int, int, int]] = {
    "fashion_mnist": (50_000, 10_000, 10_000),
    "cifar10": (40_000, 10_000, 10_000),
    "stl10": (4_000, 1_000, 8_000),
}
_SCORING = 0.2
_BY_LENGTH = 0.35


@dataclass(frozen=True)
class Estimate:
    """Steps of a trial at the most, and seconds of one thread; early stopping may end it sooner."""

    steps: int
    seconds: float


def sizes(store: Store | None = None, images: str | None = None) -> dict[tuple[str, str], int]:
    """(task, split) → samples: those of a store, or of the full MIMIC-III and a set of images."""
    if store is not None:
        return {
            (task, split): count
            for task in store.spec.task_names
            for split, count in store.scan(f"tasks/{task}.parquet")
            .group_by("split")
            .len()
            .collect()
            .iter_rows()
        }
    published = {
        (task, split): count
        for task, of_split in published_sizes()["samples"].items()
        for split, count in of_split.items()
    }
    hourly = (2_388_414, 520_000, 523_208)
    others = {
        "decompensation": hourly,
        "length_of_stay": hourly,  # nearly the same
        IMAGE_TASK: KNOWN_SIZES.get(images or "", (0, 0, 0)),
    }
    return published | {
        (task, split): count
        for task, counts in others.items()
        for split, count in zip(SPLITS, counts, strict=True)
    }


def estimate(trial: Trial, counts: Mapping[tuple[str, str], int]) -> Estimate:
    """What a trial may cost; one of several tasks as much as they: joining them costs little."""
    if trial.trials:
        parts = [estimate(part, counts) for part in trial.trials]
        return Estimate(sum(p.steps for p in parts), math.fsum(p.seconds for p in parts))
    training = trial.training
    kept = counts.get((trial.task, "train"), 0) * trial.supervision
    if trial.num_samples is not None:
        kept = min(kept, trial.num_samples)
    epoch_steps = training.epoch_steps or math.ceil(kept / training.batch_size)
    model = trial.model.name
    step = _STEP_SECONDS.get((trial.task, model), _OTHER_STEP_SECONDS)
    factor = math.prod(step_cost(r.name, model) for r in trial.regularisers)
    steps = training.max_epochs * epoch_steps
    if training.by_length and trial.task != "in_hospital_mortality":  # 48 hours, all of them
        factor *= _BY_LENGTH
    train = steps * step * factor * training.batch_size / 32
    validated = counts.get((trial.task, "val"), 0)
    scored = (training.max_epochs + 1) * validated + counts.get((trial.task, "test"), 0)
    probed = math.fsum(
        probes.cost(r.name, r.options, model, kept, training.max_epochs)
        for r in trial.regularisers
        if is_probe(r.name)
    )
    return Estimate(steps, train + (scored * _SCORING + probed) * step / 32)


def total_seconds(trials: Iterable[Trial], counts: Mapping[tuple[str, str], int]) -> float:
    """What trials may cost one after the other, on one thread."""
    return math.fsum(estimate(trial, counts).seconds for trial in trials)
