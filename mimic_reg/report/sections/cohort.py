"""The cohorts of the trials: flow, patients, samples and channels, without small counts."""

from mimic_reg.errors import InputError
from mimic_reg.report.cohort import describe
from mimic_reg.report.formats import format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given


def cohort_section(given: Given) -> Section | None:
    """Return a description of every store's cohort; None without a store."""
    if not given.stores:
        return None
    tasks = {format_task(trial.task) for trial in given.trials}
    described, failed = [], []
    for store in given.stores:
        try:
            found = describe(store)
            samples = [row for row in found["samples"] if row[0] in tasks]
            described.append({**found, "samples": samples})
        except InputError as error:  # a damaged store must not cost the report of its runs
            failed.append(str(error))
    return section("cohort", "What data is this?", stores=described, failed=failed)
