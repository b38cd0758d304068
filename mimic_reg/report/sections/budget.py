"""What each method could choose its values from: points, space, seeds."""

from mimic_reg.report.formats import format_level, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.sections.given import Given

HEADER = ["model", "method", "task", "level", "points", "different", "complete", "runs a point"]
HEADER += ["chosen by", "space"]
CHOSEN = ["model", "method", "task", "level", "fold", "values"]


def budget_section(given: Given) -> Section | None:
    """Return a row for each task, model, method and level; None if no search is recorded."""
    budgets = given.results.budgets
    if not budgets:
        return None
    rows = [
        [
            *(b.model, b.method, format_task(b.task), format_level(b.size)),
            *map(str, (b.points, b.different, b.complete, len(b.seeds) * (b.folds or 1))),
            b.way,
            "; ".join(f"{key}: {values}" for key, values in b.space.items()) or "-",
        ]
        for b in budgets
    ]
    return section(
        "budget",
        "How were the values chosen?",
        header=HEADER,
        rows=rows,
        warnings=list(given.results.unequal().values()),
        seeds=sorted({b.seeds for b in budgets}),
        sampled=any("TPE" in b.way for b in budgets),
        chosen_header=CHOSEN,
        chosen=[
            [b.model, b.method, format_task(b.task), format_level(b.size), fold, values]
            for b in budgets
            for fold, values in b.chosen.items()
        ],
    )
