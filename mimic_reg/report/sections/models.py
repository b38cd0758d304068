"""Which model is best, each with the method that its own validation scores choose."""

from typing import Any

from mimic_reg.report.formats import format_level, format_score_name, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import Results
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_cell, model_tables
from mimic_reg.report.verdicts import verdicts


def models_section(given: Given) -> Section | None:
    """Return verdicts and scores of the models of each task; None if no task has several."""
    tables = model_tables(given.results)
    if not tables:
        return None
    shown = [{**_shown(table), "unequal": _unequal(given.results, table.task)} for table in tables]
    folds = any(table.folds for table in tables)
    return section("models", "Which model is best?", tables=shown, cross_validated=folds)


def _unequal(results: Results, task: str) -> str:
    """Return a sentence if some models of a task could choose from more methods than others."""
    models = [model for name, model in results.settings() if name == task]
    numbers = {model: len({t.method for t in results.of(task, model)}) for model in models}
    if len(set(numbers.values())) == 1:
        return ""
    told = ", ".join(f"{model} {number}" for model, number in numbers.items())
    return (
        f"The models chose from unequal numbers of methods ({told}), so a better score may come "
        "from a larger choice."
    )


def _shown(table: ScoreTable) -> dict[str, Any]:
    rows = []
    for model in table.methods:
        cells = [table.cells.get((model, level)) for level in table.levels]
        # "-": at that level the model has another method, in another row, or was not run
        rows.append([model, *(format_cell(cell, table.score) if cell else "-" for cell in cells)])
    return {
        "verdicts": verdicts(table),
        "caption": f"{format_task(table.task)}: test {format_score_name(table.score)}.",
        "header": ["model", *map(format_level, table.levels)],
        "rows": rows,
    }
