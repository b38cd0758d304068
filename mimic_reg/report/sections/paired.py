"""Paired tests: the methods in focus against every baseline, level by level.

Tests are over seeds; beside them stand intervals over test subjects (`resampling`).
"""

import math
from collections.abc import Callable, Sequence

from mimic_reg.metrics.resampling import MOST_REPLICATES, Resampled
from mimic_reg.report.formats import format_interval, format_level, format_p
from mimic_reg.report.markdown import COMPARISON_COLUMNS, format_comparison
from mimic_reg.report.markup import Html, details, grid, section, soft, tag
from mimic_reg.report.resampling import resample
from mimic_reg.report.sections.given import Given, count
from mimic_reg.report.tables import ScoreTable, format_title
from mimic_reg.report.verdicts import Compared, comparisons

# a comparison → its interval over subjects, or why there is none
_OverSubjects = Callable[[Compared], str]


def paired_section(given: Given, tables: Sequence[ScoreTable]) -> Html:
    """A grid of tests for every method in focus, and how to read it."""
    parts: list[str] = [
        soft(
            "Difference: method minus baseline, paired by seed, with its 95 % interval over seeds. "
            "The interval is not corrected: it may leave out 0 where the corrected test tells "
            "nothing. A pair has the same training samples, initial weights and batches; a trunk "
            "trained before or with other tasks has other weights. d: mean of the differences in "
            "units of their standard deviation (Cohen), rough where pairs are few. p: two-sided "
            "paired t-test, Holm-corrected over the baselines of one method at one level; nothing "
            "is corrected across methods, levels or tables."
        ),
        soft(
            "Two intervals: over seeds, what repeating the training leaves open about the mean "
            "difference, on these test subjects; over subjects (or images), what others of the "
            "same kind leave open, with these trained models (paired bootstrap: test subjects "
            "drawn with replacement, the same for both methods and all their seeds; 95 % "
            "percentiles, not corrected either). Neither holds the spread of the other, nor that "
            "of other training data."
        ),
    ]
    if families := _num_families(tables):
        parts.append(soft(_by_chance(families)))
    for table in tables:
        found = comparisons(table)
        if found:
            trials = given.results.of(table.task, table.model)
            resampled = resample(table, trials, given.stores)
            over_subjects = _over_subjects(table, resampled)
            parts += [tag("h3", format_title(table)), soft(_drawn(resampled))]
            parts += _test_grids(table, found, over_subjects)
    if not any(comparisons(table) for table in tables):
        parts = [tag("p", "No table has two methods: there is nothing to compare.")]
    return section("tests", "Paired tests", *parts)


def _num_families(tables: Sequence[ScoreTable]) -> int:
    """Methods, at a level of a table, that are tested against anything."""
    return sum(
        len({(c.method, c.supervision) for c in comparisons(table) if c.result.p is not None})
        for table in tables
    )


def _by_chance(families: int) -> str:
    if families == 1:
        return (
            "There is one family of tests: by chance it holds a difference in 5 % of cases at most."
        )
    return (
        f"There are {families:,} families of tests, one for each method and level of a table. Were "
        f"all methods equal, chance would put a “better” or “worse” into up to 5 % of them: about "
        f"{math.ceil(families / 20)} of these."
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


def _test_grids(
    table: ScoreTable, found: Sequence[Compared], over_subjects: _OverSubjects
) -> list[Html]:
    """A grid for each method in focus, then all comparisons in full; the latter alone otherwise."""
    if not table.focus:
        return [_full_grid(table, found, over_subjects)]
    grids = [_focus_grid(table, method, found, over_subjects) for method in table.focus]
    full = _full_grid(table, found, over_subjects)
    return [*grids, details("All comparisons in full", full)]


def _focus_grid(
    table: ScoreTable, method: str, found: Sequence[Compared], over_subjects: _OverSubjects
) -> Html:
    cells = {(c.baseline, c.supervision): c for c in found if c.method == method}
    baselines = [m for m in table.methods if any(name == m for name, _ in cells)]
    sizes = {c.result.n for c in cells.values()}
    rows = []
    for baseline in baselines:
        compared = [cells.get((baseline, level)) for level in table.levels]
        cells_of_row = [
            _test_cell(c, table.score, over_subjects(c), show_n=len(sizes) > 1)
            if c
            else tag("td", "-")
            for c in compared
        ]
        rows.append(tag("tr", tag("th", baseline, scope="row"), *cells_of_row))
    header = ["against", *map(format_level, table.levels)]
    n = f"; n = {count(sizes.pop(), 'pair')} a cell" if len(sizes) == 1 else ""
    return grid(f"{method} against each baseline, by supervision level{n}.", header, rows)


def _test_cell(compared: Compared, score: str, over_subjects: str, *, show_n: bool) -> Html:
    n, difference, interval, effect, _, _, conclusion = format_comparison(compared, score)
    result = compared.result
    notes = [f"n = {n}"] if show_n else []
    if result.p_holm is None:
        notes.append(conclusion)
    else:
        notes += [f"d {effect}"] * (effect != "-") + [format_p(result.p_holm)]
    kind = conclusion if conclusion in ("better", "worse") else ""
    first = tag("span", f"{kind} {difference}".strip(), class_=kind)
    between = "" if interval == "-" else tag("small", interval)
    other = "" if over_subjects == "-" else tag("small", f"subjects: {over_subjects}")
    return tag("td", first, between, other, tag("small", ", ".join(notes)))


def _full_grid(table: ScoreTable, found: Sequence[Compared], over_subjects: _OverSubjects) -> Html:
    rows = [
        [
            *(c.method, c.baseline, format_level(c.supervision)),
            *_full_row(c, table.score, over_subjects(c)),
        ]
        for c in found
    ]
    header = ["method", "against", "level", *COMPARISON_COLUMNS]
    header.insert(_AFTER_INTERVAL + 3, "interval over subjects")
    caption = "Every method against every baseline."
    return grid(caption, header, rows, left=(1,), wrap=(len(header) - 1,))


_AFTER_INTERVAL = COMPARISON_COLUMNS.index("95 % interval") + 1


def _full_row(compared: Compared, score: str, over_subjects: str) -> list[str]:
    *numbers, conclusion = format_comparison(compared, score)
    numbers.insert(_AFTER_INTERVAL, over_subjects)
    kind = conclusion if conclusion in ("better", "worse") else ""
    return [*numbers, tag("span", conclusion, class_=kind)]
