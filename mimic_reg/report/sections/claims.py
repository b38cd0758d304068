"""The paper's claims that these runs can test, each with its verdict."""

from mimic_reg.report.claims import COLUMNS, as_rows, judge
from mimic_reg.report.formats import count
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given


def claims_section(given: Given) -> Section | None:
    """Return a row for each claim, with its runs folded away; None if no claim has a run."""
    lines = judge(given.results)
    shown = [line for line in lines if line.comparisons]
    if not shown:
        return None
    others = len(lines) - len(shown)
    return section(
        "claims",
        "Do the paper's claims hold here?",
        header=COLUMNS,
        rows=as_rows(shown),
        others=count(others, "other claim") if others else "",
        runs=[(line.claim, line.runs) for line in shown],
    )
