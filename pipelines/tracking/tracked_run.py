"""What a run folder tells a tracker: the trial, its parameters, its curves and its scores."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mimic_reg.learners.trials import resolve
from mimic_reg.runs.record import Run, read_run
from mimic_reg.settings import Trial


@dataclass(frozen=True, kw_only=True)
class TrackedRun(Run):
    """A run folder, with its trial; `method` is what the trial's methods are called together."""

    trial: Trial
    method: str


def read_tracked(folder: Path, method: str | None = None) -> TrackedRun:
    """Return a run folder's content.

    method: what the trial's methods are called together, where their modules' names do not tell

    Raises:
        InputError: the folder holds no trial, or one whose files are damaged.
    """
    run = read_run(folder)
    trial = resolve(run.settings)
    read = {field.name: getattr(run, field.name) for field in fields(Run)}
    return TrackedRun(**read, trial=trial, method=method or trial.method)


def params(trial: Trial) -> dict[str, str]:
    """The resolved configuration, flat: `model`, `model.units`, `regularisers`, `dropout.rate`, …

    A name is that of the module wherever a module is used, so that methods can be compared.
    """
    settings = trial.model_dump(mode="json")
    model, methods = settings.pop("model"), settings.pop("regularisers")
    flat = dict(_flat(settings))
    if together := settings.get("together"):
        ((name, options),) = together["strategy"].items()
        flat = {k: v for k, v in flat.items() if not k.startswith("together.")}
        flat |= {"strategy": name, **dict(_flat(options, name))}
        flat["tasks"] = ", ".join(together["tasks"])
    ((flat["model"], options),) = model.items()
    flat |= _flat(options, "model")
    names = [name for method in methods for name in method]
    flat["regularisers"] = ", ".join(names) or "none"
    for position, method in enumerate(methods):
        ((name, options),) = method.items()
        repeated = names.count(name) > 1
        flat |= _flat(options, f"{name}.{position}" if repeated else name)
    return {name: str(value) for name, value in flat.items()}


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value


Point = tuple[str, float, int, float]  # name, value, epoch, seconds since the start


def curves(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """The curves in a history, a point an epoch: what was recorded between epochs as its mean."""
    points: list[Point] = []
    between: dict[str, list[float]] = {}
    seconds = 0.0
    for row in history:
        if row["event"] == "steps":
            found = _numbers({"train": _norms(row), "cost": row["cost"]}) | _recorded(row)
            for name, value in found.items():
                between.setdefault(name, []).append(value)
        elif row["event"] == "epoch":
            cost = row["cost"]
            seconds += cost["training_seconds"] + cost["validation_seconds"]
            train = {"steps": row["step"]}
            train |= {n: row.get(n) for n in ("loss", "data_loss", "explained")}
            found = {name: math.fsum(values) / len(values) for name, values in between.items()}
            found |= _numbers({"train": train, "validation": row["validation"], "cost": cost})
            found |= _recorded(row)
            points += [(name, value, row["epoch"], seconds) for name, value in found.items()]
            between.clear()
    return points


def _norms(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("gradient_norm", "applied_gradient_norm")}


def _recorded(row: Mapping[str, Any]) -> dict[str, float]:
    """What methods recorded; how many parameters a method selects has a section of its own."""
    recorded: Mapping[str, Any] = row["recorded"]
    sections: dict[str, dict[str, Any]] = {"selection": {}, "method": {}}
    for name, value in recorded.items():
        section = sections["selection" if name.startswith("selected") else "method"]
        section |= {f"{name}.{i}": v for i, v in enumerate(value)} if _is_list(value) else {}
        section |= {} if _is_list(value) else {name: value}
    return _numbers(sections)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _numbers(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Finite numbers by `section/name`; a history holds the others as text."""
    return {
        f"{section}/{name}": float(value)
        for section, values in sections.items()
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def final_metrics(run: Run) -> dict[str, float]:
    """Scores of the checkpoint with the best validation score; those of test with intervals."""
    found: dict[str, float] = {}
    if run.best_epoch is not None:
        found["best/epoch"] = float(run.best_epoch)
    for name, score in run.scores.get("validation", {}).items():
        if score.value is not None:
            found[f"best/validation_{name}"] = score.value
    for name, score in run.scores.get("test", {}).items():
        parts = {"": score.value, "_low": score.low, "_high": score.high}
        found |= {f"test/{name}{part}": v for part, v in parts.items() if v is not None}
    return found
