"""The answer: who wins by which score, at every level, and the table it stands on."""

from collections.abc import Sequence
from statistics import median

from mimic_reg.metrics.scores import METRICS
from mimic_reg.report.formats import format_level, format_score, format_supervision
from mimic_reg.report.markup import Html, details, grid, join, section, soft, tag
from mimic_reg.report.paper import paper
from mimic_reg.report.results import few_selected
from mimic_reg.report.sections.given import Given, count
from mimic_reg.report.tables import Cell, ScoreTable, format_paper, format_title, score_tables
from mimic_reg.report.verdicts import Verdict, verdicts


def answer_section(given: Given, tables: Sequence[ScoreTable]) -> Html:
    """A verdict for each level and the table of means; the other scores folded away."""
    if not tables:
        return section("answer", "Answer", tag("p", "No trial is finished: there is none yet."))
    parts: list[str] = []
    for table in tables:
        parts.append(tag("h3", format_title(table)))
        parts.append(_verdicts(table))
        parts.append(_score_grid(table, given))
    others = [t for t in score_tables(given.results) if t.score not in {m.score for m in tables}]
    definitions = _definitions([*tables, *others])
    parts += [soft(_how_to_read(tables)), soft(_what_it_says()), soft(definitions)]
    if others:
        grids = [join(tag("h3", format_title(t)), _score_grid(t, given)) for t in others]
        parts.append(details("All other scores", *grids))
    return section("answer", "Answer", *parts)


def _verdicts(table: ScoreTable) -> Html:
    items = [tag("li", v.sentence, class_="wins" * bool(v.winner)) for v in verdicts(table)]
    return tag("ul", *items, class_="answers")


def _how_to_read(tables: Sequence[ScoreTable]) -> str:
    text = (
        "Cells: mean ± standard deviation over seeds of the test score, at the epoch with the best "
        "validation score. Bold: best mean of a level; ★: it is also significantly better than "
        "every other method (two-sided paired t-test over seeds, Holm-corrected, p < 0.05, at "
        "least three pairs). Where there is no winner, p is corrected over all pairs of methods, "
        "since the best was found by looking. Blue: methods with ITPS, and trained trunks. none: "
        "no regulariser."
    )
    if any(table.has_paper for table in tables):
        text += f" Paper: {paper()['paper']}. {paper()['plus_minus']}"
    return text


def _what_it_says() -> str:
    return (
        "All seeds are tested on the same patients. The ± and the tests over seeds, which decide "
        "who wins, tell whether a difference comes again when training is repeated; whether it "
        "holds for other patients of the same kind, they do not tell: for that, see the intervals "
        "over subjects under “Paired tests”. How much a score depends on who is in the test set "
        "stands below each table, and for every trial under “What this rests on”."
    )


def _definitions(tables: Sequence[ScoreTable]) -> str:
    scores = {table.score for table in tables}
    found = [text for m in METRICS.values() if m.name in scores for text in m.meaning]
    return " ".join(dict.fromkeys(found))


def _score_grid(table: ScoreTable, given: Given) -> Html:
    by_level = {v.supervision: v for v in verdicts(table)}
    common = _common_n(table)
    rows = []
    for method in table.methods:
        cells = [_score_cell(table, method, by_level[lv], common) for lv in table.levels]
        heading = tag("th", method, scope="row")
        rows.append(tag("tr", heading, *cells, class_="focus" * (method in table.focus)))
    header = ["method", *(format_level(level) for level in table.levels)]
    what = "supervision level" if table.levels[-1] <= 1 else "training samples"
    text = f"By {what}; {_num_samples(table, given)}"
    if common:
        text += f"; n = {count(common, 'seed')} {'a cell' if common > 1 else '(no sd)'}"
    if table.lower_is_better:
        text += "; lower is better"
    notes = [soft(note)] if (note := _spread_over_subjects(table, given)) else []
    notes += [soft(note) for note in _hardly_trained(table, given)]
    if not table.has_paper:
        notes.append(soft("The paper's figures for this table: not at hand."))
    return join(grid(f"{text}.", header, rows), *notes)


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


def _hardly_trained(table: ScoreTable, given: Given) -> list[str]:
    """Which methods selected so few parameters that there is hardly a model, and what to do."""
    most: dict[tuple[str, float], list[int]] = {}
    for trial in given.results.of(table.task, table.model):
        few = few_selected(trial.history(), trial.best_epoch)
        if few is not None:
            most.setdefault((trial.method, trial.supervision), []).append(few)
    return [
        f"{method} at {format_supervision(level)}: in {count(len(found), 'trial')} at most "
        f"{count(max(found), 'parameter')} had been selected by the best epoch, so what is scored "
        "is all but the initial model. Lower tau, or train for more steps."
        for (method, level), found in sorted(most.items())
    ]


def _common_n(table: ScoreTable) -> int | None:
    """The number of seeds, if it is the same in every cell that has a score."""
    sizes = {len(cell.scores) for cell in table.cells.values() if cell.scores}
    return sizes.pop() if len(sizes) == 1 else None


def _num_samples(table: ScoreTable, given: Given) -> str:
    trials = given.results.of(table.task, table.model)
    sizes = sorted({t.num_samples[table.split] for t in trials})
    return " or ".join(count(size, f"{table.split} sample") for size in sizes)


def _score_cell(table: ScoreTable, method: str, verdict: Verdict, common: int | None) -> Html:
    """Mean ± sd; n where cells differ in it; what is undefined; the paper's figure."""
    cell = table.cells.get((method, verdict.supervision))
    if cell is None:
        return tag("td", "not run", class_="soft")
    lines = []
    if cell.scores:
        summary = cell.summary
        mean = format_score(summary.mean, table.score)
        sd = "" if summary.sd is None else f" ± {format_score(summary.sd, table.score)}"
        best, wins = method == verdict.best, method == verdict.winner
        star = tag("span", "★ ", class_="wins-cell", title="wins by the test") if wins else ""
        lines += [star, tag("span", mean, class_="best" * best), sd]
        if common is None:
            no_sd = "" if summary.sd is not None else ", no sd"
            lines.append(tag("small", f"n = {summary.n}{no_sd}"))
    if cell.undefined:
        reasons = "; ".join(dict.fromkeys(cell.undefined.values()))
        of = "" if not cell.scores else f"{len(cell.undefined)} of {_total(cell)} "
        lines.append(tag("small", f"{of}undefined: {reasons}", class_="long"))
    if table.has_paper:
        on = f" ({cell.paper.data})" if cell.paper else ""
        lines.append(tag("small", f"paper{on}: {format_paper(cell, table.score)}"))
    return tag("td", *lines)


def _total(cell: Cell) -> int:
    return len(cell.scores) + len(cell.undefined)
