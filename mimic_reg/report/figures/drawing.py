"""How figures look, and how they are written: PNG, SVG, or SVG within a page.

For screens from 400 pixels wide and for the colour-blind. Figures are matplotlib Figures, made
without pyplot and its state; lines differ in colour (Okabe and Ito's palette), marker and dashes.
"""

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mimic_reg.errors import InputError
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.store import atomic

# Okabe and Ito (2008), the darker ones first; yellow is left out, it fades on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PLAIN = "#7F7F7F"
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
INK = "#24292f"
GRID = "#d0d4d9"

WIDTH = 5.2  # inches; 500 pixels of a screen
LEGEND_WIDTH = 56  # characters that fit in it, beside the line

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
    """A style for each method: the baseline grey, the last ones the strongest colours."""
    n = len(PALETTE)
    drawn = {
        name: Style(PALETTE[i % n], MARKERS[(i + i // n) % n], DASHES[i // n % len(DASHES)])
        for i, name in enumerate(name for name in reversed(methods) if name != BASELINE)
    }
    return drawn | {BASELINE: Style(PLAIN, "X", "-")}


# method → style, the same in all figures of a report; None: a figure chooses by itself
Look = Mapping[str, Style] | None


# --- drawing --------------------------------------------------------------------------------------


def drawing_style() -> Any:
    """The style while a figure is drawn; nothing of it stays in matplotlib's settings."""
    return mpl.rc_context(_STYLE)


def panels_below(rows: int, height: float, *, sharex: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with `rows` panels below each other, each `height` inches high."""
    figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
    return figure, list(figure.subplots(rows, 1, squeeze=False, sharex=sharex)[:, 0])


def legend(figure: Figure, ax: Axes, columns: int | None = None) -> None:
    """A legend below the panels; the figure grows by its rows, so the panels keep their height."""
    handles, labels = ax.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    columns = columns or (3 if longest <= 14 else 2 if longest <= 26 else 1)
    columns = min(columns, len(labels))
    labels = [fold(label, LEGEND_WIDTH) for label in labels]
    rows = math.ceil((len(labels) + sum(label.count("\n") for label in labels)) / columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.22 * rows)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.6)


def integer_epochs(panels: Iterable[Axes]) -> None:
    """Label the x axes as epochs, which are whole numbers."""
    for ax in panels:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel("epoch")


def level_position(level: TrainingSize) -> float:
    """Where a training size stands on an axis: percent, or the number of samples."""
    return level.value


def levels_label(levels: Iterable[TrainingSize]) -> str:
    """What an axis of supervision levels shows."""
    shares = max(levels).is_share
    return "supervision (% of the training samples)" if shares else "training samples"


def unit_square(ax: Axes) -> None:
    """Show shares from 0 to 1 on both axes."""
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.005)
    ax.set_aspect("equal")


def ramp(count: int) -> list[str]:
    """Colours of ordered levels."""
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def thousands(value: float, position: int | None = None) -> str:
    """A whole number with separators, for ticks."""
    return f"{value:,.0f}"


def power_of_ten(value: float, position: int | None = None) -> str:
    """A power of ten, for the ticks of logarithmic axes: 1, 10, 100, else as 10⁻⁴."""
    if value in (0, 1, 10, 100):
        return f"{value:g}"
    exponent = round(math.log10(abs(value)))
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'-' if value < 0 else ''}10{digits}"


def logarithmic(axis: Axis) -> None:
    """Label a logarithmic axis at powers of ten, in plain text."""
    axis.set_major_formatter(FuncFormatter(power_of_ten))
    axis.set_minor_formatter(NullFormatter())


def wrap(name: str, width: int = 26) -> str:
    """A long method's name on several lines: each method on its own, options as they fit."""
    if len(name) <= 18:
        return name
    methods = name.replace(" + ", "\n+ ").split("\n")
    return "\n".join(fold(method, width) for method in methods)


def fold(text: str, width: int) -> str:
    """Lines of up to `width` characters; a word, "spectral_dropout.tau=0.05" say, stays whole."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def num_lines(name: str) -> int:
    """Lines that a method's name takes when it is wrapped."""
    return 1 + wrap(name).count("\n")


# --- saving ---------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG, by the path's suffix; the same figure gives the same bytes.

    Raises:
        InputError: another suffix.
    """
    writers: dict[str, Callable[[Figure], bytes]] = {".png": png, ".svg": svg}
    if path.suffix not in writers:
        raise InputError(f"A figure is written as .png or .svg, not as {path.suffix!r}.")
    atomic.make_folders(path.parent)
    atomic.write_bytes(path, writers[path.suffix](figure))
    return path


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as PNG on white."""
    stream = BytesIO()
    with drawing_style():
        figure.savefig(
            stream, format="png", dpi=dpi, facecolor="white", metadata={"Software": None}
        )
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file on white, with its text as text."""
    return _svg_text(figure, facecolor="white").encode()


def inline_svg(figure: Figure, prefix: str, caption: str) -> str:
    """The figure as an <svg> element for a page: transparent, in the page's text colour.

    prefix:  begins every id, since ids are unique in a page
    caption: what it shows, for those who do not see it
    """
    text = _svg_text(figure, facecolor="none")
    text = text[text.index("<svg ") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text, count=0)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1)
    text = text.replace("xlink:href", "href").replace(INK, "currentColor")
    text = text.replace(GRID, "var(--grid, #d0d4d9)")
    return re.sub(r' width="[\d.]+pt" height="[\d.]+pt"| height="[\d.]+pt"', "", text, count=1)


def _svg_text(figure: Figure, facecolor: str) -> str:
    stream = StringIO()
    with drawing_style():
        figure.savefig(stream, format="svg", facecolor=facecolor, metadata={"Date": None})
    return stream.getvalue()
