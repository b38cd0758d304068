"""Score and selected parameters against the threshold of selection (figure 7).

A method that selects parameters by a threshold names this option in its module: `SELECTS_BY`.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import Group, groups, mean_sd
from mimic_reg.report.analyses.selection import at_best, counts
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.selection import Threshold, threshold_figure
from mimic_reg.report.formats import file_name, format_level, format_score_name
from mimic_reg.report.labels import format_option
from mimic_reg.report.results import SIZE_AND_SEED, Results, TrialResult
from mimic_reg.settings import TrainingSize, is_probe

TITLE = "Thresholds"
_SPLIT = "test"


def analyse(results: Results) -> Analysis:
    """Return a study for trials that differ in the threshold by which a method selects parameters.

    Raises:
        InputError: there are no two thresholds of the same methods, task and model.
    """
    known = [t for t in results.trials if _selection(t)]
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in groups(results, known):
        for method, trials in _studies(group.trials).items():
            points = _points(trials)
            drawn.append(_draw(group, method, points, trials[0].selected_by))
            rows = tables.setdefault(group.where, [])
            rows += [
                (method, format_level(level), point.label, *_row(point))
                for level, found in points.items()
                for point in found
                if point.num_trials
            ]
    if not drawn:
        selecting = {name: methods.selects_by(name) for name in methods.names()}
        options = " or ".join(f"{option} of {name}" for name, option in selecting.items() if option)
        raise InputError(
            f"A study of thresholds needs trials of one task and model that differ in {options}; "
            "see configs/experiments/figure_07.yaml."
        )
    note = (
        "Points: means over seeds with 95 % intervals (t distribution); faint points: seeds. "
        f"{_SPLIT.capitalize()} score and selection at the epoch with the best validation score. "
        "A threshold of 0 is the optimiser without selection."
    )
    columns = ("method", "level", "threshold", "seeds", "score", "now", "ever")
    return Analysis("thresholds", TITLE, tuple(drawn), columns, tables, note)


def _studies(trials: Sequence[TrialResult]) -> dict[str, list[TrialResult]]:
    """Return label → trials that differ in threshold, supervision and seed only."""
    alike: dict[str, list[TrialResult]] = {}
    for trial in trials:
        alike.setdefault(_other_settings(trial), []).append(trial)
    studies: dict[str, list[TrialResult]] = {}
    for found in alike.values():
        if len({_bounds(t) for t in found}) > 1:
            method = without_threshold(found[0].method, *_selecting(found[0]))
            number = 1 + sum(name.partition(", study ")[0] == method for name in studies)
            studies[method if number == 1 else f"{method}, study {number}"] = found
    return studies


def without_threshold(label: str, method: str, option: str) -> str:
    """Return a label such as "itps (tau=0.05, mode=freeze)" without the threshold."""
    name = f"{method}.{option}" if f"{method}.{option}=" in label else option
    rest = re.sub(rf"(?<=[( ]){re.escape(name)}=(\[.*?\]|[^,)]*)(, )?", "", label)
    return rest.replace(" ()", "").replace(", )", ")")


def _other_settings(trial: TrialResult) -> str:
    settings = {k: v for k, v in trial.settings.items() if k not in SIZE_AND_SEED}
    selecting = _selecting(trial)
    settings["regularisers"] = [
        {name: {k: v for k, v in options.items() if (name, k) != selecting}}
        for entry in trial.settings["regularisers"]
        for name, options in entry.items()
        if not is_probe(name)
    ]
    return json.dumps(settings, sort_keys=True)


def _selection(trial: TrialResult) -> tuple[str, str] | None:
    """Return the first method of a trial that selects parameters, and its threshold option."""
    names = (name for entry in trial.settings["regularisers"] for name in entry)
    return next(((n, option) for n in names if (option := methods.selects_by(n))), None)


def _selecting(trial: TrialResult) -> tuple[str, str]:
    found = _selection(trial)
    assert found is not None, "only trials that select parameters are studied"
    return found


def _tau(trial: TrialResult) -> Any:
    method, option = _selecting(trial)
    return next(
        entry[method][option] for entry in trial.settings["regularisers"] if method in entry
    )


def _bounds(trial: TrialResult) -> tuple[float, float]:
    """Return the upper and the lower threshold."""
    tau = _tau(trial)
    low, high = tau if isinstance(tau, list) else (-tau, tau)
    return float(high), float(low)


def _points(trials: Sequence[TrialResult]) -> dict[TrainingSize, list[Threshold]]:
    """Return level → what was measured at each threshold, in ascending order."""
    bounds = sorted({_bounds(t): format_option(_tau(t)) for t in trials}.items())
    return {
        level: [
            _point(label, [t for t in trials if (t.supervision, _bounds(t)) == (level, at)])
            for at, label in bounds
        ]
        for level in sorted({t.supervision for t in trials})
    }


def _point(label: str, trials: Sequence[TrialResult]) -> Threshold:
    scores = [trial.scores[_SPLIT][trial.selected_by].value for trial in trials]
    selected = counts(trials, at_best)
    return Threshold(label, [s for s in scores if s is not None], selected, len(trials))


def _draw(
    group: Group, method: str, points: dict[TrainingSize, list[Threshold]], selected_by: str
) -> Drawn:
    score = f"{_SPLIT} {format_score_name(selected_by)}"
    caption = (
        f"{group.where}, {method}: (a) {score} and (b) selected parameters, ever (solid) and at "
        "the end of the epoch (dashed), against the threshold."
    )
    name = f"{group.name}_{file_name(method)}_thresholds"
    return Drawn(name, "analysis", caption, threshold_figure(points, score))


def _row(point: Threshold) -> tuple[str, ...]:
    return (
        str(point.num_trials),
        mean_sd(point.scores, ".4f") if point.scores else "undefined",
        mean_sd(point.counts.now, ",.0f") if point.counts.now else "-",
        mean_sd(point.counts.ever, ",.0f") if point.counts.ever else "-",
    )
