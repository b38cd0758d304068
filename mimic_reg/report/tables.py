"""Tables of results: methods by supervision levels, the paper's figures beside ours.

A cell is the mean over seeds ± the standard deviation (ddof 1), with n.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mimic_reg.metrics.comparison import Summary, summarise
from mimic_reg.metrics.scores import metric
from mimic_reg.report.formats import (
    NOT_AT_HAND,
    format_score,
    format_score_name,
    format_supervision,
    format_task,
)
from mimic_reg.report.paper import PaperFigure, paper_figure
from mimic_reg.report.results import Results, TrialResult, method_order


@dataclass(frozen=True)
class Cell:
    """The trials of one method at one supervision level.

    scores:    seed → score, where it is defined
    undefined: seed → why it is not
    paper:     the paper's figure, if it is at hand
    hardly_trained: seed → why its score is about that of the initial model
    """

    scores: Mapping[int, float]
    undefined: Mapping[int, str]
    paper: PaperFigure | None = None
    hardly_trained: Mapping[int, str] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        """Mean, standard deviation and number of the defined scores."""
        return summarise(list(self.scores.values()))

    @property
    def mark(self) -> str:
        """How many of the trials are hardly trained; "" if none is."""
        num, total = len(self.hardly_trained), len(self.scores) + len(self.undefined)
        return f"{num} of {total} hardly trained" if num else ""


@dataclass(frozen=True)
class ScoreTable:
    """One score of one task and model: rows are methods, columns supervision levels.

    focus: the methods that are put against the others, which are the baselines
    focus_is_best: whether the one in focus was chosen by these scores, as nobody asked for one
    cells: (method, level) → its trials; absent where there is none
    """

    task: str
    model: str
    score: str
    split: str
    methods: tuple[str, ...]
    focus: tuple[str, ...]
    levels: tuple[float, ...]
    cells: Mapping[tuple[str, float], Cell]
    focus_is_best: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is an error."""
        return metric(self.score).lower_is_better

    @property
    def has_paper(self) -> bool:
        """Whether any of the paper's figures stands beside ours."""
        return any(cell.paper for cell in self.cells.values())

    def marks(self) -> list[str]:
        """Return a sentence for each cell with trials that are hardly trained: how many, why."""
        return [
            f"{method} at {format_supervision(level)}: {cell.mark}. At the best epoch of one, "
            f"{next(iter(cell.hardly_trained.values()))}, so its score may be about that of the "
            "initial model. Train for more steps, or weaken the method."
            for (method, level), cell in sorted(self.cells.items())
            if cell.hardly_trained
        ]

    def by_seed(self, level: float) -> dict[str, Mapping[int, float]]:
        """Method → seed → score at a level, for the methods with any defined score."""
        cells = {m: self.cells.get((m, level)) for m in self.methods}
        return {m: cell.scores for m, cell in cells.items() if cell and cell.scores}

    def best(self, level: float) -> str | None:
        """The method with the best mean at a level; None where no score is defined."""
        sign = -1 if self.lower_is_better else 1
        scores = self.by_seed(level)
        return max(
            scores, key=lambda m: sign * summarise(list(scores[m].values())).mean, default=None
        )


def score_table(
    results: Results, task: str, model: str, score: str, split: str = "test"
) -> ScoreTable:
    """The table of a score; trials that do not have it are left out."""
    trials = [t for t in results.of(task, model) if score in t.scores.get(split, {})]
    groups: dict[tuple[str, float], list[TrialResult]] = {}
    for trial in trials:
        groups.setdefault((trial.method, trial.supervision), []).append(trial)
    methods = method_order(trials)
    focused = {t.method for t in trials if t.in_focus}
    data = _dataset(trials)
    table = ScoreTable(
        task=task,
        model=model,
        score=score,
        split=split,
        methods=tuple(methods),
        focus=tuple(m for m in methods if m in focused),
        levels=tuple(sorted({t.supervision for t in trials})),
        cells={key: _cell(members, score, split, data) for key, members in groups.items()},
    )
    if results.has_focus:
        return table
    found = [best for level in table.levels if (best := table.best(level))]
    return replace(table, focus=tuple(found[-1:]), focus_is_best=True)


def score_tables(results: Results, split: str = "test") -> list[ScoreTable]:
    """A table for every task, model and score; the score that selects checkpoints comes first."""
    tables = []
    for task, model in results.settings():
        trials = results.of(task, model)
        selecting = [t.selected_by for t in trials]
        others = [name for t in trials for name in t.scores.get(split, {})]
        for score in dict.fromkeys(selecting + others):
            table = score_table(results, task, model, score, split)
            if table.cells:
                tables.append(table)
    return tables


def main_tables(results: Results, split: str = "test") -> list[ScoreTable]:
    """The tables of the scores that select checkpoints: one for every task and model."""
    return [
        score_table(results, task, model, results.of(task, model)[0].selected_by, split)
        for task, model in results.settings()
    ]


def _dataset(trials: Sequence[TrialResult]) -> str | None:
    """What images were trained on; None where the trials' data are of patients."""
    return next((t.cohort.name for t in trials if not t.cohort.is_hourly), None)


def _cell(trials: Sequence[TrialResult], score: str, split: str, data: str | None) -> Cell:
    scores, undefined = {}, {}
    for trial in trials:
        found = trial.scores[split][score]
        if found.value is None:
            undefined[trial.seed] = found.reason or "no reason was recorded"
        else:
            scores[trial.seed] = found.value
    paper = paper_figure(trials[0], score, data) if split == "test" else None
    hardly = {t.seed: t.hardly_trained for t in trials if t.hardly_trained is not None}
    return Cell(scores, undefined, paper, hardly)


def format_title(table: ScoreTable) -> str:
    """What a table is about."""
    return (
        f"{format_task(table.task)}, {table.model}: {table.split} {format_score_name(table.score)}"
    )


def format_cell(cell: Cell | None, score: str) -> str:
    """Mean ± sd (n), and what is undefined with the reason."""
    if cell is None:
        return "not run"
    reasons = "; ".join(dict.fromkeys(cell.undefined.values()))
    if not cell.scores:
        return f"undefined: {reasons}" + (f" ({cell.mark})" if cell.mark else "")
    summary = cell.summary
    mean = format_score(summary.mean, score)
    spread = f" ± {format_score(summary.sd, score)}" if summary.sd is not None else ""
    notes = [f"n = {summary.n}"]
    if summary.sd is None:
        notes.append("no sd")
    if cell.undefined:
        notes.append(f"{len(cell.undefined)} undefined: {reasons}")
    if cell.mark:
        notes.append(cell.mark)
    return f"{mean}{spread} ({', '.join(notes)})"


def format_paper(cell: Cell | None, score: str) -> str:
    """The paper's figure of a cell."""
    if cell is None or cell.paper is None:
        return NOT_AT_HAND
    spread = f" ± {format_score(cell.paper.sd, score)}" if cell.paper.sd is not None else ""
    return f"{format_score(cell.paper.value, score)}{spread}"
