"""The cost of trials: steps, and seconds of one CPU core.

The time of a step with a method is that of a past run in the work folder. Without such a run, it is
the time of a plain step times the measured relative cost of the method
(`resources/step_costs.json`, written by benchmarks/methods.py). If the method was measured only on
other models, its highest cost there is used. Without any measurement, seconds are None: unknown.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from mimic_reg import probes
from mimic_reg.errors import InputError
from mimic_reg.experiments.grid import IMAGE_TASK
from mimic_reg.runs import DONE, HISTORY, read_history, read_trial
from mimic_reg.settings import BASELINE, STOPPING, Trial, is_probe
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLITS

# Seconds of one CPU core for a step without a method and a batch of 32; measured on simulated stays
# with one thread, as processor time. Scoring a sample takes about a fifth of the time of training.
# For whole stays, batches of similar lengths take a third of the time of random ones.
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
    ("image_classification", "efficientnet_b0"): 3.1,  # 224 x 224, as for the next two
    ("image_classification", "resnet50"): 12.6,
    ("image_classification", "vgg16"): 40.0,
}
_FREE = (BASELINE, STOPPING, "freeze_trunk")  # cost nothing in a step
# Training, validation and test images of the paper's Table I.
KNOWN_SIZES: Mapping[str, tuple[int, int, int]] = {
    "fashion_mnist": (50_000, 10_000, 10_000),
    "cifar10": (40_000, 10_000, 10_000),
    "stl10": (4_000, 1_000, 8_000),
}
_SCORING = 0.2
_OUTPUTS: Mapping[str, int] = {"phenotyping": 25, IMAGE_TASK: 10}
_BY_LENGTH = 0.35


@dataclass(frozen=True)
class Estimate:
    """The most steps of a trial, and seconds of one thread; early stopping can end it sooner.

    seconds: None if unknown
    """

    steps: int
    seconds: float | None


@dataclass(frozen=True)
class Rate:
    """Seconds of one thread in a past run: for a step, and for a validation."""

    step: float
    validation: float


_Key = tuple[Any, ...]
Past = Mapping[_Key, Rate]  # task, model, methods and batches → the slowest run


@cache
def step_costs() -> Mapping[str, Mapping[str, float]]:
    """Return method → model → cost of a step relative to one without it."""
    path = files("mimic_reg.experiments") / "resources" / "step_costs.json"
    return json.loads(path.read_text("utf-8"))


def step_cost(name: str, model: str) -> float | None:
    """Return the cost of a step relative to one without the method; None if not measured."""
    if name in _FREE or is_probe(name):
        return 1.0
    measured = step_costs().get(name, {})
    return measured.get(model, max(measured.values(), default=None))


def past(runs: Path) -> Past:
    """Return the times of the finished runs in a folder, for runs on a CPU."""
    found: dict[_Key, Rate] = {}
    for folder in sorted(runs.glob("*")) if runs.is_dir() else []:
        try:
            if not (folder / DONE).is_file():
                continue
            described = read_trial(folder)
            epochs = [r for r in read_history(folder / HISTORY) if r["event"] == "epoch"]
            if described["device"] != "cpu" or not epochs:
                continue
            steps, costs = epochs[-1]["step"], [row["cost"] for row in epochs]
            step = math.fsum(cost["training_seconds"] for cost in costs) / steps
            validation = math.fsum(cost["validation_seconds"] for cost in costs) / len(epochs)
            key = _key(described["trial"])
        except (InputError, KeyError, TypeError, ZeroDivisionError):
            continue  # a run of another version has no usable times
        rate = found.get(key, Rate(0.0, 0.0))
        found[key] = Rate(max(step, rate.step), max(validation, rate.validation))
    return found


def _key(trial: Mapping[str, Any]) -> _Key:
    """Return what determines a step's cost, without the methods' options."""
    names = tuple(name for entry in trial["regularisers"] for name in entry if name not in _FREE)
    training = trial["training"]
    model = json.dumps(trial["model"], sort_keys=True)
    batches = training["batch_size"], training["by_length"], training.get("by_stay", False)
    return trial["task"], model, names, *batches, training.get("precision")


def sizes(store: Store | None = None, images: str | None = None) -> dict[tuple[str, str], int]:
    """Return (task, split) → samples, of a store, or of the full MIMIC-III and a set of images.

    Of a store with folds, these are the numbers of the first fold.
    """
    if store is not None:
        if store.spec.folds and store.fold is None:
            store = store.in_fold(1)  # folds differ by a few patients
        return {
            (task, split): count
            for task in store.spec.task_names
            for split, count in store.scan(f"tasks/{task}.parquet")
            .group_by("split")
            .len()
            .collect()
            .iter_rows()
        }
    from mimic_reg.extraction.audit import published_sizes  # `list methods` does not need it

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


def estimate(
    trial: Trial, counts: Mapping[tuple[str, str], int], known: Past | None = None
) -> Estimate:
    """Return the cost of a trial; that of a trial of several tasks is the sum over its tasks.

    known: times of past runs
    """
    if trial.trials:
        parts = [estimate(part, counts, known) for part in trial.trials]
        return Estimate(sum(p.steps for p in parts), _sum(p.seconds for p in parts))
    training = trial.training
    kept = counts.get((trial.task, "train"), 0) * trial.supervision
    if trial.num_samples is not None:
        kept = min(kept, trial.num_samples)
    epoch_steps = training.epoch_steps or math.ceil(kept / training.batch_size)
    model = trial.model.name
    steps = training.max_epochs * epoch_steps
    if rate := (known or {}).get(_key(trial.model_dump(mode="json"))):
        return Estimate(steps, steps * rate.step + training.max_epochs * rate.validation)
    other = training.by_stay or training.precision != "float32"
    step = None if other else _STEP_SECONDS.get((trial.task, model))
    factors = [step_cost(r.name, model) for r in trial.regularisers]
    outputs = _OUTPUTS.get(trial.task, 1)
    probed = [
        probes.cost(r.name, r.options, model, kept, training.max_epochs, outputs)
        for r in trial.regularisers
        if is_probe(r.name)
    ]
    if step is None or None in factors or None in probed:
        return Estimate(steps, None)
    factor = math.prod(f for f in factors if f is not None)
    if training.by_length and trial.task != "in_hospital_mortality":  # all have 48 hours
        factor *= _BY_LENGTH
    train = steps * step * factor * training.batch_size / 32
    validated = counts.get((trial.task, "val"), 0)
    scored = (training.max_epochs + 1) * validated + counts.get((trial.task, "test"), 0)
    others = scored * _SCORING + math.fsum(p for p in probed if p is not None)
    return Estimate(steps, train + others * step / 32)


def _sum(seconds: Iterable[float | None]) -> float | None:
    found = list(seconds)
    return None if None in found else math.fsum(s for s in found if s is not None)
