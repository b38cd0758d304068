"""Gradient norms against steps (figure 3): of the raw gradient, and of what is applied."""

from collections.abc import Sequence

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import level_groups, mean_sd
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.measured import Norms, Series, gradient_figure
from mimic_reg.report.results import Results, TrialResult

TITLE = "Gradient norms"
_RAW, _APPLIED = "gradient_norm", "applied_gradient_norm"


def analyse(results: Results) -> Analysis:
    """The norms that every history holds.

    Raises:
        InputError: no history holds any.
    """
    known = [t for t in results.trials if read(t) is not None]
    if not known:
        raise InputError("No history holds gradient norms: history.jsonl is missing or empty.")
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in level_groups(results, known):
        norms = {
            m: [n for t in found if (n := read(t)) is not None]
            for m, found in group.by_method().items()
        }
        caption = (
            f"{group.at}: L2 norm over all parameters, (a) of the raw gradient and (b) of the "
            "gradient that the optimiser applied."
        )
        figure = gradient_figure(norms, group.look)
        drawn.append(Drawn(f"{group.name}_gradients", "analysis", caption, figure))
        rows = tables.setdefault(group.where, [])
        rows += [(m, group.level, *_row(found)) for m, found in norms.items()]
    note = (
        "Of single mini-batches, as recorded every 50 steps; means over seeds (faint) and their "
        "moving means. Table: medians of the first and of the last tenth of what was recorded."
    )
    columns = (
        "method",
        "level",
        "seeds",
        "raw, first",
        "raw, last",
        "applied, first",
        "applied, last",
    )
    return Analysis("gradients", TITLE, tuple(drawn), columns, tables, note)


def read(trial: TrialResult) -> Norms | None:
    """The norms that a history holds; None if it holds none."""
    rows = [row for row in trial.history() if row["event"] == "steps"]
    if not rows:
        return None
    steps = np.array([row["step"] for row in rows])
    raw, applied = (
        Series(steps, np.array([float(row[name]) for row in rows])) for name in (_RAW, _APPLIED)
    )
    return Norms(raw, applied)


def _row(norms: Sequence[Norms]) -> tuple[str, ...]:
    cells = [str(len(norms))]
    for name in ("raw", "applied"):
        values = [getattr(n, name).y for n in norms]
        cells += [mean_sd([_median(y[: _tenth(y)]) for y in values], ".3f")]
        cells += [mean_sd([_median(y[-_tenth(y) :]) for y in values], ".3f")]
    return tuple(cells)


def _median(y: np.ndarray) -> float:
    return float(np.median(y))


def change(y: np.ndarray) -> float:
    """The median of the last tenth of y (N,) minus that of the first."""
    return _median(y[-_tenth(y) :]) - _median(y[: _tenth(y)])


def _tenth(y: np.ndarray) -> int:
    return max(1, len(y) // 10)
