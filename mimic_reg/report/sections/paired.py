"""Paired tests of the methods in focus with every baseline at every level.

Tests are over seeds. Beside them are intervals over test subjects (`resampling`).
"""

from collections.abc import Sequence
from typing import Any

from mimic_reg.metrics.folds import in_order
from mimic_reg.metrics.resampling import MOST_REPLICATES, Resampled
from mimic_reg.report.formats import count, format_interval, format_level
from mimic_reg.report.frames import comparisons_frame
from mimic_reg.report.html import Section, section
from mimic_reg.report.resampling import resample
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_title
from mimic_reg.report.verdicts import (
    COMPARISON_COLUMNS,
    Compared,
    comparison_columns,
    comparisons,
    format_comparison,
)

_SEEDS = COMPARISON_COLUMNS.index("95 % over seeds") + 1


def paired_section(given: Given) -> Section | None:
    """Return the tests of the methods in focus, and of the others; None if there are no tests."""
    tested = [_tested(table, given) for table in given.tables if comparisons(table)]
    if not tested:
        return None
    return section(
        "tests",
        "How certain are the differences?",
        tested=tested,
        families=_num_families(given.tables),
        searched=bool(given.results.budgets),
        any_best=any(table.focus_is_best for table in given.tables),
        cross_validated=[table.folds for table in given.tables if table.folds],
    )


def _tested(table: ScoreTable, given: Given) -> dict[str, Any]:
    """Return the comparisons of a table: those of the methods in focus, and the others."""
    found = comparisons(table)
    trials = given.results.of(table.task, table.model)
    resampled = resample(table, trials, given.stores)
    focus = [c for c in found if c.method in table.focus] or found
    others = [c for c in found if c not in focus]
    return {
        "title": format_title(table),
        "header": _header(table),
        "pairs": "folds" if table.folds else "seeds",
        "drawn": _drawn(resampled) if given.stores else "",
        "focus": [_row(c, table, resampled) for c in focus],
        "others": [_row(c, table, resampled) for c in others],
        "csv": comparisons_frame([table]).write_csv(),
    }


def _header(table: ScoreTable) -> list[str]:
    names = comparison_columns(table)
    before, after = names[:_SEEDS], names[_SEEDS:]
    return ["method", "against", "level", *before, "95 % over subjects", *after]


def _row(compared: Compared, table: ScoreTable, resampled: Resampled) -> list[str]:
    """Return the texts of a row, in the order of the header."""
    a, b, level = compared.method, compared.baseline, compared.supervision
    scores = table.by_seed(level)
    found = resampled.interval(a, b, level, in_order(scores[a].keys() & scores[b].keys()))
    subjects = found if isinstance(found, str) else format_interval(found, table.score)
    texts = format_comparison(compared, table.score)
    return [a, b, format_level(level), *texts[:_SEEDS], subjects, *texts[_SEEDS:]]


def _num_families(tables: Sequence[ScoreTable]) -> int:
    """Return how many methods, at a level of a table, have a test."""
    return sum(
        len({(c.method, c.supervision) for c in comparisons(table) if c.result.p is not None})
        for table in tables
    )


def _drawn(resampled: Resampled) -> str:
    """Return what the intervals over subjects were made from, or why there are none."""
    if resampled.reason:
        return f"No intervals over subjects: {resampled.reason}."
    draws = count(resampled.num_replicates, "draw")
    units = count(resampled.num_units, f"test {resampled.unit}")
    text = f"Intervals over subjects: {draws} of {units}"
    if resampled.num_replicates < MOST_REPLICATES:
        text += f" instead of {MOST_REPLICATES:,}, because there are many samples and trials"
    if resampled.num_missing:
        text += f"; {count(resampled.num_missing, 'trial')} without predictions"
    return f"{text}."
