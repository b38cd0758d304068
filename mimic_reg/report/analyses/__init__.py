"""Analyses of finished trials, a module each: figures of the paper, and tables.

`analyse(results)` of a module returns an `Analysis`. The module's name is that of the command
(`mimic-reg analyse thresholds RUNS`) and of an experiment's `analyses: [thresholds]`.
"""

from collections.abc import Iterable
from pathlib import Path

from mimic_reg.errors import InputError
from mimic_reg.report.figures import drawing
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.results import Results
from mimic_reg.settings import find_module, module_names

__all__ = ["Analysis", "analyse", "analyse_all", "names", "save"]


def names() -> list[str]:
    """Return the names of all analyses: the modules of this package."""
    return module_names(__name__)


def analyse(name: str, results: Results) -> Analysis:
    """Return the analysis called `name`.

    Raises:
        InputError: an unknown name; the trials do not have what the analysis needs.
    """
    return find_module(__name__, name).analyse(results)


def analyse_all(wanted: Iterable[str], results: Results) -> list[Analysis]:
    """Return several analyses; if one cannot be made, its note says why."""
    found = []
    for name in wanted:
        try:
            found.append(analyse(name, results))
        except InputError as error:
            title = find_module(__name__, name).TITLE
            found.append(Analysis(name, title, note=f"Not drawn: {error}"))
    return found


def save(figures: Iterable[Drawn], folder: Path) -> list[Path]:
    """Write figures as PNG and SVG and return the paths."""
    return [
        drawing.save(drawn.figure, folder / f"{drawn.name}{suffix}")
        for drawn in figures
        for suffix in (".png", ".svg")
    ]
