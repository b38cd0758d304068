"""The cohorts of the trials: flow, patients, samples and channels, without small counts."""

from mimic_reg.report.cohort import describe
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given


def cohort_section(given: Given) -> Section | None:
    """Return a description of every store's cohort; None without a store."""
    if not given.stores:
        return None
    described = [describe(store) for store in given.stores]
    return section("cohort", "What data is this?", stores=described)
