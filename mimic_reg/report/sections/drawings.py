"""Curves of training and predictions, and the analyses."""

from mimic_reg.metrics.small_counts import LEAST
from mimic_reg.report.html import Section, section
from mimic_reg.report.predictions import has_curves
from mimic_reg.report.sections.given import Given


def curves_section(given: Given) -> Section | None:
    """Return curves of selection, training and predictions; None if there is nothing to show."""
    too_few = given.stores and any(has_curves(t) for t in given.trials)
    if not (too_few or any(map(given.drawn, ("selection", "training", "curves")))):
        return None
    return section(
        "curves",
        "How did training go?",
        selection=given.drawn("selection"),
        training=given.drawn("training"),
        curves=given.drawn("curves"),
        too_few=too_few,
        min_count=LEAST,
    )


def analyses_section(given: Given) -> Section | None:
    """Return figures, tables and notes of the analyses; None if there are none."""
    if not given.analyses:
        return None
    return section("analyses", "What else was measured?", analyses=given.analyses)
