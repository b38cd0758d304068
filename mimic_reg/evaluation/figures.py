"""Figures of results, for screens from 400 pixels wide and for the colour-blind.

Every function returns a matplotlib Figure, made without pyplot and its state. Lines differ in
colour (Okabe and Ito's palette), marker and dashes. Nothing lets a single patient be read off: ROC
curves stand on a grid of 101 points and need ten samples of either class, calibration bins hold
at least ten samples.

Shapes: N samples, C labels.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sklearn.metrics import roc_curve

from mimic_reg import tasks
from mimic_reg.errors import InputError
from mimic_reg.evaluation.results import BASELINE, TrialResult, method_order
from mimic_reg.evaluation.tables import (
    ScoreTable,
    format_level,
    format_score_name,
)
from mimic_reg.storage import Store

# Okabe and Ito (2008), the darker ones first; yellow is left out, it fades on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PLAIN = "#7F7F7F"
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
INK = "#24292f"
GRID = "#d0d4d9"

WIDTH = 5.2  # inches; 500 pixels of a screen
MIN_COUNT = 10  # samples of a class, or in a bin, below which a curve would show patients
ROC_POINTS = 101
NUM_BINS = 10
MIN_BINS = 4

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "mimic-reg",
    "path.simplify": True,
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    color: str
    marker: str
    dashes: Any


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """A style for each method: the baseline grey, the last ones (ITPS) the strongest colours."""
    n = len(PALETTE)
    drawn = {
        name: Style(PALETTE[i % n], MARKERS[(i + i // n) % n], DASHES[i // n % len(DASHES)])
        for i, name in enumerate(name for name in reversed(methods) if name != BASELINE)
    }
    return drawn | {BASELINE: Style(PLAIN, "X", "-")}


# method → style, the same in all figures of a report; None: a figure chooses by itself
Look = Mapping[str, Style] | None


# --- scores ---------------------------------------------------------------------------------------


def supervision_figure(table: ScoreTable, look: Look = None) -> Figure:
    """Mean score against supervision level with bands of ± 1 sd; one level: dots of each seed."""
    if len(table.levels) == 1:
        return _dots(table, look or styles(table.methods))
    with _drawing():
        figure, (ax,) = _axes(1, 3.6)
        drawn = look or styles(table.methods)
        for method in table.methods:
            _draw_levels(ax, table, method, drawn[method])
        ax.set_xticks([100 * level for level in table.levels])
        ax.set_xlabel("supervision (% of the training samples)")
        ax.set_ylabel(f"{table.split} {format_score_name(table.score)}")
        _legend(figure, ax)
        return figure


def _draw_levels(ax: Axes, table: ScoreTable, method: str, style: Style) -> None:
    cells = [(level, table.cells.get((method, level))) for level in table.levels]
    found = [(100 * level, cell.summary) for level, cell in cells if cell and cell.scores]
    if not found:
        return
    x = np.array([level for level, _ in found])
    mean = np.array([summary.mean for _, summary in found])
    sd = np.array([summary.sd or 0.0 for _, summary in found])
    if sd.any():
        ax.fill_between(x, mean - sd, mean + sd, color=style.color, alpha=0.14, linewidth=0)
    ax.plot(x, mean, color=style.color, marker=style.marker, linestyle=style.dashes, label=method)


def _dots(table: ScoreTable, drawn: Mapping[str, Style]) -> Figure:
    """One level: a row a method, a dot a seed, a bar of mean ± sd."""
    (level,) = table.levels
    with _drawing():
        figure, (ax,) = _axes(1, 1.2 + 0.36 * len(table.methods))
        for row, method in enumerate(table.methods):
            scores = list(table.by_seed(level).get(method, {}).values())
            if not scores:
                ax.annotate("undefined", (0.02, row), ("axes fraction", "data"), va="center")
                continue
            summary = table.cells[method, level].summary
            color, marker = drawn[method].color, drawn[method].marker
            ax.errorbar(summary.mean, row, xerr=summary.sd, color=color, capsize=4, marker="|")
            ax.plot(scores, [row] * len(scores), marker, color=color, alpha=0.55)
        ax.set_yticks(range(len(table.methods)), [_wrap(m) for m in table.methods])
        ax.set_ylim(len(table.methods) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(5))
        name = format_score_name(table.score)
        ax.set_xlabel(f"{table.split} {name} at {format_level(level)} supervision")
        return figure


# --- histories ------------------------------------------------------------------------------------


def selection_figure(trials: Sequence[TrialResult]) -> Figure | None:
    """Selected parameters against epochs, a line a seed; None where no trial records a selection.

    A panel a method; solid: selected in any step so far; dashed: selected at the epoch's end.
    """
    recorded = {
        m: found
        for m in method_order(trials)
        if (found := [t for t in trials if t.method == m and _has_selection(t)])
    }
    if not recorded:
        return None
    levels = sorted({t.supervision for found in recorded.values() for t in found})
    colors = dict(zip(levels, _ramp(len(levels)), strict=True))
    with _drawing():
        figure, panels = _axes(len(recorded), 2.5 + 0.4 / len(recorded))
        for ax, (method, found) in zip(panels, recorded.items(), strict=True):
            for trial in found:
                _draw_selection(ax, trial, colors[trial.supervision])
            ax.set_title(method, loc="left")
            ax.set_ylabel("selected parameters")
            ax.yaxis.set_major_formatter(FuncFormatter(_thousands))
            ax.set_ylim(bottom=0)
        _integer_epochs(panels)
        for level in levels:
            panels[0].plot([], [], color=colors[level], label=f"ever, {format_level(level)}")
        for level in levels:
            label = f"now, {format_level(level)}"
            panels[0].plot([], [], color=colors[level], linestyle=DASHES[1], label=label)
        _legend(figure, panels[0], 2)
        return figure


def _has_selection(trial: TrialResult) -> bool:
    return any("selected_now" in row["recorded"] for row in trial.epochs())


def _draw_selection(ax: Axes, trial: TrialResult, color: str) -> None:
    for name, dashes in (("selected_ever", "-"), ("selected_now", DASHES[1])):
        rows = [r for r in trial.epochs() if name in r["recorded"]]
        counts = [row["recorded"][name] for row in rows]
        ax.plot([r["epoch"] for r in rows], counts, color=color, linestyle=dashes, linewidth=1.3)


def training_figure(trials: Sequence[TrialResult], supervision: float, look: Look = None) -> Figure:
    """Training loss and validation score against epochs at a level, as means over seeds.

    Seeds stop at different epochs; a mean goes as far as all of them do.

    Raises:
        InputError: there is no trial at this level.
    """
    kept = [t for t in trials if t.supervision == supervision]
    if not kept:
        raise InputError(f"There is no trial at {format_level(supervision)} supervision.")
    drawn = look or styles(method_order(trials))
    with _drawing():
        figure, (losses, scores) = _axes(2, 2.5, sharex=True)
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
        _integer_epochs([scores])
        _legend(figure, scores)
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


@dataclass(frozen=True)
class Predictions:
    """Labels and predictions of the test samples of a trial; (N, C) each, without any id."""

    y: np.ndarray
    p: np.ndarray


def read_predictions(trial: TrialResult, store: Store, split: str = "test") -> Predictions:
    """A trial's predictions, joined with the labels by row; only label columns are read.

    Raises:
        InputError: the store is not the one the trial was trained on; predictions are missing, or
            point beyond the sample table.
    """
    if store.manifest["fingerprint"] != trial.fingerprint:
        raise InputError(f"{store.folder} is not the store that {trial.name} was trained on.")
    path = trial.folder / f"predictions_{split}.parquet"
    if not path.is_file():
        raise InputError(f"{trial.name} has no {path.name}. Run `mimic-reg evaluate` on it.")
    labels = list(tasks.get(trial.task).labels)
    table = store.scan(f"tasks/{trial.task}.parquet").select(labels).collect()
    predictions = pl.read_parquet(path)
    row = predictions["row"].to_numpy()
    if len(row) and int(row.max()) >= table.height:
        raise InputError(f"{path.name} of {trial.name} is not that of {store.folder}.")
    return Predictions(table[row].to_numpy(), predictions.drop("row").to_numpy())


def has_curves(task: str) -> bool:
    """Whether a task's predictions are probabilities of labels, which curves can be drawn of."""
    return task in tasks.names() and tasks.get(task).target in ("binary", "multilabel")


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
    with _drawing():
        figure, (ax,) = _axes(1, 4.4)
        ax.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=DASHES[2])
        for method, found in curves.items():
            if found:
                style = drawn[method]
                mean = np.mean(found, axis=0)
                ax.plot(grid, mean, color=style.color, linestyle=style.dashes, label=method)
        _unit_square(ax)
        ax.set_xlabel("false positive rate (1 − specificity)")  # noqa: RUF001
        ax.set_ylabel("true positive rate (sensitivity)")
        _legend(figure, ax)
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
    with _drawing():
        figure, (ax,) = _axes(1, 4.4)
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
        _legend(figure, ax)
        return figure


def _pooled_calibration(found: Sequence[Predictions]) -> np.ndarray | None:
    """Bins over all trials of a method; as each predicts the same samples, `least` counts them."""
    if not found:
        return None
    y = np.concatenate([each.y.ravel() for each in found])
    p = np.concatenate([each.p.ravel() for each in found])
    return calibration_points(y, p, MIN_COUNT * len(found))


# --- drawing --------------------------------------------------------------------------------------


def _drawing() -> Any:
    """The style while a figure is drawn; nothing of it stays in matplotlib's settings."""
    return mpl.rc_context(_STYLE)


def _axes(rows: int, height: float, *, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with `rows` panels below each other, each `height` inches high."""
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False, sharex=sharex)[:, 0])


def _legend(figure: Figure, ax: Axes, columns: int | None = None) -> None:
    """A legend below the panels; the figure grows by its rows, so the panels keep their height."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    columns = columns or (3 if longest <= 14 else 2 if longest <= 26 else 1)
    columns = min(columns, len(labels))
    rows = math.ceil(len(labels) / columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.22 * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def _integer_epochs(panels: Iterable[Axes]) -> None:
    for ax in panels:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel("epoch")


def _unit_square(ax: Axes) -> None:
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.005)
    ax.set_aspect("equal")


def _ramp(count: int) -> list[str]:
    """Colours of ordered levels."""
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _thousands(value: float, position: int | None = None) -> str:
    return f"{value:,.0f}"


def _wrap(name: str) -> str:
    return name.replace(" + ", "\n+ ") if len(name) > 18 else name


# --- saving ---------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG, by the path's suffix; the same figure gives the same bytes.

    Raises:
        InputError: another suffix.
    """
    writers: dict[str, Callable[[Figure], bytes]] = {".png": png, ".svg": svg}
    if path.suffix not in writers:
        raise InputError(f"A figure is written as .png or .svg, not as {path.suffix!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(writers[path.suffix](figure))
    return path


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG on white."""
    stream = BytesIO()
    with _drawing():
        figure.savefig(
            stream, format="png", dpi=dpi, facecolor="white", metadata={"Software": None}
        )
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file on white, with its text as text."""
    return _svg_text(figure, facecolor="white").encode()


def inline_svg(figure: Figure, prefix: str) -> str:
    """The figure as an <svg> element for a page: transparent, in the page's text colour.

    prefix: begins every id, since ids are unique in a page
    """
    text = _svg_text(figure, facecolor="none")
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text, count=0)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = text.replace("xlink:href", "href").replace(INK, "currentColor")
    text = text.replace(GRID, "var(--grid, #d0d4d9)")
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"| height="[\d.]+pt"', "", text, count=1)


def _svg_text(figure: Figure, facecolor: str) -> str:
    stream = StringIO()
    with _drawing():
        figure.savefig(stream, format="svg", facecolor=facecolor, metadata={"Date": None})
    return stream.getvalue()
