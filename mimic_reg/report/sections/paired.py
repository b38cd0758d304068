"""Paired tests: the methods in focus against every baseline, level by level.

Tests are over seeds; beside them stand intervals over test subjects (`resampling`).
"""

from collections.abc import Callable, Sequence
from typing import Any

from mimic_reg.metrics.resampling import MOST_REPLICATES, Resampled
from mimic_reg.report.formats import count, format_interval, format_level, format_p
from mimic_reg.report.html import Section, section
from mimic_reg.report.markdown import COMPARISON_COLUMNS, format_comparison
from mimic_reg.report.resampling import resample
from mimic_reg.report.sections.given import Given
from mimic_reg.report.tables import ScoreTable, format_title
from mimic_reg.report.verdicts import Compared, comparisons

# a comparison → its interval over subjects, or why there is none
_OverSubjects = Callable[[Compared], str]

_AFTER_INTERVAL = COMPARISON_COLUMNS.index("95 % interval") + 1
_NUMBERS = (*COMPARISON_COLUMNS[:_AFTER_INTERVAL], "interval over subjects")
_FULL_COLUMNS = ("method", "against", "level", *_NUMBERS, *COMPARISON_COLUMNS[_AFTER_INTERVAL:])


def paired_section(given: Given) -> Section:
    """A grid of tests for every method in focus, and how to read it."""
    return section(
        "tests",
        "How sure is that?",
        tested=[_tested(table, given) for table in given.tables if comparisons(table)],
        families=_num_families(given.tables),
        any_best=any(table.focus_is_best for table in given.tables),
        header=_FULL_COLUMNS,
    )


def _tested(table: ScoreTable, given: Given) -> dict[str, Any]:
    """The comparisons of a table: a grid for each method in focus, and all of them in full."""
    found = comparisons(table)
    resampled = resample(table, given.results.of(table.task, table.model), given.stores)
    over_subjects = _over_subjects(table, resampled)
    return {
        "title": format_title(table),
        "drawn": _drawn(resampled),
        "focus": [_focus_grid(table, method, found, over_subjects) for method in table.focus],
        "full": [_full_row(c, table.score, over_subjects(c)) for c in found],
    }


def _num_families(tables: Sequence[ScoreTable]) -> int:
    """Methods, at a level of a table, that are tested against anything."""
    return sum(
        len({(c.method, c.supervision) for c in comparisons(table) if c.result.p is not None})
        for table in tables
    )


def _over_subjects(table: ScoreTable, resampled: Resampled) -> _OverSubjects:
    def text(compared: Compared) -> str:
        scores = table.by_seed(compared.supervision)
        a, b = compared.method, compared.baseline
        seeds = sorted(scores[a].keys() & scores[b].keys())
        found = resampled.interval(a, b, compared.supervision, seeds)
        return found if isinstance(found, str) else format_interval(found, table.score)

    return text


def _drawn(resampled: Resampled) -> str:
    """What the intervals over subjects were made from, or why there are none."""
    if resampled.reason:
        return f"No intervals over subjects: {resampled.reason}."
    draws = count(resampled.num_replicates, "draw")
    text = f"Over subjects: {draws} of {count(resampled.num_units, f'test {resampled.unit}')}"
    if resampled.num_replicates < MOST_REPLICATES:
        text += f", not {MOST_REPLICATES:,}, as there are many samples and trials"
    if resampled.num_missing:
        text += f"; the predictions of {count(resampled.num_missing, 'trial')} are not at hand"
    return f"{text}."


def _focus_grid(
    table: ScoreTable, method: str, found: Sequence[Compared], over_subjects: _OverSubjects
) -> dict[str, Any]:
    cells = {(c.baseline, c.supervision): c for c in found if c.method == method}
    baselines = [m for m in table.methods if any(name == m for name, _ in cells)]
    sizes = {c.result.n for c in cells.values()}
    rows = []
    for baseline in baselines:
        compared = [cells.get((baseline, level)) for level in table.levels]
        shown = [
            _test_cell(c, table.score, over_subjects(c), show_n=len(sizes) > 1) if c else None
            for c in compared
        ]
        rows.append((baseline, shown))
    n = f"; n = {count(sizes.pop(), 'pair')} a cell" if len(sizes) == 1 else ""
    return {
        "caption": f"{method} against each baseline, by supervision level{n}.",
        "header": ["against", *map(format_level, table.levels)],
        "rows": rows,
    }


def _test_cell(
    compared: Compared, score: str, over_subjects: str, *, show_n: bool
) -> dict[str, Any]:
    n, difference, interval, effect, _, _, conclusion = format_comparison(compared, score)
    result = compared.result
    notes = [f"n = {n}"] if show_n else []
    if result.p_holm is None:
        notes.append(conclusion)
    else:
        notes += [f"d {effect}"] * (effect != "-") + [format_p(result.p_holm)]
    return {
        "kind": conclusion if conclusion in ("better", "worse") else "",
        "difference": difference,
        "interval": interval,
        "over_subjects": over_subjects,
        "notes": notes,
    }


def _full_row(compared: Compared, score: str, over_subjects: str) -> list[str]:
    """The texts of `_FULL_COLUMNS`."""
    texts = format_comparison(compared, score)
    where = [compared.method, compared.baseline, format_level(compared.supervision)]
    return [*where, *texts[:_AFTER_INTERVAL], over_subjects, *texts[_AFTER_INTERVAL:]]
