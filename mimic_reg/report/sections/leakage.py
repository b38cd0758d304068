"""The leakage checks of the training data and the models: findings first."""

from mimic_reg.report.formats import format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given


def leakage_section(given: Given) -> Section | None:
    """Return findings with what to do, and a sentence for each other check; None if not checked."""
    if not given.leakage:
        return None
    rows = [
        (format_task(o.task) if o.task else "all tasks", o.check, o.status, o.text)
        for o in given.leakage
    ]
    found = [o for o in given.leakage if o.status == "found"]
    return section("leakage", "Is there leakage?", found=found, rows=rows)
