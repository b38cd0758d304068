"""The cohorts of the trials: flow, patients, samples and channels, without small counts."""

from mimic_reg.errors import InputError
from mimic_reg.report.cohort import describe
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given


def cohort_section(given: Given) -> Section | None:
    """Return a description of every store's cohort; None without a store."""
    if not given.stores:
        return None
    described, failed = [], []
    for store in given.stores:
        try:
            described.append(describe(store))
        except InputError as error:  # a damaged store must not cost the report of its runs
            failed.append(str(error))
    return section("cohort", "What data is this?", stores=described, failed=failed)
