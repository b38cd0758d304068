"""Figures: curves of training and predictions, and the analyses."""

from mimic_reg.report.figures.curves import MIN_COUNT
from mimic_reg.report.html import Section, section
from mimic_reg.report.predictions import has_curves
from mimic_reg.report.sections.given import Given


def curves_section(given: Given) -> Section:
    """Curves of selection, training and predictions; where there are none, why."""
    labelled = {store.manifest["fingerprint"] for store in given.stores}
    return section(
        "curves",
        "How did training go?",
        selection=given.drawn("selection"),
        training=given.drawn("training"),
        curves=given.drawn("curves"),
        predicted=any(has_curves(t) for t in given.trials),
        has_labels=bool(labelled & set(given.results.fingerprints())),
        min_count=MIN_COUNT,
    )


def analyses_section(given: Given) -> Section | None:
    """Figures, tables and notes of the analyses that were asked for; None if none was."""
    if not given.analyses:
        return None
    return section("analyses", "What else was measured?", analyses=given.analyses)
