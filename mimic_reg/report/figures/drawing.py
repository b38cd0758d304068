"""How figures look, and how they are written: as PNG, SVG, or SVG within a page.

They suit screens from 400 pixels wide, and colour-blind readers: lines differ in colour (Okabe and
Ito's palette), marker and dashes. They are matplotlib Figures, made without the state of pyplot.
"""

import html
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

# Okabe and Ito (2008), darker colours first, without yellow, which is too faint on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
PLAIN = "#7F7F7F"
MARKERS = "osD^vP"
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)))
INK = "#24292f"
GRID = "#d0d4d9"

WIDTH = 5.2  # inches; 500 pixels of a screen
LEGEND_WIDTH = 56  # characters next to the line

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
    "text.parse_math": False,  # show dollar signs in names
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

    @property
    def line(self) -> dict[str, Any]:
        """Return arguments of a line without markers."""
        return {"color": self.color, "linestyle": self.dashes}

    @property
    def points(self) -> dict[str, Any]:
        """Return arguments of a line with markers."""
        return {**self.line, "marker": self.marker}


def styles(methods: Sequence[str]) -> dict[str, Style]:
    """Return a style for each method: grey for the baseline, the darkest for the last."""
    n = len(PALETTE)
    drawn = {
        name: Style(PALETTE[i % n], MARKERS[(i + i // n) % n], DASHES[i // n % len(DASHES)])
        for i, name in enumerate(name for name in reversed(methods) if name != BASELINE)
    }
    return drawn | {BASELINE: Style(PLAIN, "X", "-")}


Look = Mapping[str, Style]  # method → style, the same in all figures of a report


# --- drawing --------------------------------------------------------------------------------------


@contextmanager
def panels_below(
    rows: int,
    height: float,
    *,
    sharex: bool = False,
    labelled: int = -1,
    columns: int | None = None,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with panels below each other; apply the style, and add the legend at the end.

    height:   of each panel, in inches
    labelled: the panel whose lines the legend names, in so many columns
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, rows * height), layout="constrained")
        panels = list(figure.subplots(rows, 1, squeeze=False, sharex=sharex)[:, 0])
        yield figure, panels
        _add_legend(figure, panels[labelled], columns)


def _add_legend(figure: Figure, ax: Axes, columns: int | None) -> None:
    """Add a legend below the panels. The figure grows by its rows; the panels do not shrink."""
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
    """Label the x axes as epochs, with whole numbers."""
    for ax in panels:
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.set_xlabel("epoch")


def levels_label(levels: Iterable[TrainingSize]) -> str:
    """Return the label of an axis of training sizes."""
    shares = max(levels).is_share
    return "supervision (% of the training samples)" if shares else "training samples"


def power_of_ten(value: float, position: int | None = None) -> str:
    """Return a power of ten for ticks of logarithmic axes: 1, 10, 100, else such as 10⁻⁴."""
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
    """Return a long name on several lines: a line for each method, options as they fit."""
    if len(name) <= 18:
        return name
    methods = name.replace(" + ", "\n+ ").split("\n")
    return "\n".join(fold(method, width) for method in methods)


def fold(text: str, width: int) -> str:
    """Return lines of up to `width` characters; words such as "dropout.rate=0.5" stay whole."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def num_lines(name: str) -> int:
    """Return the number of lines of a wrapped name."""
    return 1 + wrap(name).count("\n")


# --- saving ---------------------------------------------------------------------------------------


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG or SVG file; the same figure always has the same bytes.

    Raises:
        InputError: the suffix of the path is another one.
    """
    writers: dict[str, Callable[[Figure], bytes]] = {".png": png, ".svg": svg}
    if path.suffix not in writers:
        raise InputError(f"A figure is written as .png or .svg, not as {path.suffix!r}.")
    atomic.make_folders(path.parent)
    atomic.write_bytes(path, writers[path.suffix](figure))
    return path


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return the figure as PNG on white."""
    stream = BytesIO()
    _write(figure, stream, "png", "white", "Software", dpi=dpi)
    return stream.getvalue()


def svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file on white, with selectable text."""
    return _svg_text(figure, facecolor="white").encode()


def inline_svg(figure: Figure, prefix: str, caption: str) -> str:
    """Return the figure as an <svg> element: transparent, in the text colour of the page.

    prefix:  start of every id, because ids must be unique in a page
    caption: description for screen readers
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
    _write(figure, stream, "svg", facecolor, "Date")
    return stream.getvalue()


def _write(
    figure: Figure, stream: Any, form: str, facecolor: str, left_out: str, **options: Any
) -> None:
    """Write without the metadata `left_out`, which would differ between runs."""
    with mpl.rc_context(_STYLE):
        figure.savefig(
            stream, format=form, facecolor=facecolor, metadata={left_out: None}, **options
        )
