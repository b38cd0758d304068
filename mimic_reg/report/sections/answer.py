"""The answer: a few sentences, a figure and the table that they come from."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from mimic_reg.metrics.scores import METRICS
from mimic_reg.report.formats import (
    HIDDEN,
    count,
    format_level,
    format_score,
    format_score_name,
    format_task,
)
from mimic_reg.report.frames import scores_frame
from mimic_reg.report.headline import headline
from mimic_reg.report.html import Section, section
from mimic_reg.report.paper import paper
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import (
    SPLIT,
    ScoreTable,
    best_possible,
    format_cell,
    format_title,
    score_tables,
)
from mimic_reg.report.verdicts import verdicts


def answer_section(given: Given) -> Section:
    """Return sentences, figure and table of every task that compares methods; fold the others."""
    tables = given.tables
    others = [t for t in score_tables(given.results) if t.score not in {m.score for m in tables}]
    main = [_shown(table, given) for table in tables]
    compared = [shown for shown in main if shown["headline"]] or main
    questions = dict.fromkeys(s["headline"].question for s in compared if s["headline"])
    return section(
        "answer",
        next(iter(questions)) if len(questions) == 1 else "Which method is best?",
        main=compared,
        alone=[shown for shown in main if shown not in compared],
        others=[_all(others, *setting) for setting in given.results.settings()],
        definitions=_definitions([*tables, *others]),
        other_data=[t.paper_is_of_other_data for t in tables if t.paper_is_of_other_data],
        has_paper=any(table.has_paper for table in tables),
        searched=bool(given.results.budgets),
        cross_validated=any(table.folds for table in tables),
        paper=paper(),
    )


def _shown(table: ScoreTable, given: Given) -> dict[str, Any]:
    """Return a table with the texts and figures around it."""
    sizes = {cell.summary.n for cell in table.cells.values() if cell.scores}
    n = sizes.pop() if len(sizes) == 1 else None
    return {
        "table": table,
        "title": format_title(table),
        "headline": headline(table, best_possible(given.results, given.stores, table)),
        "unequal": given.results.unequal().get(table.task),
        "figures": given.drawn_of(table),
        "verdicts": verdicts(table),
        "n": n,
        "caption": _caption(table, given, n),
        "header": ["method", *map(format_level, table.levels)],
        "notes": [*_uncertainty(table, given), *table.paper_notes()],
        "csv": scores_frame([table]).write_csv(),
    }


def _all(tables: Sequence[ScoreTable], task: str, model: str) -> dict[str, Any]:
    """Return the scores of a task and model in one grid: a row for each method and level."""
    found = [table for table in tables if (table.task, table.model) == (task, model)]
    keys = dict.fromkeys(
        (method, level)
        for table in found
        for method in table.methods
        for level in table.levels
        if (method, level) in table.cells
    )
    return {
        "caption": f"{format_task(task)}, {model}: other test scores.",
        "header": ["method", "level", *(format_score_name(table.score) for table in found)],
        "rows": [
            [method, format_level(level)]
            + [format_cell(table.cells.get((method, level)), table.score) for table in found]
            for method, level in keys
        ],
        "csv": scores_frame(found).write_csv(),
    }


def _definitions(tables: Sequence[ScoreTable]) -> str:
    scores = {table.score for table in tables}
    found = [text for m in METRICS.values() if m.name in scores for text in m.meaning]
    return " ".join(dict.fromkeys(found))


def _caption(table: ScoreTable, given: Given, n: int | None) -> str:
    trials = given.results.of(table.task, table.model)
    sizes = dict.fromkeys(given.num_samples(trial) for trial in trials)
    samples = f"{' or '.join(sizes)} {SPLIT} samples"
    parts = [
        "By supervision level" if table.levels[-1].is_share else "By training samples",
        *([samples] if HIDDEN not in sizes else []),
    ]
    if n:
        parts.append(
            f"{count(n, 'fold' if table.folds else 'seed')}{' for each cell' if n > 1 else ''}"
        )
    if table.lower_is_better:
        parts.append("lower is better")
    return f"{'; '.join(parts)}."


def _uncertainty(table: ScoreTable, given: Given) -> list[str]:
    """Return how wide the bootstrap intervals of single trials are, if there are any."""
    trials = given.results.of(table.task, table.model)
    scores = [t.scores.get(SPLIT, {}).get(table.score) for t in trials]
    widths = [s.high - s.low for s in scores if s and s.low is not None and s.high is not None]
    if not widths:
        return []
    half = format_score(median(widths) / 2, table.score)
    trials_text = count(len(widths), "trial")
    return [f"Bootstrap over test subjects: ±{half} for one trial (95 %, median of {trials_text})."]
