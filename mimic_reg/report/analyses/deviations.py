"""How far parameters moved from their start (figure 2), at the best epoch.

The start is not stored: seed and settings give it again, bit for bit.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import takes_methods
from mimic_reg.metrics.deviations import Deviations, deviations
from mimic_reg.report.analyses.base import Group, by_level, level_groups, mean_sd, start_and_best
from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.figures.measured import deviation_figure
from mimic_reg.report.results import Results

TITLE = "Deviations of parameters"


def analyse(results: Results) -> Analysis:
    """Return histograms of |θ - θ at the start|.

    Raises:
        InputError: no trial of a network is finished; a checkpoint was removed.
    """
    networks = [t for t in results.trials if takes_methods(next(iter(t.settings["model"])))]
    if not networks:
        raise InputError(
            "No trial of a network is finished, so there are no parameters to compare."
        )
    return by_level(
        "deviations",
        TITLE,
        level_groups(results, networks),
        lambda trials: [deviations(*start_and_best(trial)) for trial in trials],
        _draw,
        _row,
        ("seeds", "moved", "of", "median distance", "largest"),
        "Parameters that a method adds to the model are left out. ±: standard deviation.",
    )


def _draw(group: Group, found: dict[str, list[Deviations]]) -> tuple[Figure, str]:
    caption = (
        "distance of each parameter from its start, at the best epoch; ten bins for each power of "
        "ten, means over seeds."
    )
    return deviation_figure(found, group.look), caption


def _row(seeds: Sequence[Deviations]) -> tuple[str, ...]:
    return (
        str(len(seeds)),
        mean_sd([d.moved for d in seeds], ",.0f"),
        f"{seeds[0].total:,}",
        f"{np.mean([d.median for d in seeds]):.2g}",
        f"{np.max([d.largest for d in seeds]):.2g}",
    )
