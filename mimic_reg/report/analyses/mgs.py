"""Model gradient similarity against epochs, by method, with the validation score.

Fits with an `mgs_probe` record it.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import Group, by_level, epochs_of, level_groups, mean_sd
from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.figures.measured import Series, similarity_figure
from mimic_reg.report.figures.selection import recorded
from mimic_reg.report.formats import format_score_name
from mimic_reg.report.results import Results, TrialResult

TITLE = "Model gradient similarity"
_METRICS = {"mgs_trace": "trace", "mgs_log_det": "log determinant"}


def analyse(results: Results) -> Analysis:
    """Return curves of what was recorded.

    Raises:
        InputError: no trial has recorded it.
    """
    known = [t for t in results.trials if recorded(t, "mgs_trace") is not None]
    if not known:
        raise InputError(
            "No trial has recorded the similarity of its gradients. Train with an mgs_probe: in an "
            "experiment's grid, probes: [mgs_probe]."
        )
    return by_level(
        "mgs",
        TITLE,
        level_groups(results, known),
        lambda trials: trials,
        _draw,
        _row,
        ("seeds", "epoch", *_METRICS.values()),
        "Smaller: the gradients of different samples and outputs are more alike. Measured in "
        "evaluation mode, on the same samples for all methods. Bands and ±: one standard deviation "
        "over seeds. Table: the last epoch that was measured.",
    )


def _draw(group: Group, by_method: dict[str, list[TrialResult]]) -> tuple[Figure, str]:
    panels = {
        label: {m: [_series(t, name) for t in found] for m, found in by_method.items()}
        for name, label in _METRICS.items()
    }
    score = f"validation {format_score_name(group.trials[0].selected_by)}"
    panels[score] = {m: [_validation(t) for t in found] for m, found in by_method.items()}
    caption = (
        "trace and log determinant of the kernel of the logits' gradients, for each row, on "
        "training samples; below, the validation score."
    )
    return similarity_figure(panels, group.look), caption


def _series(trial: TrialResult, name: str) -> Series:
    found = recorded(trial, name)
    assert found is not None
    return found


def _validation(trial: TrialResult) -> Series:
    rows = trial.epochs()
    values = [float(row["validation"][trial.selected_by]) for row in rows]
    return Series(np.array([row["epoch"] for row in rows]), np.array(values))


def _row(trials: Sequence[TrialResult]) -> tuple[str, ...]:
    """Return the last value of every seed."""
    found = [[_series(trial, name) for trial in trials] for name in _METRICS]
    epochs = epochs_of([series.x[-1] for series in found[0]])
    last = (mean_sd([float(s.y[-1]) for s in of_metric], ".4g") for of_metric in found)
    return str(len(trials)), epochs, *last
