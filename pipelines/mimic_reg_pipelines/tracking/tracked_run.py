"""Read a run folder for a tracker: the trial, its parameters, its curves and its scores."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mimic_reg.learners.trials import resolve
from mimic_reg.methods import selects_by
from mimic_reg.metrics.scores import Score
from mimic_reg.runs.record import Run, read_run
from mimic_reg.settings import Trial, acting
from mimic_reg.settings.files import name_of_trial


@dataclass(frozen=True, kw_only=True)
class TrackedRun(Run):
    """A run folder with its trial; `method` is the name of the trial's methods together."""

    trial: Trial
    method: str


def read_tracked(folder: Path, method: str | None = None) -> TrackedRun:
    """Return a run folder's content.

    method: the name of the trial's methods together; None: made of their modules' names

    Raises:
        InputError: the folder holds no trial, or one whose files are damaged.
    """
    run = read_run(folder)
    trial = resolve(run.settings)
    read = {field.name: getattr(run, field.name) for field in fields(Run)}
    return TrackedRun(**read, trial=trial, method=method or name_of_trial(trial))


def params(trial: Trial, method: str | None = None) -> dict[str, str]:
    """Return the resolved configuration, flat.

    What experiments vary has the same name for all methods: `method`, `model`, `strategy`,
    `strength`, `supervision`. All other names begin with `trial.`, as `trial.dropout.rate`:
    MLflow's comparison shows the first three names that differ, in alphabetical order.

    method: the name of the trial's methods together; None: made of their modules' names
    """
    settings = trial.model_dump(mode="json")
    model, methods = settings.pop("model"), settings.pop("regularisers")
    ((model_name, options),) = model.items()
    found = {
        "method": method or name_of_trial(trial),
        "model": model_name,
        "strength": f"{strength(trial):g}",
        **trial.size.tags(),
        "task": settings.pop("task"),
    }
    together = settings.pop("together", None)
    rest = dict(_flat(settings)) | dict(_flat(options, "model"))
    if together:
        ((name, options),) = together["strategy"].items()
        found |= {"strategy": name, "tasks": ", ".join(together["tasks"])}
        rest |= _flat(options, name)
    names = [name for entry in methods for name in entry]
    rest["regularisers"] = ", ".join(names) or "none"
    for position, entry in enumerate(methods):
        ((name, options),) = entry.items()
        repeated = names.count(name) > 1
        rest |= _flat(options, f"{name}.{position}" if repeated else name)
    found |= {f"trial.{name}": value for name, value in rest.items()}
    return {name: str(value) for name, value in found.items()}


def strength(trial: Trial) -> float:
    """Return how strongly a trial's method acts, as one number for parallel coordinates.

    The strength is the option by which the method selects parameters, else its first option that is
    a number. It is that of the first method with such an option, or 0 if there is none.
    """
    options = {method.name: method.given for method in trial.regularisers}
    names = [name for name in acting(options) if name in options]
    selecting = [name for name in names if selects_by(name) is not None]
    for name in (*selecting, *names):
        given = dict(options[name])
        chosen = [given[option] for option in (selects_by(name),) if option in given]
        for value in (*chosen, *given.values()):
            if isinstance(value, list | tuple) and value:
                value = value[-1]  # ITPS's pair of thresholds: the upper one
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return 0.0


def _flat(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value


# Beginnings of the names of metrics, in the order in which they are logged and shown.
SECTIONS = ("test", "validation", "selection", "train", "method", "cost")
_SELECTED = "selected_now"  # what methods call the number of parameters that they train
AT_BEST = "selection/at_best"
Point = tuple[str, float, int, float]  # name, value, epoch, seconds since the start


def curves(history: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Return the curves in a history, one point for each epoch: values of steps are averaged."""
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
    return sorted(points, key=lambda point: SECTIONS.index(point[0].partition("/")[0]))


def _norms(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("gradient_norm", "applied_gradient_norm")}


def _recorded(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what methods recorded, with numbers of selected parameters in their own section."""
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
    """Return finite numbers by `section/name`; a history holds others as text."""
    return {
        f"{section}/{name}": float(value)
        for section, values in sections.items()
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def chart_sections(run: Run) -> list[str]:
    """Return the sections into which MLflow's charts put a run's metrics, in order.

    A section is the name of a metric up to its last slash.
    """
    names = [*final_metrics(run), *(name for name, *_ in curves(run.history()))]
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names))


def final_metrics(run: Run) -> dict[str, float]:
    """Return scores of the checkpoint with the best validation score, the deciding one first.

    Scores of the test come with their intervals. Where a method selects parameters, the number
    that it trained in the best epoch comes last.
    """
    found: dict[str, float] = {}
    for name, score in _selecting_first(run, "test"):
        parts = {"": score.value, "_low": score.low, "_high": score.high}
        found |= {f"test/{name}{part}": v for part, v in parts.items() if v is not None}
    for name, score in _selecting_first(run, "validation"):
        if score.value is not None:
            found[f"validation/best_{name}"] = score.value
    if run.best_epoch is not None:
        found["validation/best_epoch"] = float(run.best_epoch)
        for row in run.epochs():
            if row["epoch"] == run.best_epoch and _SELECTED in row["recorded"]:
                found[AT_BEST] = float(row["recorded"][_SELECTED])
    return found


def _selecting_first(run: Run, split: str) -> list[tuple[str, Score]]:
    return sorted(run.scores.get(split, {}).items(), key=lambda item: item[0] != run.selected_by)
