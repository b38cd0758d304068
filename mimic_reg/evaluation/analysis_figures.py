"""Figures of the analyses: curvature, gradients, deviations, selection, thresholds.

Each function returns a matplotlib Figure. Lines over epochs or steps are means over seeds as far as
all of them go; bands are ± 1 standard deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mimic_reg.evaluation.compare import interval, summarise
from mimic_reg.evaluation.drawing import (
    DASHES,
    INK,
    MARKERS,
    PALETTE,
    Look,
    Style,
    drawing_style,
    integer_epochs,
    legend,
    logarithmic,
    panels_below,
    ramp,
    styles,
    thousands,
    wrap,
)
from mimic_reg.evaluation.probes import DEVIATION_EDGES, Deviations
from mimic_reg.evaluation.results import TrialResult, method_order
from mimic_reg.evaluation.tables import format_level

SMOOTHED = 40  # a line over steps is a moving mean over this part of its points


@dataclass(frozen=True)
class Series:
    """Numbers of one fit: `y` (N,) at the epochs or steps `x` (N,), ascending."""

    x: np.ndarray
    y: np.ndarray


def common(found: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """x (N,) that all series have, and their y (seeds, N) there."""
    x = found[0].x
    for series in found[1:]:
        x = np.intersect1d(x, series.x)
    return x, np.stack([series.y[np.isin(series.x, x)] for series in found])


def moving_mean(y: np.ndarray, window: int) -> np.ndarray:
    """The mean of up to `window` values around each of y (N,); fewer at the ends."""
    kernel = np.ones(window)
    mean: np.ndarray = np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")
    return mean


# --- curvature ------------------------------------------------------------------------------------


def trace_figure(
    traces: Mapping[str, Sequence[Series]], bound: float | None = None, look: Look = None
) -> Figure:
    """Trace of the Hessian against epochs by method; methods measured once are single points.

    bound: 2 / learning rate, drawn for reference
    """
    drawn = look or styles(list(traces))
    with drawing_style():
        figure, (ax,) = panels_below(1, 3.4)
        lowest = min(float(s.y.min()) for found in traces.values() for s in found)
        for method, found in traces.items():
            _draw_mean(ax, found, drawn[method], method)
        if bound is not None:
            ax.axhline(bound, color=INK, linewidth=1, linestyle=DASHES[2])
            ax.annotate(
                "2 / learning rate",
                (1, bound),
                xycoords=("axes fraction", "data"),
                ha="right",
                xytext=(0, 3),
                textcoords="offset points",
                fontsize=9,
            )
        # below zero, where the loss curves downwards, there is no logarithm
        ax.set_yscale("log" if lowest > 0 else "symlog")
        logarithmic(ax.yaxis)
        ax.set_ylabel("trace of the Hessian")
        integer_epochs([ax])
        legend(figure, ax)
        return figure


def _draw_mean(ax: Axes, found: Sequence[Series], style: Style, label: str) -> None:
    """A line with its band where seeds share several points, else a dot a seed."""
    how: dict[str, Any] = {"color": style.color, "label": label}
    if all(len(series.x) == 1 for series in found):
        x, y = (np.concatenate([getattr(s, axis) for s in found]) for axis in ("x", "y"))
        ax.plot(x, y, style.marker, **how)
        return
    x, y = common(found)
    mean = y.mean(0)
    if len(y) > 1:
        sd = y.std(0, ddof=1)
        low = np.where(mean > sd, mean - sd, mean)  # below zero there is no logarithm
        ax.fill_between(x, low, mean + sd, color=style.color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, marker=style.marker, markersize=4, linestyle=style.dashes, **how)


# --- gradients ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Norms:
    """Gradient norms of one fit against steps: of the raw gradient, and of what is applied."""

    raw: Series
    applied: Series


def gradient_figure(norms: Mapping[str, Sequence[Norms]], look: Look = None) -> Figure:
    """Norms of the raw gradient (a) and of the gradient that the optimiser applied (b)."""
    drawn = look or styles(list(norms))
    with drawing_style():
        figure, (raw, applied) = panels_below(2, 2.5, sharex=True)
        for method, found in norms.items():
            _draw_smooth(raw, [n.raw for n in found], drawn[method], method)
            _draw_smooth(applied, [n.applied for n in found], drawn[method], method)
        raw.set_title("(a) raw gradient", loc="left")
        applied.set_title("(b) as applied: masked by ITPS", loc="left")
        for ax in (raw, applied):
            ax.set_ylabel("L2 norm")
            ax.set_ylim(bottom=0)
        applied.set_xlabel("step")
        applied.xaxis.set_major_formatter(FuncFormatter(thousands))
        legend(figure, applied)
        return figure


def _draw_smooth(ax: Axes, found: Sequence[Series], style: Style, label: str) -> None:
    x, y = common(found)
    mean = y.mean(0)
    smooth = moving_mean(mean, max(1, len(mean) // SMOOTHED))
    ax.plot(x, mean, color=style.color, alpha=0.25, linewidth=0.7)
    ax.plot(x, smooth, color=style.color, linestyle=style.dashes, label=label)


# --- deviations -----------------------------------------------------------------------------------


def deviation_figure(found: Mapping[str, Sequence[Deviations]], look: Look = None) -> Figure:
    """How many parameters moved by how much, by method, means over seeds; axes are logarithmic.

    The legend tells the share that did not move at all, which a logarithm cannot show.
    """
    drawn = look or styles(list(found))
    with drawing_style():
        figure, (ax,) = panels_below(1, 3.4)
        for method, seeds in found.items():
            counts = np.mean([d.counts for d in seeds], axis=0)
            still = np.mean([1 - d.moved / d.total for d in seeds])
            style = drawn[method]
            ax.stairs(
                np.where(counts > 0, counts, np.nan),
                DEVIATION_EDGES,
                color=style.color,
                linestyle=style.dashes,
                linewidth=1.6,
                label=f"{method}: {format_share(float(still))} did not move",
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(_filled(found))
        ax.xaxis.set_major_locator(LogLocator(numticks=8))
        ax.xaxis.set_minor_locator(NullLocator())
        logarithmic(ax.xaxis)
        logarithmic(ax.yaxis)
        ax.set_xlabel("distance from the start, |θ − θ₀|")  # noqa: RUF001
        ax.set_ylabel("parameters in a bin")
        legend(figure, ax, 1)
        return figure


def _filled(found: Mapping[str, Sequence[Deviations]]) -> tuple[float, float]:
    """The outer edges of the bins that are not empty."""
    counts = np.sum([d.counts for seeds in found.values() for d in seeds], axis=0)
    filled = np.flatnonzero(counts)
    if not len(filled):
        return float(DEVIATION_EDGES[0]), float(DEVIATION_EDGES[-1])
    return float(DEVIATION_EDGES[filled[0]]), float(DEVIATION_EDGES[filled[-1] + 1])


def format_share(share: float) -> str:
    """A share as a percentage, exact where it is nothing or everything."""
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{min(max(percent, 0.1), 99.9):.1f} %"


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


def supervision_selection_figure(counts: Mapping[str, Mapping[float, Counts]]) -> Figure:
    """Selected parameters at the end against supervision levels; a panel a method."""
    with drawing_style():
        figure, panels = panels_below(len(counts), 2.7)
        for ax, (method, by_level) in zip(panels, counts.items(), strict=True):
            _draw_counts(ax, [100 * level for level in by_level], list(by_level.values()), 0)
            ax.set_xticks([100 * level for level in by_level])
            ax.set_title(method, loc="left")
            ax.set_ylabel("selected parameters")
            ax.yaxis.set_major_formatter(FuncFormatter(thousands))
            ax.set_ylim(bottom=0)
        panels[-1].set_xlabel("supervision (% of the training samples)")
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


def threshold_figure(by_level: Mapping[float, Sequence[Threshold]], score: str) -> Figure:
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
