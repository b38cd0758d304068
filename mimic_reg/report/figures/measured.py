"""Figures of the analyses: curvature, similarity, gradients, deviations, selection, thresholds.

Each function returns a matplotlib Figure. Lines over epochs or steps are means over seeds as far as
all of them go; bands are ± 1 standard deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from mimic_reg.metrics.deviations import DEVIATION_EDGES, Deviations
from mimic_reg.report.figures.drawing import (
    DASHES,
    INK,
    Look,
    Style,
    drawing_style,
    integer_epochs,
    legend,
    logarithmic,
    panels_below,
    styles,
    thousands,
)

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


def _draw_mean(
    ax: Axes, found: Sequence[Series], style: Style, label: str, positive: bool = True
) -> None:
    """A line with its band of the seeds that have several points; a dot for each other seed.

    positive: for a logarithmic axis: a band that would reach below zero ends at its line
    """
    how: dict[str, Any] = {"color": style.color, "label": label}
    curves = [series for series in found if len(series.x) > 1]
    dots = [series for series in found if len(series.x) == 1]
    if dots:
        x, y = (np.concatenate([getattr(s, axis) for s in dots]) for axis in ("x", "y"))
        ax.plot(x, y, style.marker, **how)
    if not curves:
        return
    if dots:
        del how["label"]
    x, y = common(curves)
    mean = y.mean(0)
    if len(y) > 1:
        sd = y.std(0, ddof=1)
        low = np.where((mean > sd) | (not positive), mean - sd, mean)
        ax.fill_between(x, low, mean + sd, color=style.color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, marker=style.marker, markersize=4, linestyle=style.dashes, **how)


# --- gradient similarity --------------------------------------------------------------------------


def similarity_figure(
    panels: Mapping[str, Mapping[str, Sequence[Series]]], look: Look = None
) -> Figure:
    """Several numbers against epochs by method, below each other.

    panels: what the axis shows → method → a series a seed; the first, whose numbers are positive,
            has a logarithmic axis where they span more than a decade
    """
    drawn = look or styles(list(next(iter(panels.values()))))
    with drawing_style():
        figure, axes = panels_below(len(panels), 2.3, sharex=True)
        for ax, (label, found) in zip(axes, panels.items(), strict=True):
            for method, seeds in found.items():
                _draw_mean(ax, seeds, drawn[method], method, positive=ax is axes[0])
            ax.set_ylabel(label)
        first = np.concatenate([line.get_ydata() for line in axes[0].lines])
        if first.max() > 10 * first.min() > 0:
            axes[0].set_yscale("log")
            logarithmic(axes[0].yaxis)
        integer_epochs(axes[-1:])
        legend(figure, axes[-1])
        return figure


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
        applied.set_title("(b) as applied", loc="left")
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
