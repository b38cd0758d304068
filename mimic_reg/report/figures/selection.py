"""Figures of selected parameters: against epochs, supervision and thresholds, and by tensor.

Each function returns a matplotlib Figure. Points over seeds are means with 95 % intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mimic_reg.metrics.comparison import interval, summarise
from mimic_reg.report.figures.drawing import (
    DASHES,
    MARKERS,
    PALETTE,
    Look,
    integer_epochs,
    levels_label,
    logarithmic,
    panels_below,
    wrap,
)
from mimic_reg.report.figures.measured import Series
from mimic_reg.report.formats import format_level
from mimic_reg.report.results import TrialResult, method_order
from mimic_reg.settings import TrainingSize

NOW, EVER = "selected_now", "selected_ever"
_DRAWN = ((EVER, "ever", "-", "o"), (NOW, "now", DASHES[1], "s"))  # name, label, dashes, marker


def recorded(trial: TrialResult, name: str) -> Series | None:
    """Return a number that a trial's history has at some epochs; None if it has none."""
    rows = [row for row in trial.epochs() if name in row["recorded"]]
    if not rows:
        return None
    values = [float(row["recorded"][name]) for row in rows]  # text if not finite
    return Series(np.array([row["epoch"] for row in rows]), np.array(values))


def selection_figure(trials: Sequence[TrialResult]) -> Figure | None:
    """Draw selected parameters against epochs, a panel for each method and a line for each seed.

    Solid: selected in any step so far; dashed: selected at the end of the epoch. None if no trial
    has recorded a selection.
    """
    selecting = [t for t in trials if recorded(t, NOW) is not None]
    if not selecting:
        return None
    methods = method_order(selecting)
    levels = sorted({t.supervision for t in selecting})
    colors = {level: PALETTE[i % len(PALETTE)] for i, level in enumerate(levels)}
    with panels_below(len(methods), 2.5 + 0.4 / len(methods), labelled=0, columns=2) as (
        figure,
        panels,
    ):
        for ax, method in zip(panels, methods, strict=True):
            for trial in (t for t in selecting if t.method == method):
                for name, _, dashes, _ in _DRAWN:
                    if series := recorded(trial, name):
                        color = colors[trial.supervision]
                        ax.plot(series.x, series.y, color=color, linestyle=dashes, linewidth=1.3)
            _label(ax, method)
        integer_epochs(panels)
        for _, text, dashes, _ in _DRAWN:
            for level in levels:
                label = f"{text}, {format_level(level)}"
                panels[0].plot([], [], color=colors[level], linestyle=dashes, label=label)
    return figure


def selection_caption(where: str) -> str:
    """Return the caption of `selection_figure`; where: task and model."""
    return (
        f"{where}: parameters that a method has selected at least once (solid) and selects at the "
        "end of the epoch (dashed). One line for each seed."
    )


def _label(ax: Axes, method: str) -> None:
    ax.set_title(method, loc="left")
    ax.set_ylabel("selected parameters")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_ylim(bottom=0)


@dataclass(frozen=True)
class Counts:
    """Numbers of selected parameters of each seed: at the end of an epoch, in any step so far."""

    now: Sequence[float]
    ever: Sequence[float]


def supervision_selection_figure(counts: Mapping[str, Mapping[TrainingSize, Counts]]) -> Figure:
    """Draw selected parameters at the end against supervision levels, a panel for each method."""
    with panels_below(len(counts), 2.7, labelled=0) as (figure, panels):
        for ax, (method, by_level) in zip(panels, counts.items(), strict=True):
            positions = [level.value for level in by_level]
            _draw_counts(ax, positions, list(by_level.values()), PALETTE[0])
            ax.set_xticks(positions)
            _label(ax, method)
        panels[-1].set_xlabel(levels_label([level for found in counts.values() for level in found]))
    return figure


def _draw_counts(
    ax: Axes, x: Sequence[float], counts: Sequence[Counts], color: str, suffix: str = ""
) -> None:
    for _, name, dashes, marker in _DRAWN:
        style = {"color": color, "marker": marker, "linestyle": dashes}
        _draw_intervals(ax, x, [getattr(c, name) for c in counts], f"{name}{suffix}", style)


def _draw_intervals(
    ax: Axes,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    label: str,
    style: Mapping[str, Any],
) -> None:
    """Draw means over seeds with 95 % intervals, and a faint point for each seed."""
    shown = [(at, seeds) for at, seeds in zip(x, values, strict=True) if len(seeds)]
    if not shown:
        return
    means = [summarise(seeds).mean for _, seeds in shown]
    bounds = [interval(seeds) or (m, m) for (_, seeds), m in zip(shown, means, strict=True)]
    errors = np.abs(np.array(bounds).T - means)
    at = [position for position, _ in shown]
    ax.errorbar(
        at, means, yerr=errors, capsize=3, markersize=5, elinewidth=1.1, label=label, **style
    )
    faint = {**style, "linestyle": "", "alpha": 0.3, "markersize": 3}
    for position, seeds in shown:
        ax.plot([position] * len(seeds), seeds, **faint)


def tensor_figure(shares: Mapping[str, Mapping[str, float]], look: Look) -> Figure:
    """Draw the share of each tensor's parameters that were ever selected, a row for each tensor.

    shares: method → name of the tensor → share
    """
    names = list(dict.fromkeys(name for of_method in shares.values() for name in of_method))
    with panels_below(1, 1.0 + 0.25 * len(names)) as (figure, (ax,)):
        for method, of_method in shares.items():
            rows = [names.index(name) for name in of_method]
            percent = [100 * share for share in of_method.values()]
            style = look[method]
            ax.plot(percent, rows, style.marker, color=style.color, label=wrap(method))
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(axis="y", labelsize=8)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel("ever selected (%)")
    return figure


@dataclass(frozen=True)
class Threshold:
    """The trials of one threshold at one supervision level.

    label:      of the threshold on its axis
    scores:     of each seed, if defined
    counts:     of selected parameters in the best epoch
    num_trials: with and without a score
    """

    label: str
    scores: Sequence[float]
    counts: Counts
    num_trials: int


def threshold_figure(by_level: Mapping[TrainingSize, Sequence[Threshold]], score: str) -> Figure:
    """Draw score (a) and selected parameters (b) against the threshold, a line for each level.

    Thresholds have equal distances on the axis. All levels have the same thresholds.
    """
    labels = [threshold.label for threshold in next(iter(by_level.values()))]
    with panels_below(2, 2.6, sharex=True, columns=2) as (figure, (scores, counts)):
        for number, (level, found) in enumerate(by_level.items()):
            shift = 0.08 * (number - (len(by_level) - 1) / 2)  # keeps intervals apart
            at = [position + shift for position in range(len(labels))]
            color = PALETTE[number % len(PALETTE)]
            style = {"color": color, "marker": MARKERS[number % len(MARKERS)], "linestyle": "-"}
            _draw_intervals(scores, at, [t.scores for t in found], format_level(level), style)
            suffix = f", {format_level(level)}" if len(by_level) > 1 else ""
            _draw_counts(counts, at, [t.counts for t in found], color, suffix)
        scores.set_title("(a) score", loc="left")
        scores.set_ylabel(score)
        counts.set_title("(b) selection", loc="left")
        counts.set_ylabel("selected parameters")
        counts.set_yscale("symlog", linthresh=1)
        logarithmic(counts.yaxis)
        counts.set_ylim(bottom=0)
        values = [s for found in by_level.values() for t in found for s in t.scores]
        if scores.get_ylim()[1] > 1 and max(values, default=0) <= 1:
            scores.set_ylim(top=1)  # an interval can reach beyond the range of the score
        counts.set_xticks(range(len(labels)), labels)
        counts.set_xlabel("threshold τ")
    return figure
