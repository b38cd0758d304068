"""The board as CSV, page and Markdown."""

from collections.abc import Sequence
from pathlib import Path

from mimic_reg.metrics.scores import metric
from mimic_reg.report.board.rows import Board, Row
from mimic_reg.report.document import Document, Grid, Part, to_html, to_markdown, write_texts
from mimic_reg.report.formats import count, file_name, format_estimate, format_level, format_task
from mimic_reg.report.html import to_csv

CSV, PAGE, MARKDOWN = "board.csv", "board.html", "board.md"
COLUMNS = (
    *("task", "cohort", "data", "training size", "rank", "model", "method"),
    *("score", "mean", "low", "high", "interval over", "sd", "n", "seeds", "folds"),
    *("budget", "seconds a run", "device", "code", "command", "notes"),
)


def write_board(board: Board, folder: Path) -> list[Path]:
    """Write the board into a folder and return its files."""
    found = document(board)
    table = to_csv((COLUMNS, cells(board)))
    texts = {CSV: table, PAGE: str(to_html(found)), MARKDOWN: to_markdown(found)}
    return write_texts(folder, texts)


def cells(board: Board) -> list[list[object]]:
    """Return the cells of each row, in the order of `COLUMNS`."""
    return [_cells(row) for row in board.rows]


def _cells(row: Row) -> list[object]:
    return [
        *(row.task, row.cohort, row.data, format_level(row.size), row.rank, row.model, row.method),
        *(row.score, row.mean, row.low, row.high, row.covers, row.sd, row.n),
        *(_numbers(row.seeds), _numbers(row.folds), row.budget),
        None if row.seconds is None else round(row.seconds, 2),
        *(row.device, " ".join(row.code), row.command, row.notes),
    ]


def _numbers(values: Sequence[int]) -> str:
    return " ".join(map(str, values))


def document(board: Board) -> Document:
    """Return the board as a document: a part for each task, data and training size."""
    runs = sum(max(1, len(row.seeds)) * max(1, len(row.folds)) for row in board.rows)
    left = [
        f"{count(board.lost, 'run')} of points that a search did not choose" * bool(board.lost),
        f"{count(len(board.unfinished), 'run')} that cannot be used" * bool(board.unfinished),
    ]
    out = f" Left out: {' and '.join(filter(None, left))}." if any(left) else ""
    lead = (
        f"{count(len(board.rows), 'row')} from {count(runs, 'run')}: test scores at the epoch with "
        f"the best validation score.{out}"
    )
    warnings = [
        f"A sweep could not be read, so its points count as not tuned. {problem}"
        for problem in board.problems
    ]
    parts = [_part(rows) for rows in board.places().values()]
    return Document("Board", lead, [*parts, _how()], warnings)


_HEADER = (
    *("rank", "model", "method", "score (95 %)", "interval over", "n", "budget"),
    *("seconds a run", "code", "notes"),
)


def _part(rows: Sequence[Row]) -> Part:
    first = rows[0]
    score = metric(first.score)
    heading = f"{format_task(first.task)}, {first.cohort}"
    if not (first.size.is_share and first.size.value == 100):
        heading += f", {format_level(first.size)}"
    facts = {
        "score": f"{score.title}{', lower is better' * score.lower_is_better}",
        "data": f"fingerprint {first.data[:12]}",
    }
    name = file_name(f"{first.task} {first.cohort} {first.size.name} {first.data[:12]}").lower()
    scores = [
        [
            "-" if row.rank is None else str(row.rank),
            *(row.model, row.method, _score(row), row.covers or "-", str(row.n)),
            str(row.budget),
            "-" if row.seconds is None else f"{row.seconds:,.1f}",
            ", ".join(map(_short, row.code)),
            row.notes or "-",
        ]
        for row in rows
    ]
    commands = [[row.model, row.method, row.command or "-"] for row in rows]
    sentences = []
    if len({row.budget for row in rows}) > 1:
        sentences.append(
            "Not ranked, because budgets differ: a better score may come from a larger search. "
            "Rows are in the order of their scores."
        )
    grids = [
        Grid(f"{heading}: scores.", _HEADER, scores, left=(1, 2, 4, 6, 8), wrap=(9,)),
        Grid("Commands.", ("model", "method", "command"), commands, left=(1,), wrap=(2,)),
    ]
    return Part(name, heading, sentences, facts, grids)


def _short(code: str) -> str:
    """Return a commit's first digits, with "+" if files differed from it."""
    commit, changed, _ = code.partition("+")
    return commit[:10] + changed


def _score(row: Row) -> str:
    if row.mean is None:
        return "undefined"
    return format_estimate(row.mean, row.low, row.high, row.score)


def _how() -> Part:
    return Part(
        "how",
        "How to read the board",
        [
            "Score: the mean over n seeds, or over n folds of a cross-validation, with its 95 % "
            "interval. “Interval over” says which chance it covers: other seeds, other test "
            "patients, or both. Intervals that overlap do not show that two rows are equal, since "
            "rows are tested on the same patients: compare two of them with mimic-reg report.",
            "Budget: how many points of a search the validation score chose from, and the runs of "
            "each. Rows are ranked only if all budgets of their table are equal. All the same fit: "
            "the model chooses its values within the fit, so a search has nothing to vary.",
            "Command: it trains the runs of the row, on a store with the fingerprint above. It was "
            "checked that it makes exactly their settings. For fits of several tasks, from a trunk "
            "or on a number of samples it is that of their sweep.",
        ],
    )
