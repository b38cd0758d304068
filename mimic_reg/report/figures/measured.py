"""Figures of the analyses: curvature, similarity, gradients, deviations, ensembles.

Each function returns a matplotlib Figure. Lines over epochs or steps are means over seeds, as far
as all seeds go; bands are ± 1 standard deviation. look: the style of each method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mimic_reg.metrics.deviations import DEVIATION_EDGES, Deviations
from mimic_reg.report.figures.drawing import (
    DASHES,
    INK,
    Look,
    Style,
    integer_epochs,
    logarithmic,
    panels_below,
)

SMOOTHED = 40  # lines over steps are moving means over 1/40 of their points


@dataclass(frozen=True)
class Series:
    """Numbers of one fit: `y` (N,) at the epochs or steps `x` (N,), ascending."""

    x: np.ndarray
    y: np.ndarray


def common(found: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
    """Return the x (N,) that all series have, and their y (seeds, N) there."""
    x = found[0].x
    for series in found[1:]:
        x = np.intersect1d(x, series.x)
    return x, np.stack([series.y[np.isin(series.x, x)] for series in found])


def moving_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of up to `window` values around each of y (N,); fewer at the ends."""
    kernel = np.ones(window)
    return np.convolve(y, kernel, "same") / np.convolve(np.ones(len(y)), kernel, "same")


def trace_figure(traces: Mapping[str, Sequence[Series]], bound: float | None, look: Look) -> Figure:
    """Draw the trace of the Hessian against epochs; methods measured once are single points.

    bound: 2 / learning rate, drawn for reference
    """
    with panels_below(1, 3.4) as (figure, (ax,)):
        lowest = min(float(s.y.min()) for found in traces.values() for s in found)
        for method, found in traces.items():
            _draw_mean(ax, found, look[method], method)
        if bound is not None:
            ax.axhline(bound, color=INK, linewidth=1, linestyle=DASHES[2])
            at = ax.get_yaxis_transform()  # x as a share of the axis
            text = "2 / learning rate"
            ax.text(1, bound, text, transform=at, ha="right", va="bottom", fontsize=9)
        # a trace below zero, where the loss curves downwards, has no logarithm
        ax.set_yscale("log" if lowest > 0 else "symlog")
        logarithmic(ax.yaxis)
        ax.set_ylabel("trace of the Hessian")
        integer_epochs([ax])
    return figure


def _draw_mean(
    ax: Axes, found: Sequence[Series], style: Style, label: str, positive: bool = True
) -> None:
    """Draw the mean of the seeds with several points, its band, and a dot for each other seed.

    positive: the axis is logarithmic: a band that would reach below zero ends at its line
    """
    curves = [series for series in found if len(series.x) > 1]
    dots = [series for series in found if len(series.x) == 1]
    how: dict[str, Any] = {"color": style.color, "marker": style.marker}
    if dots:
        x, y = (np.concatenate([getattr(s, axis) for s in dots]) for axis in ("x", "y"))
        ax.plot(x, y, linestyle="", label=label, **how)
    if not curves:
        return
    x, y = common(curves)
    mean = y.mean(0)
    if len(y) > 1:
        sd = y.std(0, ddof=1)
        low = np.where((mean > sd) | (not positive), mean - sd, mean)
        ax.fill_between(x, low, mean + sd, color=style.color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, markersize=4, label=None if dots else label, **style.points)


def similarity_figure(panels: Mapping[str, Mapping[str, Sequence[Series]]], look: Look) -> Figure:
    """Draw several numbers against epochs, a panel each.

    panels: label of the axis → method → a series for each seed; the numbers of the first panel are
            positive, and its axis is logarithmic if they span more than a decade
    """
    with panels_below(len(panels), 2.3, sharex=True) as (figure, axes):
        for ax, (label, found) in zip(axes, panels.items(), strict=True):
            for method, seeds in found.items():
                _draw_mean(ax, seeds, look[method], method, positive=ax is axes[0])
            ax.set_ylabel(label)
        first = np.concatenate([line.get_ydata() for line in axes[0].lines])
        if first.max() > 10 * first.min() > 0:
            axes[0].set_yscale("log")
            logarithmic(axes[0].yaxis)
        integer_epochs(axes[-1:])
    return figure


@dataclass(frozen=True)
class Norms:
    """Gradient norms of one fit against steps: of the raw gradient and of the applied one."""

    raw: Series
    applied: Series


def gradient_figure(norms: Mapping[str, Sequence[Norms]], look: Look) -> Figure:
    """Draw norms of the raw gradient (a) and of the gradient that the optimiser applied (b)."""
    with panels_below(2, 2.5, sharex=True) as (figure, axes):
        names = {"raw": "(a) raw gradient", "applied": "(b) applied gradient"}
        for ax, (name, title) in zip(axes, names.items(), strict=True):
            for method, found in norms.items():
                _draw_smooth(ax, [getattr(n, name) for n in found], look[method], method)
            ax.set_title(title, loc="left")
            ax.set_ylabel("L2 norm")
            ax.set_ylim(bottom=0)
        axes[-1].set_xlabel("step")
        axes[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def _draw_smooth(ax: Axes, found: Sequence[Series], style: Style, label: str) -> None:
    x, y = common(found)
    mean = y.mean(0)
    ax.plot(x, mean, color=style.color, alpha=0.25, linewidth=0.7)
    ax.plot(x, moving_mean(mean, max(1, len(mean) // SMOOTHED)), label=label, **style.line)


def deviation_figure(found: Mapping[str, Sequence[Deviations]], look: Look) -> Figure:
    """Draw how many parameters moved by how much, means over seeds; both axes are logarithmic.

    The legend has the share that did not move at all, which a logarithmic axis cannot show.
    """
    with panels_below(1, 3.4, columns=1) as (figure, (ax,)):
        for method, seeds in found.items():
            counts = np.mean([d.counts for d in seeds], axis=0)
            still = format_share(float(np.mean([1 - d.moved / d.total for d in seeds])))
            filled = np.where(counts > 0, counts, np.nan)
            label = f"{method}: {still} did not move"
            ax.stairs(filled, DEVIATION_EDGES, linewidth=1.6, label=label, **look[method].line)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(_filled(found))
        ax.xaxis.set_major_locator(LogLocator(numticks=8))
        ax.xaxis.set_minor_locator(NullLocator())
        logarithmic(ax.xaxis)
        logarithmic(ax.yaxis)
        ax.set_xlabel("distance from the start, |θ − θ₀|")  # noqa: RUF001
        ax.set_ylabel("parameters in a bin")
    return figure


def _filled(found: Mapping[str, Sequence[Deviations]]) -> tuple[float, float]:
    """Return the outer edges of the bins that are not empty."""
    counts = np.sum([d.counts for seeds in found.values() for d in seeds], axis=0)
    filled = np.flatnonzero(counts) if counts.any() else np.array([0, len(counts) - 1])
    return float(DEVIATION_EDGES[filled[0]]), float(DEVIATION_EDGES[filled[-1] + 1])


def format_share(share: float) -> str:
    """Return a share as a percentage; only exact shares are 0 % and 100 %."""
    percent = 100 * share
    if percent in (0, 100):
        return f"{percent:.0f} %"
    return f"{min(max(percent, 0.1), 99.9):.1f} %"


def ensemble_figure(
    curves: Mapping[str, Sequence[float]],
    members: Mapping[str, Sequence[float]],
    score: str,
    look: Look,
) -> Figure:
    """Draw the scores of ensembles of 1, 2, … members, and those of each member at 1."""
    with panels_below(1, 3.4) as (figure, (ax,)):
        for method, y in curves.items():
            style, alone = look[method], members[method]
            ax.plot([1] * len(alone), alone, style.marker, color=style.color, alpha=0.4)
            ax.plot(range(1, len(y) + 1), y, label=method, **style.points)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("members")
        ax.set_ylabel(f"test {score}")
    return figure
