"""What was searched before the runs of a work folder: its budgets, and runs of points that lost.

The folder of a sweep records its trials. If those of one task, model, method, level and fold differ
in searched values, they are a search: the point with the best mean validation score is the method,
and its other points are only its budget. A comparison also records budgets in its settings.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import metric
from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.runs import HISTORY, read_history, read_scored
from mimic_reg.store import read_json

STATUS = "sweeps/*/status.json"
NOT_TUNED = "not tuned"

# task, model, method, share, number, fold
Key = tuple[str, str, str, float | None, int | None, int | None]


@dataclass(frozen=True, order=True)
class Budget:
    """What the values of a method were chosen from: points, and runs of each.

    one_fit: whether all points are the same, of a model that chooses its values within the fit
    """

    points: int = 1
    runs: int = 0
    one_fit: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        """Return it in words."""
        if self.points < 2:
            return NOT_TUNED
        same = " (all the same fit)" * self.one_fit
        return f"{self.points} points{same}, {self.runs} run{'' if self.runs == 1 else 's'} each"


@dataclass
class Searches:
    """The searches of some work folders.

    budgets:  run folder → the budget of its method, if it was tuned
    sweeps:   run folder → the name of the last sweep that it belongs to
    lost:     run folders of points that were not chosen
    in_folds: whether there is a search within a fold
    problems: what could not be read
    """

    budgets: dict[Path, Budget] = field(default_factory=dict)
    sweeps: dict[Path, str] = field(default_factory=dict)
    lost: set[Path] = field(default_factory=set)
    in_folds: bool = False
    problems: list[str] = field(default_factory=list)


def read_searches(works: Iterable[Path]) -> Searches:
    """Return the searches that the sweeps of work folders record.

    works: work folders, or their `runs`
    """
    found = Searches()
    for work in works:
        _read(work.parent if work.name == "runs" else work, found)
    return found


def _read(work: Path, found: Searches) -> None:
    searched: dict[Key, dict[str, list[Path]]] = {}
    single: list[tuple[Key, str, list[Path], Budget | None]] = []
    for path in sorted(work.glob(STATUS)):
        try:
            content = read_json(path)
            of_sweep = _points(work, content["trials"])
            tuned = dict(map(_recorded, content["configuration"].get("tuned") or ()))
        except (InputError, KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            why = str(error) if isinstance(error, InputError) else "its status.json is damaged."
            found.problems.append(f"{path.parent.name}: {why}")
            continue
        for key, points in of_sweep.items():
            found.sweeps |= {f: path.parent.name for each in points.values() for f in each}
            if len(points) > 1:
                for values, folders in points.items():
                    searched.setdefault(key, {}).setdefault(values, []).extend(folders)
            else:
                ((values, folders),) = points.items()
                single.append((key, values, folders, tuned.get((*key[:5], None))))
    for key, points in searched.items():
        found.in_folds |= key[5] is not None
        best, budget = _best(points), _counted(points)
        found.budgets |= {f: budget for folders in points.values() for f in folders}
        found.lost |= {f for values, each in points.items() if values != best for f in each}
    for key, values, folders, given in single:
        points = searched.get(key, {})
        spent = given or (_counted(points) if values in points else None)
        if spent is not None:
            found.budgets |= dict.fromkeys(folders, spent)
        found.lost -= set(folders)


def _counted(points: Mapping[str, list[Path]]) -> Budget:
    return Budget(len(points), max(len(set(folders)) for folders in points.values()))


def _points(work: Path, trials: Iterable[Mapping[str, Any]]) -> dict[Key, dict[str, list[Path]]]:
    """Return task, model, method, level and fold → searched values → resolved run folders."""
    found: dict[Key, dict[str, list[Path]]] = {}
    for trial in trials:
        folder = (work / "runs" / trial["folder"]).resolve()
        values = json.dumps(trial.get("searched") or {}, sort_keys=True)
        folders = [folder / task for task in trial.get("tasks") or ()] or [folder]
        found.setdefault(_key(trial), {}).setdefault(values, []).extend(folders)
    return found


def _key(entry: Mapping[str, Any]) -> Key:
    size = entry.get("supervision"), entry.get("num_samples")
    return entry["task"], entry["model"], entry["method"], *size, entry.get("fold")


def _recorded(entry: Mapping[str, Any]) -> tuple[Key, Budget]:
    runs = len(entry["seeds"]) * int(entry.get("folds") or 1)
    points = int(entry["points"])
    if points < 2:
        return _key(entry), Budget()
    return _key(entry), Budget(points, runs, entry.get("different") == 1)


def _best(points: Mapping[str, list[Path]]) -> str | None:
    """Return the point with the best mean validation score; None if none has all its results.

    A point that is hardly trained wins only where all are.
    """
    found: list[tuple[bool, float, str]] = []
    for values, folders in points.items():
        scored = [_validated(folder) for folder in dict.fromkeys(folders)]
        known = [entry for entry in scored if entry is not None]
        if known and len(known) == len(scored):
            sign = 1 if metric(known[0][0]).lower_is_better else -1
            mean = math.fsum(entry[1] for entry in known) / len(known)
            found.append((any(entry[2] for entry in known), sign * mean, values))
    best = min(found, key=lambda point: point[:2], default=None)
    return best[2] if best else None


def _validated(folder: Path) -> tuple[str, float, bool] | None:
    """Return the score that selects, its validation value, and whether a run hardly trained."""
    try:
        scored = read_scored(folder)
        name = scored["selected_by"]
        value = float(scored["scores"]["validation"][name]["value"])
        hardly = hardly_trained(read_history(folder / HISTORY), scored["best_epoch"])
    except (InputError, KeyError, TypeError, ValueError, OSError):
        return None
    return name, value, hardly is not None
