"""Figures of scores, training and predictions; each function returns a matplotlib Figure.

Nothing lets a single patient be read off: ROC curves stand on a grid of 101 points and need ten
samples of either class, calibration bins hold at least ten samples.

Shapes: N samples, C labels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from mimic_reg.errors import InputError
from mimic_reg.report.figures.drawing import (
    DASHES,
    GRID,
    INK,
    WIDTH,
    Look,
    Style,
    drawing_style,
    integer_epochs,
    legend,
    level_position,
    levels_label,
    num_lines,
    panels_below,
    styles,
    unit_square,
    wrap,
)
from mimic_reg.report.formats import format_score_name, format_supervision
from mimic_reg.report.predictions import Predictions
from mimic_reg.report.results import TrialResult, method_order
from mimic_reg.report.tables import ScoreTable
from mimic_reg.settings import TrainingSize

MIN_COUNT = 10  # samples of a class, or in a bin, below which a curve would show patients
ROC_POINTS = 101
NUM_BINS = 10
MIN_BINS = 4
TRUE_RISK = "true risk (best possible)"
MOST_LINES = 10  # that one panel tells apart


# --- scores ---------------------------------------------------------------------------------------


def supervision_figure(
    table: ScoreTable, look: Look = None, best_possible: float | None = None
) -> Figure:
    """Mean score against supervision level with bands of ± 1 sd; one level: dots of each seed.

    Where there are too many methods to tell their lines apart, each has a panel.

    best_possible: a score that no model can be expected to pass: a line
    """
    drawn = look or styles(table.methods)
    if len(table.levels) == 1:
        return _dots(table, drawn, best_possible)
    if len(table.methods) > MOST_LINES:
        return _small_multiples(table, drawn, best_possible)
    with drawing_style():
        figure, (ax,) = panels_below(1, 3.6)
        for method in table.methods:
            _draw_levels(ax, table, method, drawn[method])
        if best_possible is not None:
            ax.axhline(best_possible, color=INK, linewidth=1, linestyle=DASHES[2], label=TRUE_RISK)
        ax.set_xticks([level_position(level) for level in table.levels])
        ax.set_xlabel(levels_label(table.levels))
        ax.set_ylabel(f"{table.split} {format_score_name(table.score)}")
        legend(figure, ax)
        return figure


def _small_multiples(
    table: ScoreTable, drawn: Mapping[str, Style], best_possible: float | None
) -> Figure:
    """A panel a method, two in a row: its line and band before the grey lines of the others."""
    rows = math.ceil(len(table.methods) / 2)
    titles = [wrap(method, 34) for method in table.methods]
    height = 1.25 + 0.16 * max(title.count("\n") for title in titles)
    with drawing_style():
        figure = Figure(figsize=(WIDTH, 0.6 + rows * height), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
        panels = list(grid.flat)
        for ax, method, title in zip(panels, table.methods, titles, strict=False):
            for other in table.methods:
                x, mean, _ = _levels(table, other)
                ax.plot(x, mean, color=GRID, linewidth=0.8)
            _draw_levels(ax, table, method, drawn[method])
            if best_possible is not None:
                ax.axhline(best_possible, color=INK, linewidth=0.8, linestyle=DASHES[2])
            ax.set_title(title, loc="left", fontsize=9)
            ax.grid(visible=False)
            ax.tick_params(labelsize=9)
        panels[0].set_xticks([level_position(level) for level in table.levels])
        for ax in panels[len(table.methods) :]:
            ax.set_visible(False)
            panels[len(table.methods) - 2].tick_params(labelbottom=True)
        figure.supxlabel(levels_label(table.levels), fontsize=11)
        figure.supylabel(f"{table.split} {format_score_name(table.score)}", fontsize=11)
        return figure


def _levels(table: ScoreTable, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions of a method's levels with their means and standard deviations; one seed: 0."""
    cells = [(level, table.cells.get((method, level))) for level in table.levels]
    found = [(level_position(level), cell.summary) for level, cell in cells if cell and cell.scores]
    x = np.array([level for level, _ in found])
    mean = np.array([summary.mean for _, summary in found])
    return x, mean, np.array([summary.sd or 0.0 for _, summary in found])


def _draw_levels(ax: Axes, table: ScoreTable, method: str, style: Style) -> None:
    x, mean, sd = _levels(table, method)
    if not len(x):
        return
    if sd.any():
        ax.fill_between(x, mean - sd, mean + sd, color=style.color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, color=style.color, marker=style.marker, linestyle=style.dashes, label=method)


def _dots(table: ScoreTable, drawn: Mapping[str, Style], best_possible: float | None) -> Figure:
    """One level: a row a method, a dot a seed, a bar of mean ± sd."""
    (level,) = table.levels
    with drawing_style():
        row_height = max(0.36, 0.2 * max(map(num_lines, table.methods)))
        figure, (ax,) = panels_below(1, 1.2 + row_height * len(table.methods))
        for row, method in enumerate(table.methods):
            scores = list(table.by_seed(level).get(method, {}).values())
            if not scores:
                at = ("axes fraction", "data")
                ax.annotate("undefined", (0.02, row), xycoords=at, va="center")
                continue
            summary = table.cells[method, level].summary
            color, marker = drawn[method].color, drawn[method].marker
            ax.errorbar(summary.mean, row, xerr=summary.sd, color=color, capsize=4, marker="|")
            ax.plot(scores, [row] * len(scores), marker, color=color, alpha=0.55)
        if best_possible is not None:
            ax.axvline(best_possible, color=INK, linewidth=1, linestyle=DASHES[2], label=TRUE_RISK)
            legend(figure, ax)
        ax.set_yticks(range(len(table.methods)), [wrap(m) for m in table.methods])
        ax.set_ylim(len(table.methods) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        name = format_score_name(table.score)
        ax.set_xlabel(f"{table.split} {name} at {format_supervision(level)}")
        return figure


# --- histories ------------------------------------------------------------------------------------


def training_figure(
    trials: Sequence[TrialResult], supervision: TrainingSize, look: Look = None
) -> Figure:
    """Training loss and validation score against epochs at a level, as means over seeds.

    Seeds stop at different epochs; a mean goes as far as all of them do.

    Raises:
        InputError: there is no trial at this level.
    """
    kept = [t for t in trials if t.supervision == supervision]
    if not kept:
        raise InputError(f"There is no trial at {format_supervision(supervision)}.")
    drawn = look or styles(method_order(trials))
    with drawing_style():
        figure, (losses, scores) = panels_below(2, 2.5, sharex=True)
        for method in method_order(kept):
            style = drawn[method]
            rows = [t.epochs() for t in kept if t.method == method]
            how = {"color": style.color, "linestyle": style.dashes, "linewidth": 1.5}
            losses.plot(_mean(rows, lambda row: row["loss"]), **how)
            selecting = kept[0].selected_by
            scores.plot(_mean(rows, lambda row, s=selecting: row["validation"][s]), **how)
            scores.plot([], [], label=method, **how)
        losses.set_ylabel("training loss")
        scores.set_ylabel(f"validation {format_score_name(kept[0].selected_by)}")
        integer_epochs([scores])
        legend(figure, scores)
        return figure


def _mean(histories: Sequence[list[dict[str, Any]]], value: Callable[..., Any]) -> np.ndarray:
    """(epochs,) the mean over seeds of a value of every row, up to the shortest history's end."""
    common = min(len(rows) for rows in histories)
    values = [[_real(value(row)) for row in rows[:common]] for rows in histories]
    mean: np.ndarray = np.mean(values, axis=0)
    return mean


def _real(value: float | str | None) -> float:
    """A number of the history, where what is not finite is text."""
    return math.nan if value is None else float(value)


# --- predictions ----------------------------------------------------------------------------------


def roc_points(y: np.ndarray, p: np.ndarray) -> np.ndarray | None:
    """(101,) true positive rates on even false positive rates; None below ten of either class."""
    y, p = y.ravel(), p.ravel()
    positives = int((y > 0).sum())
    if min(positives, len(y) - positives) < MIN_COUNT:
        return None
    false_rate, true_rate, _ = roc_curve(y, p)
    points: np.ndarray = np.interp(np.linspace(0, 1, ROC_POINTS), false_rate, true_rate)
    points[0] = 0.0
    return points


def calibration_points(y: np.ndarray, p: np.ndarray, least: int = MIN_COUNT) -> np.ndarray | None:
    """(bins, 3) mean prediction, share of positives and count of up to ten bins of equal counts.

    Equal predictions stay together and no bin holds fewer than `least`; None where there are not
    enough for four bins.
    """
    y, p = y.ravel(), p.ravel()
    order = np.argsort(p, kind="stable")
    y, p = y[order], p[order]
    size = max(least, math.ceil(len(p) / NUM_BINS))
    starts = [0]
    while (end := starts[-1] + size) < len(p):
        end = int(np.searchsorted(p, p[end - 1], side="right"))  # ties go with the earlier bin
        if len(p) - end < least:
            break
        starts.append(end)
    if len(starts) < MIN_BINS:
        return None
    bins = [
        (p[a:b].mean(), y[a:b].mean(), b - a)
        for a, b in zip(starts, [*starts[1:], len(p)], strict=True)
    ]
    return np.array(bins)


def roc_figure(
    predictions: Mapping[str, Sequence[Predictions]], look: Look = None
) -> Figure | None:
    """Mean ROC curve of each method over its trials; None where classes are too small to show.

    Labels of a multilabel task are pooled.
    """
    curves = {
        method: [c for each in found if (c := roc_points(each.y, each.p)) is not None]
        for method, found in predictions.items()
    }
    if not any(curves.values()):
        return None
    drawn = look or styles(list(predictions))
    grid = np.linspace(0, 1, ROC_POINTS)
    with drawing_style():
        figure, (ax,) = panels_below(1, 4.4)
        ax.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=DASHES[2])
        for method, found in curves.items():
            if found:
                style = drawn[method]
                mean = np.mean(found, axis=0)
                ax.plot(grid, mean, color=style.color, linestyle=style.dashes, label=method)
        unit_square(ax)
        ax.set_xlabel("false positive rate (1 − specificity)")  # noqa: RUF001
        ax.set_ylabel("true positive rate (sensitivity)")
        legend(figure, ax)
        return figure


def calibration_figure(
    predictions: Mapping[str, Sequence[Predictions]], look: Look = None
) -> Figure | None:
    """Observed share against predicted probability; None where bins would be too small to show.

    A method's trials are pooled; a bin holds at least ten predictions a trial.
    """
    curves = {method: _pooled_calibration(found) for method, found in predictions.items()}
    shown = {method: points for method, points in curves.items() if points is not None}
    if not shown:
        return None
    drawn = look or styles(list(predictions))
    with drawing_style():
        figure, (ax,) = panels_below(1, 4.4)
        most = min(1.0, 1.08 * max(float(points[:, :2].max()) for points in shown.values()))
        ax.plot([0, most], [0, most], color=INK, linewidth=0.9, linestyle=DASHES[2])
        for method, points in shown.items():
            style = drawn[method]
            how = {"color": style.color, "marker": style.marker, "linestyle": style.dashes}
            ax.plot(points[:, 0], points[:, 1], markersize=5, label=method, **how)
        ax.set_xlim(0, most)
        ax.set_ylim(0, most)
        ax.set_aspect("equal")
        ax.set_xlabel("predicted probability (mean of a bin)")
        ax.set_ylabel("observed share of positives")
        legend(figure, ax)
        return figure


def _pooled_calibration(found: Sequence[Predictions]) -> np.ndarray | None:
    """Bins over all trials of a method; as each predicts the same samples, `least` counts them."""
    if not found:
        return None
    y = np.concatenate([each.y.ravel() for each in found])
    p = np.concatenate([each.p.ravel() for each in found])
    return calibration_points(y, p, MIN_COUNT * len(found))
