"""The report's section on tasks that were trained together: all tasks side by side (Table XV)."""

from collections.abc import Sequence
from typing import Any

from mimic_reg.multitask.trials import strategies
from mimic_reg.report.formats import format_score_name, format_supervision, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import (
    ScoreTable,
    format_cell,
    format_minus_paper,
    format_paper,
    main_tables,
)
from mimic_reg.settings import TrainingSize, find_module

_ALONE = "a model for each task alone"


def together_section(given: Given) -> Section | None:
    """A grid for each model and level: methods by tasks; None if no tasks were trained together."""
    results = given.results
    trials = [t for t in results.trials if t.settings.get("together")]
    if not trials:
        return None
    ways = dict.fromkeys(t.strategy for t in results.trials if not t.settings.get("start"))
    places = sorted({(t.model, t.supervision) for t in trials})
    return section(
        "together",
        "Do tasks help each other?",
        ways={way: _in_words(way) for way in ways},
        grids=[_grid(results, model, level) for model, level in places],
    )


def _in_words(way: str) -> str:
    """How several tasks were trained together, as the strategy's module says it."""
    if not way:
        return _ALONE
    known = way in strategies()
    return str(find_module("mimic_reg.multitask", way).IN_WORDS) if known else way


def _grid(results: Results, model: str, level: TrainingSize) -> dict[str, Any]:
    tables = [
        table
        for table in main_tables(results)
        if table.model == model and level in table.levels and _shared(results, table)
    ]
    trials = [t for t in results.trials if _is_shown(t, model, level)]
    rows = []
    for method in method_order(trials):
        cells = [(table.cells.get((method, level)), table.score) for table in tables]
        rows.append([method, *(format_cell(*cell) for cell in cells)])
        if any(cell and cell.paper for cell, _ in cells):
            rows.append(["(paper)", *(format_paper(*cell) for cell in cells)])
            rows.append(["(minus paper)", *(format_minus_paper(*cell) for cell in cells)])
    header = ["method", *(_column(table) for table in tables)]
    caption = f"{model} at {format_supervision(level)}: test scores, mean ± standard deviation."
    return {"caption": caption, "header": header, "rows": rows}


def _is_shown(trial: TrialResult, model: str, level: TrainingSize) -> bool:
    fine_tuned = trial.settings.get("start") is not None
    return trial.model == model and trial.supervision == level and not fine_tuned


def _shared(results: Results, table: ScoreTable) -> bool:
    found: Sequence[TrialResult] = results.of(table.task, table.model)
    return any(t.settings.get("together") for t in found)


def _column(table: ScoreTable) -> str:
    return f"{format_task(table.task)}: {format_score_name(table.score)}"
