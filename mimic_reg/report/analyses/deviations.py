"""How far parameters moved from where they started (figure 2), at the best epoch.

The start is not stored: seed and settings give it again, bit for bit.
"""

from collections.abc import Sequence

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.metrics.deviations import Deviations, deviations
from mimic_reg.report.analyses.base import level_groups, mean_sd, start_and_best
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.measured import deviation_figure
from mimic_reg.report.results import Results

TITLE = "Deviations of parameters"


def analyse(results: Results) -> Analysis:
    """Histograms of |θ - θ at the start|.

    Raises:
        InputError: there is no trial; a checkpoint is gone.
    """
    if not results.trials:
        raise InputError("No trial is finished: no parameter has moved yet.")
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in level_groups(results, results.trials):
        found = {
            method: [deviations(*start_and_best(t)) for t in trials]
            for method, trials in group.by_method().items()
        }
        caption = (
            f"{group.at}: distance of each parameter from its start, at the best epoch; ten "
            "bins a decade, means over seeds."
        )
        figure = deviation_figure(found, group.look)
        drawn.append(Drawn(f"{group.name}_deviations", "analysis", caption, figure))
        rows = tables.setdefault(group.where, [])
        rows += [(method, group.level, *_row(seeds)) for method, seeds in found.items()]
    columns = ("method", "level", "seeds", "moved", "of", "median distance", "largest")
    note = "Parameters that a method adds to the model are left out. ±: standard deviation."
    return Analysis("deviations", TITLE, tuple(drawn), columns, tables, note)


def _row(seeds: Sequence[Deviations]) -> tuple[str, ...]:
    return (
        str(len(seeds)),
        mean_sd([d.moved for d in seeds], ",.0f"),
        f"{seeds[0].total:,}",
        f"{np.mean([d.median for d in seeds]):.2g}",
        f"{np.max([d.largest for d in seeds]):.2g}",
    )
