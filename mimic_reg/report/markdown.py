"""Tables, tests and verdicts as Markdown, for a terminal or a tracker's note."""

from collections.abc import Sequence

from mimic_reg.report.formats import (
    escape,
    format_difference,
    format_interval,
    format_level,
    format_p,
)
from mimic_reg.report.headline import headline
from mimic_reg.report.results import Results, mixed_threads
from mimic_reg.report.tables import (
    ScoreTable,
    format_cell,
    format_minus_paper,
    format_paper,
    format_title,
    main_tables,
)
from mimic_reg.report.verdicts import Compared, comparisons, verdicts

COMPARISON_COLUMNS = ("n", "difference", "95 % interval", "effect d", "p", "p (Holm)", "verdict")


def to_markdown(results: Results, split: str = "test") -> str:
    """All that matters as Markdown, for a terminal or a tracker's note."""
    parts = []
    for table in main_tables(results, split):
        found = headline(table)
        parts += [
            f"### {format_title(table)}",
            *([escape(" ".join(found.sentences))] if found else []),
        ]
        parts.append(scores_markdown(table))
        parts.append("\n".join(f"- {escape(v.sentence)}" for v in verdicts(table)))
        parts += [f"Note: {escape(sentence)}" for sentence in table.paper_notes()]
        if table.focus and comparisons(table):
            parts += ["Paired tests", comparisons_markdown(table)]
    parts += [f"Note: {escape(sentence)}" for sentence in mixed_threads(results)]
    if results.unfinished:
        lines = [f"- {escape(u.name)}: {escape(u.why)}" for u in results.unfinished]
        parts += ["### Without a result", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def scores_markdown(table: ScoreTable) -> str:
    """The table with methods as rows and supervision levels as columns."""
    rows = []
    for method in table.methods:
        cells = [table.cells.get((method, level)) for level in table.levels]
        rows.append([method, *(format_cell(cell, table.score) for cell in cells)])
        if table.has_paper:
            rows.append(["(paper)", *(format_paper(cell, table.score) for cell in cells)])
            rows.append(["(minus paper)", *(format_minus_paper(c, table.score) for c in cells)])
    return _markdown(["method", *map(format_level, table.levels)], rows)


def comparisons_markdown(table: ScoreTable) -> str:
    """The comparisons of the methods in focus; of all methods where none is."""
    rows = [
        [format_level(c.supervision), c.method, c.baseline, *format_comparison(c, table.score)]
        for c in comparisons(table)
        if c.method in table.focus or not table.focus
    ]
    return _markdown(["level", "method", "against", *COMPARISON_COLUMNS], rows, num_left=3)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """A table, padded for reading as text; `num_left` columns are aligned left."""
    lines = [[escape(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(header))]
    rule = ["-" * w if i < num_left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [
            c.ljust(w) if i < num_left else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def format_comparison(compared: Compared, score: str) -> list[str]:
    """A comparison as the texts of `COMPARISON_COLUMNS`; "-" where there is no number."""
    result = compared.result
    return [
        str(result.n),
        format_difference(result.difference, score) if result.n else "-",
        format_interval(result.interval, score) if result.interval else "-",
        f"{result.effect:+.2f}" if result.effect is not None else "-",
        *(_number_of(p) for p in (result.p, result.p_holm)),
        _conclusion(compared),
    ]


def _number_of(p: float | None) -> str:
    return "-" if p is None else format_p(p).removeprefix("p ").removeprefix("= ")


def _conclusion(compared: Compared) -> str:
    result = compared.result
    if result.p_holm is None:
        return f"no test: {result.reason}"
    if not result.significant:
        return "not told apart"
    return "better" if compared.better else "worse"
