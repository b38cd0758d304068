"""The answer: a few sentences, a picture, and the table that they stand on."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from mimic_reg.metrics.scores import METRICS
from mimic_reg.report.formats import count, format_level, format_score
from mimic_reg.report.headline import headline
from mimic_reg.report.html import Section, section
from mimic_reg.report.paper import paper
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, best_possible, format_title, score_tables
from mimic_reg.report.verdicts import verdicts


def answer_section(given: Given) -> Section:
    """Sentences, picture and table of every task that compares methods; the others folded away."""
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
        others=[_shown(table, given) for table in others],
        definitions=_definitions([*tables, *others]),
        has_paper=any(table.has_paper for table in tables),
        paper=paper(),
    )


def _shown(table: ScoreTable, given: Given) -> dict[str, Any]:
    """A table with what stands above and below it."""
    common = _common_n(table)
    return {
        "table": table,
        "title": format_title(table),
        "headline": headline(table, best_possible(given.results, given.stores, table)),
        "figures": given.drawn_of(table),
        "verdicts": verdicts(table),
        "common": common,
        "caption": _caption(table, given, common),
        "header": ["method", *map(format_level, table.levels)],
        "notes": _notes(table, given),
    }


def _definitions(tables: Sequence[ScoreTable]) -> str:
    scores = {table.score for table in tables}
    found = [text for m in METRICS.values() if m.name in scores for text in m.meaning]
    return " ".join(dict.fromkeys(found))


def _caption(table: ScoreTable, given: Given, common: int | None) -> str:
    what = "supervision level" if table.levels[-1].is_share else "training samples"
    text = f"By {what}; {_num_samples(table, given)}"
    if common:
        text += f"; n = {count(common, 'seed')} {'a cell' if common > 1 else '(no sd)'}"
    if table.lower_is_better:
        text += "; lower is better"
    return f"{text}."


def _notes(table: ScoreTable, given: Given) -> list[str]:
    spread = _spread_over_subjects(table, given)
    return [*([spread] if spread else []), *table.marks(), *table.paper_notes()]


def _spread_over_subjects(table: ScoreTable, given: Given) -> str:
    """How wide the bootstrap intervals of single trials are; nothing where there are none."""
    trials = given.results.of(table.task, table.model)
    scores = [t.scores.get(table.split, {}).get(table.score) for t in trials]
    widths = [s.high - s.low for s in scores if s and s.low is not None and s.high is not None]
    if not widths:
        return ""
    width = format_score(median(widths), table.score)
    return (
        f"With other test subjects: the 95 % bootstrap interval of one trial is {width} wide "
        f"(median of {count(len(widths), 'trial')})."
    )


def _common_n(table: ScoreTable) -> int | None:
    """The number of seeds, if it is the same in every cell that has a score."""
    sizes = {len(cell.scores) for cell in table.cells.values() if cell.scores}
    return sizes.pop() if len(sizes) == 1 else None


def _num_samples(table: ScoreTable, given: Given) -> str:
    trials = given.results.of(table.task, table.model)
    sizes = sorted({t.num_samples[table.split] for t in trials})
    return " or ".join(count(size, f"{table.split} sample") for size in sizes)
