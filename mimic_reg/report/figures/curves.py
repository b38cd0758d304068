"""Figures of scores, training and predictions; each function returns a matplotlib Figure.

No single patient can be read from them: the curves need ten patients with samples of each class.
ROC curves have a grid of 101 points; calibration bins have ten samples of a class or more, or none.

look: the style of each method. Shapes: N samples, C labels.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from mimic_reg.errors import InputError
from mimic_reg.metrics.small_counts import LEAST, enough_of_each
from mimic_reg.report.figures.drawing import (
    DASHES,
    GRID,
    INK,
    Look,
    integer_epochs,
    levels_label,
    num_lines,
    panels_below,
    wrap,
)
from mimic_reg.report.formats import format_score_name, format_supervision
from mimic_reg.report.predictions import Predictions
from mimic_reg.report.results import TrialResult, method_order
from mimic_reg.report.tables import SPLIT, ScoreTable
from mimic_reg.settings import TrainingSize

ROC_POINTS = 101
NUM_BINS = 10
MIN_BINS = 4
TRUE_RISK = "true risk (best possible)"
MOST_LINES = 10  # lines that a reader can tell apart in one panel


def supervision_figure(
    table: ScoreTable,
    look: Look,
    best_possible: float | None = None,
    shown: Sequence[str] | None = None,
) -> Figure:
    """Draw mean score against supervision level with bands of ± 1 sd; for one level, all seeds.

    best_possible: a score that no model can be expected to exceed, drawn as a line
    shown:         methods with a line of their own; the means of the others are grey
    """
    if len(table.levels) == 1:
        return _dots(table, look, best_possible)
    with panels_below(1, 3.6) as (figure, (ax,)):
        for method in sorted(table.methods, key=lambda m: m in (shown or table.methods)):
            _draw_levels(ax, table, method, look, shown is None or method in shown)
        if best_possible is not None:
            ax.axhline(best_possible, color=INK, linewidth=1, linestyle=DASHES[2], label=TRUE_RISK)
        ax.set_xticks([level.value for level in table.levels])
        ax.set_xlabel(levels_label(table.levels))
        ax.set_ylabel(f"{SPLIT} {format_score_name(table.score)}")
    return figure


def _draw_levels(ax: Axes, table: ScoreTable, method: str, look: Look, own: bool) -> None:
    """Draw a method's means over levels, with a band (one seed: none); in grey if not `own`."""
    cells = [(level.value, table.cells.get((method, level))) for level in table.levels]
    found = [(x, cell.summary) for x, cell in cells if cell and cell.scores]
    if not found:
        return
    x = [position for position, _ in found]
    mean = np.array([summary.mean for _, summary in found])
    sd = np.array([summary.sd or 0.0 for _, summary in found])
    if not own:
        ax.plot(x, mean, color=GRID, linewidth=0.8)
        return
    if sd.any():
        ax.fill_between(x, mean - sd, mean + sd, color=look[method].color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, label=method, **look[method].points)


def _dots(table: ScoreTable, look: Look, best_possible: float | None) -> Figure:
    """Draw one level: a row for each method, a dot for each seed, a bar of mean ± sd."""
    (level,) = table.levels
    row_height = max(0.36, 0.2 * max(map(num_lines, table.methods)))
    with panels_below(1, 1.2 + row_height * len(table.methods)) as (figure, (ax,)):
        for row, method in enumerate(table.methods):
            scores = list(table.by_seed(level).get(method, {}).values())
            if not scores:
                at = ("axes fraction", "data")
                ax.annotate("undefined", (0.02, row), xycoords=at, va="center")
                continue
            summary, style = table.cells[method, level].summary, look[method]
            ax.errorbar(
                summary.mean, row, xerr=summary.sd, color=style.color, capsize=4, marker="|"
            )
            ax.plot(scores, [row] * len(scores), style.marker, color=style.color, alpha=0.55)
        if best_possible is not None:
            ax.axvline(best_possible, color=INK, linewidth=1, linestyle=DASHES[2], label=TRUE_RISK)
        ax.set_yticks(range(len(table.methods)), [wrap(m) for m in table.methods])
        ax.set_ylim(len(table.methods) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        name = format_score_name(table.score)
        ax.set_xlabel(f"{SPLIT} {name} at {format_supervision(level)}")
    return figure


def training_figure(trials: Sequence[TrialResult], supervision: TrainingSize, look: Look) -> Figure:
    """Draw training loss and validation score against epochs at a level, as means over seeds.

    Seeds can stop at different epochs; a mean ends where the first of them stops.

    Raises:
        InputError: there is no trial at this level.
    """
    kept = [t for t in trials if t.supervision == supervision]
    if not kept:
        raise InputError(f"There is no trial at {format_supervision(supervision)}.")
    by = kept[0].selected_by
    with panels_below(2, 2.5, sharex=True) as (figure, (losses, scores)):
        for method in method_order(kept):
            rows = [t.epochs() for t in kept if t.method == method]
            how: dict[str, Any] = {**look[method].line, "linewidth": 1.5}
            loss = _mean(rows, lambda row: row["loss"])
            epochs = np.arange(1, len(loss) + 1)
            losses.plot(epochs, loss, **how)
            scores.plot(epochs, _mean(rows, lambda row: row["validation"][by]), label=method, **how)
        losses.set_ylabel("training loss")
        scores.set_ylabel(f"validation {format_score_name(by)}")
        integer_epochs([scores])
    return figure


def _mean(histories: Sequence[list[dict[str, Any]]], value: Callable[..., Any]) -> np.ndarray:
    """Return (epochs,) the mean over seeds of a value, up to the end of the shortest history.

    A history has numbers that are not finite as text, and null for undefined ones.
    """
    common = min(len(rows) for rows in histories)
    found = [[value(row) for row in rows[:common]] for rows in histories]
    numbers = [[math.nan if v is None else float(v) for v in values] for values in found]
    return np.mean(numbers, axis=0)


def roc_points(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return (101,) true positive rates on even false positive rates."""
    false_rate, true_rate, _ = roc_curve(y.ravel(), p.ravel())
    points: np.ndarray = np.interp(np.linspace(0, 1, ROC_POINTS), false_rate, true_rate)
    points[0] = 0.0
    return points


def calibration_points(y: np.ndarray, p: np.ndarray, least: int = LEAST) -> np.ndarray | None:
    """Return (bins, 3): mean prediction, share of positives and count of bins of equal counts.

    There are up to ten bins. Equal predictions stay in one bin, and no bin has fewer than `least`.
    Neighbours are joined until each bin has `least` positives or more, or none, and so many
    negatives: counts must have a range. None if there are not enough samples for four bins before,
    or for two after that.
    """
    y, p = y.ravel(), p.ravel()
    order = np.argsort(p, kind="stable")
    y, p = y[order], p[order]
    size = max(least, math.ceil(len(p) / NUM_BINS))
    starts = [0]
    while (end := starts[-1] + size) < len(p):
        end = int(np.searchsorted(p, p[end - 1], side="right"))  # ties stay in the earlier bin
        if len(p) - end < least:
            break
        starts.append(end)
    if len(starts) < MIN_BINS:
        return None
    edges = _joined(y, [*starts, len(p)], least)
    bins = [(p[a:b].mean(), y[a:b].mean(), b - a) for a, b in itertools.pairwise(edges)]
    return np.array(bins) if len(bins) > 1 else None


def _joined(y: np.ndarray, edges: Sequence[int], least: int) -> list[int]:
    """Return the edges of bins of y that are kept, so that no bin has few of a class."""

    def few(a: int, b: int) -> bool:
        positives = int(y[a:b].sum())
        return any(0 < n < least for n in (positives, b - a - positives))

    kept = [edges[0]]
    for edge in edges[1:]:
        if not few(kept[-1], edge):
            kept.append(edge)
    while len(kept) > 1 and few(kept[-1], edges[-1]):  # the rest joins the bins before it
        kept.pop()
    return kept if kept[-1] == edges[-1] else [*kept, edges[-1]]


def _enough(each: Predictions) -> bool:
    """Return whether curves of these predictions are over ten patients of each class or more."""
    return enough_of_each(each.y.ravel(), np.repeat(each.subject, each.y.shape[1]))


def roc_figure(predictions: Mapping[str, Sequence[Predictions]], look: Look) -> Figure | None:
    """Draw the mean ROC curve of each method over its trials; None if classes are too small.

    Labels of a multilabel task are pooled.
    """
    curves = {
        method: [roc_points(each.y, each.p) for each in found if _enough(each)]
        for method, found in predictions.items()
    }
    if not any(curves.values()):
        return None
    grid = np.linspace(0, 1, ROC_POINTS)
    with panels_below(1, 4.4) as (figure, (ax,)):
        _square(ax, 1)
        for method, found in curves.items():
            if found:
                ax.plot(grid, np.mean(found, axis=0), label=method, **look[method].line)
        ax.set_ylim(0, 1.005)
        ax.set_xlabel("false positive rate (1 − specificity)")  # noqa: RUF001
        ax.set_ylabel("true positive rate (sensitivity)")
    return figure


def calibration_figure(
    predictions: Mapping[str, Sequence[Predictions]], look: Look
) -> Figure | None:
    """Draw observed share against predicted probability; None if bins are too small.

    The trials of a method are pooled; a bin has at least ten predictions of each trial.
    """
    curves = {method: _pooled_calibration(found) for method, found in predictions.items()}
    shown = {method: points for method, points in curves.items() if points is not None}
    if not shown:
        return None
    with panels_below(1, 4.4) as (figure, (ax,)):
        _square(ax, min(1.0, 1.08 * max(float(points[:, :2].max()) for points in shown.values())))
        for method, points in shown.items():
            ax.plot(points[:, 0], points[:, 1], markersize=5, label=method, **look[method].points)
        ax.set_xlabel("predicted probability (mean of a bin)")
        ax.set_ylabel("observed share of positives")
    return figure


def _square(ax: Axes, most: float) -> None:
    """Show shares from 0 to `most` on both axes, with the diagonal."""
    ax.plot([0, most], [0, most], color=INK, linewidth=0.9, linestyle=DASHES[2])
    ax.set_xlim(0, most)
    ax.set_ylim(0, most)
    ax.set_aspect("equal")


def _pooled_calibration(found: Sequence[Predictions]) -> np.ndarray | None:
    """Return bins over all trials of a method, which predict the same samples."""
    if not found or not all(map(_enough, found)):
        return None
    y = np.concatenate([each.y.ravel() for each in found])
    p = np.concatenate([each.p.ravel() for each in found])
    return calibration_points(y, p, LEAST * len(found))
