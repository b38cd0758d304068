"""Paired tests of the methods in focus with every baseline at every level.

Tests are over seeds. Beside them are intervals over test subjects (`resampling`).
"""

from collections.abc import Sequence
from typing import Any

from mimic_reg.metrics.resampling import MOST_REPLICATES
from mimic_reg.report.evidence import Evidence, Weighed
from mimic_reg.report.formats import HIDDEN, count, format_interval, format_level, format_p
from mimic_reg.report.frames import evidence_frame
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_title
from mimic_reg.report.verdicts import (
    COMPARISON_COLUMNS,
    comparison_columns,
    comparisons,
    format_comparison,
)

_SEEDS = COMPARISON_COLUMNS.index("95 % over seeds") + 1
_MOST_SENTENCES = 6  # more are folded away


def paired_section(given: Given) -> Section | None:
    """Return the tests of the methods in focus, and of the others; None if there are no tests."""
    if not given.weighed:
        return None
    return section(
        "tests",
        "How certain are the differences?",
        tested=[_tested(weighed, given) for weighed in given.weighed],
        families=_num_families(given.tables),
        searched=bool(given.results.budgets),
        any_best=any(table.focus_is_best for table in given.tables),
        any_delong=any(e.delong is not None for w in given.weighed for e in w.evidence),
        cross_validated=[table.folds for table in given.tables if table.folds],
    )


def _tested(weighed: Weighed, given: Given) -> dict[str, Any]:
    """Return the comparisons of a table: those of the methods in focus, and the others."""
    table, focus = weighed.table, weighed.focus
    others = [e for e in weighed.evidence if e not in focus]
    sentences = weighed.sentences
    return {
        "title": format_title(table),
        "header": _header(weighed),
        "pairs": "folds" if table.folds else "seeds",
        "drawn": _drawn(weighed) if given.stores else "",
        "sentences": sentences[:_MOST_SENTENCES],
        "more": sentences[_MOST_SENTENCES:],
        "focus": [_row(e, weighed) for e in focus],
        "others": [_row(e, weighed) for e in others],
        "csv": evidence_frame([weighed]).write_csv(),
    }


def _header(weighed: Weighed) -> list[str]:
    names = comparison_columns(weighed.table)
    over = ["95 % over subjects", *["95 % over both"] * _has_both(weighed)]
    tests = ["p (Wilcoxon)", *["p (DeLong)"] * _has_delong(weighed)]
    if weighed.table.folds:
        tests = []
    return ["method", "against", "level", *names[:_SEEDS], *over, *names[_SEEDS:], *tests]


def _has_both(weighed: Weighed) -> bool:
    return any(e.both for e in weighed.evidence)


def _has_delong(weighed: Weighed) -> bool:
    return any(e.delong is not None for e in weighed.evidence)


def _row(evidence: Evidence, weighed: Weighed) -> list[str]:
    """Return the texts of a row, in the order of the header."""
    compared, score = evidence.compared, weighed.table.score
    subjects = evidence.subjects
    over = [subjects if isinstance(subjects, str) else format_interval(subjects, score)]
    if _has_both(weighed):
        over.append(format_interval(evidence.both.bounds, score) if evidence.both else "-")
    tests = []
    if not weighed.table.folds:
        tests = [format_p(compared.result.wilcoxon_holm, sign=False)]
        tests += [format_p(evidence.delong_holm, sign=False)] * _has_delong(weighed)
    texts = format_comparison(compared, score)
    names = [compared.method, compared.baseline, format_level(compared.supervision)]
    return [*names, *texts[:_SEEDS], *over, *texts[_SEEDS:], *tests]


def _num_families(tables: Sequence[ScoreTable]) -> int:
    """Return how many methods, at a level of a table, have a test."""
    return sum(
        len({(c.method, c.supervision) for c in comparisons(table) if c.result.p is not None})
        for table in tables
    )


def _drawn(weighed: Weighed) -> str:
    """Return what the intervals over subjects were made from, or why there are none."""
    resampled = weighed.resampled
    if resampled.reason:
        text = f"No intervals over subjects: {resampled.reason}."
        return f"{text} DeLong's variance takes their place." if resampled.placements else text
    draws = count(resampled.num_replicates, "draw")
    units = "" if weighed.num_units == HIDDEN else f"{weighed.num_units} "
    plural = "s" * (resampled.num_units != 1)
    text = f"Intervals over subjects: {draws} of {units}test {resampled.unit}{plural}"
    if resampled.num_replicates < MOST_REPLICATES:
        text += f" instead of {MOST_REPLICATES:,}, because there are many samples and trials"
    if resampled.num_missing:
        text += f"; {count(resampled.num_missing, 'trial')} without predictions"
    return f"{text}."
