"""Gradient norms against steps (figure 3): of the raw gradient, and of the applied one."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import Group, by_level, level_groups, mean_sd
from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.figures.measured import Norms, Series, gradient_figure
from mimic_reg.report.results import Results, TrialResult

TITLE = "Gradient norms"
_RAW, _APPLIED = "gradient_norm", "applied_gradient_norm"


def analyse(results: Results) -> Analysis:
    """Return the norms in the histories.

    Raises:
        InputError: no history has any.
    """
    known = [t for t in results.trials if read(t) is not None]
    if not known:
        raise InputError("No history has gradient norms: history.jsonl is missing or empty.")
    return by_level(
        "gradients",
        TITLE,
        level_groups(results, known),
        lambda trials: [n for t in trials if (n := read(t)) is not None],
        _draw,
        _row,
        ("seeds", "raw, first", "raw, last", "applied, first", "applied, last"),
        "Norms of single mini-batches, recorded every 50 steps. Lines: moving means of the means "
        "over seeds (faint). Table: medians of the first and of the last tenth of the norms.",
    )


def _draw(group: Group, norms: dict[str, list[Norms]]) -> tuple[Figure, str]:
    caption = (
        "L2 norm over all parameters, (a) of the raw gradient and (b) of the gradient that the "
        "optimiser applied."
    )
    return gradient_figure(norms, group.look), caption


def read(trial: TrialResult) -> Norms | None:
    """Return the norms in a history; None if it has none."""
    rows = [row for row in trial.history() if row["event"] == "steps"]
    if not rows:
        return None
    steps = np.array([row["step"] for row in rows])
    columns = ([float(row[name]) for row in rows] for name in (_RAW, _APPLIED))
    return Norms(*(Series(steps, np.array(column)) for column in columns))


def _row(norms: Sequence[Norms]) -> tuple[str, ...]:
    ends = [_ends(series.y) for n in norms for series in (n.raw, n.applied)]
    cells = [
        mean_sd([e[part] for e in ends[which::2]], ".3f") for which in (0, 1) for part in (0, 1)
    ]
    return (str(len(norms)), *cells)


def change(y: np.ndarray) -> float:
    """Return the median of the last tenth of y (N,) minus that of the first."""
    first, last = _ends(y)
    return last - first


def _ends(y: np.ndarray) -> tuple[float, float]:
    """Return the medians of the first and of the last tenth."""
    tenth = max(1, len(y) // 10)
    return float(np.median(y[:tenth])), float(np.median(y[-tenth:]))
