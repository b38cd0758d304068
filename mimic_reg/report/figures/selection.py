"""Figures of selected parameters: against epochs, supervision and thresholds, by tensor.

Each function returns a matplotlib Figure. Points over seeds are means with 95 % intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mimic_reg.metrics.comparison import interval, summarise
from mimic_reg.report.figures.drawing import (
    DASHES,
    MARKERS,
    PALETTE,
    Look,
    drawing_style,
    integer_epochs,
    legend,
    level_position,
    levels_label,
    logarithmic,
    panels_below,
    ramp,
    styles,
    thousands,
    wrap,
)
from mimic_reg.report.figures.measured import Series
from mimic_reg.report.formats import format_level
from mimic_reg.report.results import TrialResult, method_order
from mimic_reg.settings import TrainingSize

# --- selection ------------------------------------------------------------------------------------

NOW, EVER = "selected_now", "selected_ever"


def selection_figure(trials: Sequence[TrialResult], total: int | None = None) -> Figure | None:
    """Selected parameters against epochs, a line a seed; None where no trial records a selection.

    A panel a method; solid: selected in any step so far; dashed: selected at the epoch's end.

    total: trainable parameters, for a second axis with their share
    """
    recorded = {
        m: found
        for m in method_order(trials)
        if (found := [t for t in trials if t.method == m and selected(t, NOW) is not None])
    }
    if not recorded:
        return None
    levels = sorted({t.supervision for found in recorded.values() for t in found})
    colors = dict(zip(levels, ramp(len(levels)), strict=True))
    with drawing_style():
        figure, panels = panels_below(len(recorded), 2.5 + 0.4 / len(recorded))
        for ax, (method, found) in zip(panels, recorded.items(), strict=True):
            for trial in found:
                _draw_selection(ax, trial, colors[trial.supervision])
            ax.set_title(method, loc="left")
            ax.set_ylabel("selected parameters")
            ax.yaxis.set_major_formatter(FuncFormatter(thousands))
            ax.set_ylim(bottom=0)
            if total:
                _share_axis(ax, total)
        integer_epochs(panels)
        for level in levels:
            panels[0].plot([], [], color=colors[level], label=f"ever, {format_level(level)}")
        for level in levels:
            label = f"now, {format_level(level)}"
            panels[0].plot([], [], color=colors[level], linestyle=DASHES[1], label=label)
        legend(figure, panels[0], 2)
        return figure


def selected(trial: TrialResult, name: str) -> Series | None:
    """How many parameters a trial selects against epochs, by a name in its history."""
    rows = [row for row in trial.epochs() if name in row["recorded"]]
    if not rows:
        return None
    x = np.array([row["epoch"] for row in rows])
    return Series(x, np.array([row["recorded"][name] for row in rows], dtype=float))


def _draw_selection(ax: Axes, trial: TrialResult, color: str) -> None:
    for name, dashes in ((EVER, "-"), (NOW, DASHES[1])):
        series = selected(trial, name)
        if series is not None:
            ax.plot(series.x, series.y, color=color, linestyle=dashes, linewidth=1.3)


def _share_axis(ax: Axes, total: int) -> None:
    """A second axis, in percent of all parameters."""

    def share(count: Any) -> Any:
        return 100 * count / total

    def count(share: Any) -> Any:
        return share * total / 100

    second = ax.secondary_yaxis("right", functions=(share, count))
    second.set_ylabel("% of all")
    second.spines["right"].set_visible(True)


@dataclass(frozen=True)
class Counts:
    """Numbers of selected parameters by seed: at the end of an epoch, and in any step so far."""

    now: Sequence[float]
    ever: Sequence[float]


def supervision_selection_figure(counts: Mapping[str, Mapping[TrainingSize, Counts]]) -> Figure:
    """Selected parameters at the end against supervision levels; a panel a method."""
    with drawing_style():
        figure, panels = panels_below(len(counts), 2.7)
        for ax, (method, by_level) in zip(panels, counts.items(), strict=True):
            positions = [level_position(level) for level in by_level]
            _draw_counts(ax, positions, list(by_level.values()), 0)
            ax.set_xticks(positions)
            ax.set_title(method, loc="left")
            ax.set_ylabel("selected parameters")
            ax.yaxis.set_major_formatter(FuncFormatter(thousands))
            ax.set_ylim(bottom=0)
        panels[-1].set_xlabel(levels_label([level for found in counts.values() for level in found]))
        legend(figure, panels[0])
        return figure


def _draw_counts(
    ax: Axes, x: Sequence[float], counts: Sequence[Counts], color: int, suffix: str = ""
) -> None:
    """Means with 95 % intervals, and a faint dot a seed: ever solid, now dashed."""
    for name, dashes, marker in (("ever", "-", "o"), ("now", DASHES[1], "s")):
        values = [list(getattr(c, name)) for c in counts]
        _draw_intervals(ax, x, values, PALETTE[color], dashes, marker, f"{name}{suffix}")


def _draw_intervals(
    ax: Axes,
    x: Sequence[float],
    values: Sequence[Sequence[float]],
    color: str,
    dashes: Any,
    marker: str,
    label: str,
) -> None:
    shown = [(at, seeds) for at, seeds in zip(x, values, strict=True) if len(seeds)]
    if not shown:
        return
    means = [summarise(seeds).mean for _, seeds in shown]
    bounds = [interval(seeds) or (m, m) for (_, seeds), m in zip(shown, means, strict=True)]
    below = [m - low for m, (low, _) in zip(means, bounds, strict=True)]
    above = [high - m for m, (_, high) in zip(means, bounds, strict=True)]
    at = [position for position, _ in shown]
    how: dict[str, Any] = {
        "color": color,
        "marker": marker,
        "linestyle": dashes,
        "label": label,
    }
    ax.errorbar(at, means, yerr=[below, above], capsize=3, markersize=5, elinewidth=1.1, **how)
    for position, seeds in shown:
        ax.plot([position] * len(seeds), seeds, marker, color=color, alpha=0.3, markersize=3)


def tensor_figure(shares: Mapping[str, Mapping[str, float]], look: Look = None) -> Figure:
    """Share of each tensor's parameters that were selected at least once; a row a tensor.

    shares: method → name of the tensor → share
    """
    names = list(dict.fromkeys(name for of_method in shares.values() for name in of_method))
    drawn = look or styles(list(shares))
    with drawing_style():
        figure, (ax,) = panels_below(1, 1.0 + 0.25 * len(names))
        for method, of_method in shares.items():
            rows = [names.index(name) for name in of_method]
            percent = [100 * share for share in of_method.values()]
            style = drawn[method]
            ax.plot(percent, rows, style.marker, color=style.color, label=wrap(method))
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(axis="y", labelsize=8)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(left=0)
        ax.set_xlabel("ever selected (%)")
        legend(figure, ax)
        return figure


# --- thresholds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Threshold:
    """The trials of one threshold at one supervision level.

    label:  of the threshold, as its axis shows it
    scores: by seed; counts: of selected parameters where the model was best
    """

    label: str
    scores: Sequence[float]
    counts: Counts = field(default_factory=lambda: Counts((), ()))


def threshold_figure(by_level: Mapping[TrainingSize, Sequence[Threshold]], score: str) -> Figure:
    """Score (a) and selected parameters (b) against the threshold, a line a supervision level.

    Thresholds stand at even distances. All levels have the same ones.
    """
    labels = [threshold.label for threshold in next(iter(by_level.values()))]
    x = list(range(len(labels)))
    with drawing_style():
        figure, (scores, counts) = panels_below(2, 2.6, sharex=True)
        for number, (level, found) in enumerate(by_level.items()):
            name = f", {format_level(level)}" if len(by_level) > 1 else ""
            shift = 0.08 * (number - (len(by_level) - 1) / 2)  # or intervals would cover each other
            at = [position + shift for position in x]
            color = PALETTE[number % len(PALETTE)]
            marker = MARKERS[number % len(MARKERS)]
            values = [threshold.scores for threshold in found]
            _draw_intervals(scores, at, values, color, "-", marker, format_level(level))
            _draw_counts(counts, at, [t.counts for t in found], number % len(PALETTE), name)
        scores.set_title("(a) score", loc="left")
        scores.set_ylabel(score)
        counts.set_title("(b) selection", loc="left")
        counts.set_ylabel("selected parameters")
        counts.set_yscale("symlog", linthresh=1)
        logarithmic(counts.yaxis)
        counts.set_ylim(bottom=0)
        if scores.get_ylim()[1] > 1 and all(
            s <= 1 for f in by_level.values() for t in f for s in t.scores
        ):
            scores.set_ylim(top=1)  # an interval may end where no score can be
        counts.set_xticks(x, labels)
        counts.set_xlabel("threshold τ")
        legend(figure, counts, 2)
        return figure
