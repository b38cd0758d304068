"""Model gradient similarity against epochs, by method, beside the validation score.

Fits with an `mgs_probe` have recorded it.
"""

from collections.abc import Sequence

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import level_groups, mean_sd
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.measured import Series, similarity_figure
from mimic_reg.report.formats import format_score_name
from mimic_reg.report.results import Results, TrialResult

TITLE = "Model gradient similarity"
_METRICS = {"mgs_trace": "trace", "mgs_log_det": "log determinant"}


def analyse(results: Results) -> Analysis:
    """Return curves of what was recorded.

    Raises:
        InputError: no trial has recorded it.
    """
    known = [t for t in results.trials if _recorded(t, "mgs_trace") is not None]
    if not known:
        raise InputError(
            "No trial knows the similarity of its gradients. Train with an mgs_probe: in an "
            "experiment's grid, probes: [mgs_probe]."
        )
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in level_groups(results, known):
        by_method = group.by_method()
        panels = {
            label: {m: [_series(t, name) for t in found] for m, found in by_method.items()}
            for name, label in _METRICS.items()
        }
        score = f"validation {format_score_name(group.trials[0].selected_by)}"
        panels[score] = {m: [_validation(t) for t in found] for m, found in by_method.items()}
        caption = (
            f"{group.at}: trace and log determinant of the kernel of the logits' gradients, a row, "
            "on training samples; below, the validation score."
        )
        figure = similarity_figure(panels, group.look)
        drawn.append(Drawn(f"{group.name}_mgs", "analysis", caption, figure))
        rows = tables.setdefault(group.where, [])
        rows += [(m, group.level, *_row(found)) for m, found in by_method.items()]
    note = (
        "Smaller: the gradients of different samples and outputs are more alike. In evaluation "
        "mode, on the same samples for all methods; bands and ±: one standard deviation over "
        "seeds. The table has the last epoch that was measured."
    )
    columns = ("method", "level", "seeds", "epoch", *_METRICS.values())
    return Analysis("mgs", TITLE, tuple(drawn), columns, tables, note)


def _recorded(trial: TrialResult, name: str) -> Series | None:
    rows = [row for row in trial.epochs() if name in row["recorded"]]
    if not rows:
        return None
    values = [float(row["recorded"][name]) for row in rows]  # what is not finite is text
    return Series(np.array([row["epoch"] for row in rows]), np.array(values))


def _series(trial: TrialResult, name: str) -> Series:
    found = _recorded(trial, name)
    assert found is not None
    return found


def _validation(trial: TrialResult) -> Series:
    rows = trial.epochs()
    values = [float(row["validation"][trial.selected_by]) for row in rows]
    return Series(np.array([row["epoch"] for row in rows]), np.array(values))


def _row(trials: Sequence[TrialResult]) -> tuple[str, ...]:
    """Return the last value of every seed, in words."""
    found = [[_series(trial, name) for trial in trials] for name in _METRICS]
    epochs = sorted({int(series.x[-1]) for series in found[0]})
    shown = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    last = (mean_sd([float(s.y[-1]) for s in of_metric], ".4g") for of_metric in found)
    return str(len(trials)), shown, *last
