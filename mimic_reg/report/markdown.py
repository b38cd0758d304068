"""Tables, tests and verdicts as Markdown, for a terminal or a tracker's note."""

import re
from collections.abc import Callable, Sequence

from mimic_reg.report import tables
from mimic_reg.report.evidence import Weighed
from mimic_reg.report.formats import format_level, format_task
from mimic_reg.report.headline import headline
from mimic_reg.report.results import Results, mixed_threads
from mimic_reg.report.verdicts import comparison_columns, comparisons, format_comparison, verdicts


def escape(text: str) -> str:
    """Return text in which Markdown sees no table, tag or line break."""
    text = text.replace("\n", " ").replace("|", "\\|")
    return re.sub(r"<(?=[\w/!?])", "&lt;", text)


def literal(text: str) -> str:
    """Return text on one line in which Markdown sees no markup at all."""
    text = " ".join(text.split()).replace("&", "&amp;")
    return escape(re.sub(r"([\\`*\[\]~])", r"\\\1", text))


def to_markdown(results: Results, weighed: Sequence[Weighed] = ()) -> str:
    """Return answers, scores, tests, warnings and unfinished runs as Markdown.

    weighed: the comparisons with what may be concluded, to add that
    """
    parts = []
    concluded = {(w.table.task, w.table.model): w.sentences for w in weighed}
    for table in tables.main_tables(results):
        found = headline(table)
        parts.append(f"### {tables.format_title(table)}")
        parts += [f"Note: {escape(told)}" for told in [results.unequal().get(table.task)] if told]
        parts += [escape(" ".join(found.sentences))] if found else []
        parts.append(scores_markdown(table))
        if len(table.methods) > 1:
            said = found.sentences if found else ()
            told = [v.sentence for v in verdicts(table) if v.sentence not in said]
            parts += ["\n".join(f"- {escape(sentence)}" for sentence in told)] if told else []
        parts += [f"Note: {escape(note)}" for note in (*table.marks(), *table.paper_notes())]
        if table.focus and comparisons(table):
            parts += ["Paired tests", comparisons_markdown(table)]
            sentences = concluded.get((table.task, table.model), ())
            lines = [f"- {escape(sentence)}" for sentence in sentences]
            parts += ["What may be concluded", "\n".join(lines)] if lines else []
    for table in tables.model_tables(results):
        parts.append(f"### {format_task(table.task)}: which model is best?")
        parts.append("\n".join(f"- {escape(verdict.sentence)}" for verdict in verdicts(table)))
    parts += [f"Note: {escape(sentence)}" for sentence in mixed_threads(results)]
    if results.unfinished:
        lines = [f"- {escape(u.name)}: {escape(u.why)}" for u in results.unfinished]
        parts += ["### Runs without a result", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def scores_markdown(table: tables.ScoreTable) -> str:
    """Return a table with methods as rows and supervision levels as columns."""
    rows = []
    for method in table.methods:
        cells = [(table.cells.get((method, level)), table.score) for level in table.levels]
        rows += tables.method_rows(method, cells, table.has_paper)
    return table_markdown(["method", *map(format_level, table.levels)], rows)


def comparisons_markdown(table: tables.ScoreTable) -> str:
    """Return the comparisons of the methods in focus; of all methods without a focus."""
    rows = [
        [format_level(c.supervision), c.method, c.baseline, *format_comparison(c, table.score)]
        for c in comparisons(table)
        if c.method in table.focus or not table.focus
    ]
    header = ["level", "method", "against", *comparison_columns(table)]
    return table_markdown(header, rows, num_left=4)


def table_markdown(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    num_left: int = 1,
    shown: Callable[[str], str] = escape,
) -> str:
    """Return a table that is also aligned as plain text; `num_left` columns are aligned left.

    shown: a cell → its Markdown
    """
    lines = [[shown(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * w if i < num_left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    padded = [
        [c.ljust(w) if i < num_left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))]  # noqa: B905
        for line in (lines[0], rule, *lines[1:])
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)
