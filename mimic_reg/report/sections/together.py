"""Tasks that were trained together: all tasks side by side, as in the paper's Table XV."""

from typing import Any

from mimic_reg.multitask.trials import strategies
from mimic_reg.report.formats import format_score_name, format_supervision, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import method_order
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import method_rows
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
    if way in strategies():
        return str(find_module("mimic_reg.multitask", way).IN_WORDS)
    return way or "a model for each task alone"


def _grid(given: Given, model: str, level: TrainingSize) -> dict[str, Any]:
    shared = {t.task for t in given.trials if t.settings.get("together") and t.model == model}
    tables = [t for t in given.tables if t.model == model and level in t.levels]
    tables = [t for t in tables if t.task in shared]
    rows = []
    alike = [t for t in given.trials if (t.model, t.supervision) == (model, level)]
    for method in method_order([t for t in alike if t.settings.get("start") is None]):
        cells = [(table.cells.get((method, level)), table.score) for table in tables]
        rows += method_rows(method, cells, any(cell and cell.paper for cell, _ in cells))
    columns = [f"{format_task(table.task)}: {format_score_name(table.score)}" for table in tables]
    caption = f"{model} at {format_supervision(level)}: test scores, mean ± standard deviation."
    return {"caption": caption, "header": ["method", *columns], "rows": rows}
