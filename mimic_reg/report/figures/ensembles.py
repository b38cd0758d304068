"""The figure of ensembles: score against the number of members."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mimic_reg.report.figures.drawing import Look, drawing_style, legend, panels_below, styles


def ensemble_figure(
    curves: Mapping[str, Sequence[float]],
    members: Mapping[str, Sequence[float]],
    score: str,
    look: Look = None,
) -> Figure:
    """Draw the score of the first k members together, by method, and of each member alone.

    curves:  method → scores of ensembles of 1, 2, … members
    members: method → scores of the members, which are drawn at 1
    """
    drawn = look or styles(list(curves))
    with drawing_style():
        figure, (ax,) = panels_below(1, 3.4)
        for method, y in curves.items():
            style = drawn[method]
            alone = members[method]
            ax.plot([1] * len(alone), alone, style.marker, color=style.color, alpha=0.4)
            ax.plot(
                range(1, len(y) + 1),
                y,
                marker=style.marker,
                linestyle=style.dashes,
                color=style.color,
                label=method,
            )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_xlabel("members")
        ax.set_ylabel(f"test {score}")
        legend(figure, ax)
        return figure
