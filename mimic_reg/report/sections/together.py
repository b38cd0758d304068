"""Tasks that were trained together: all tasks side by side, as in the paper's Table XV."""

from typing import Any

from mimic_reg.multitask.trials import strategies
from mimic_reg.report.formats import format_score_name, format_supervision, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import TrialResult, method_order
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import format_cell, format_minus_paper, format_paper
from mimic_reg.settings import TrainingSize, find_module


def together_section(given: Given) -> Section | None:
    """Return methods by tasks for each model and level; None without tasks trained together."""
    trials = [t for t in given.trials if t.settings.get("together")]
    if not trials:
        return None
    ways = dict.fromkeys(t.strategy for t in given.trials if not t.settings.get("start"))
    places = sorted({(t.model, t.supervision) for t in trials})
    return section(
        "together",
        "Do tasks help each other?",
        ways={way: _in_words(way) for way in ways},
        grids=[_grid(given, model, level) for model, level in places],
    )


def _in_words(way: str) -> str:
    """Return how several tasks were trained together, from the strategy's module."""
    if not way:
        return "a model for each task alone"
    known = way in strategies()
    return str(find_module("mimic_reg.multitask", way).IN_WORDS) if known else way


def _grid(given: Given, model: str, level: TrainingSize) -> dict[str, Any]:
    shared = {t.task for t in given.trials if t.settings.get("together") and t.model == model}
    tables = [
        table
        for table in given.tables
        if table.model == model and level in table.levels and table.task in shared
    ]
    rows = []
    for method in method_order([t for t in given.trials if _is_shown(t, model, level)]):
        cells = [(table.cells.get((method, level)), table.score) for table in tables]
        rows.append([method, *(format_cell(*cell) for cell in cells)])
        if any(cell and cell.paper for cell, _ in cells):
            rows.append(["(paper)", *(format_paper(*cell) for cell in cells)])
            rows.append(["(minus paper)", *(format_minus_paper(*cell) for cell in cells)])
    columns = [f"{format_task(table.task)}: {format_score_name(table.score)}" for table in tables]
    caption = f"{model} at {format_supervision(level)}: test scores, mean ± standard deviation."
    return {"caption": caption, "header": ["method", *columns], "rows": rows}


def _is_shown(trial: TrialResult, model: str, level: TrainingSize) -> bool:
    fine_tuned = trial.settings.get("start") is not None
    return trial.model == model and trial.supervision == level and not fine_tuned
