"""Tables of results: methods by supervision levels, with the paper's scores.

A cell is the mean over seeds ± the standard deviation (ddof 1), with n. In a cross-validation it is
the mean over folds of each fold's mean over seeds, and n counts folds.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mimic_reg.metrics.comparison import Summary, interval, summarise
from mimic_reg.metrics.folds import Repeat, by_fold, num_folds
from mimic_reg.metrics.scores import metric
from mimic_reg.report.formats import (
    format_difference,
    format_interval,
    format_score,
    format_score_name,
    format_supervision,
    format_task,
)
from mimic_reg.report.paper import (
    Difference,
    PaperScore,
    other_data,
    other_settings,
    paper,
    paper_scores,
)
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.store import Store

SPLIT = "test"  # of all tables


@dataclass(frozen=True)
class Cell:
    """The trials of one method at one supervision level.

    scores:    seed, or seed in a fold → score, if it is defined
    undefined: the same → why it is not defined
    paper:     the paper's score for the same trial on the same data
    differs:   settings in which the trials differ from the paper's
    hardly_trained: the same → why its score is about that of the initial model
    """

    scores: Mapping[Repeat, float]
    undefined: Mapping[Repeat, str]
    paper: PaperScore | None = None
    differs: tuple[Difference, ...] = ()
    hardly_trained: Mapping[Repeat, str] = field(default_factory=dict)

    @property
    def summary(self) -> Summary:
        """Return mean, standard deviation and number of the defined scores; of folds, if any."""
        return summarise(list(by_fold(self.scores).values()))

    @property
    def folds(self) -> int | None:
        """Return into how many folds the cohort is divided, if the scores are of several."""
        return num_folds(self.scores)

    @property
    def minus_paper(self) -> tuple[float, tuple[float, float] | None] | None:
        """Return our mean minus the paper's score, and its 95 % interval over our seeds.

        The interval is that of our mean (t distribution). It treats the paper's score as exact,
        because the paper does not say how many runs it has. One seed has no interval.
        """
        if self.paper is None or not self.scores:
            return None
        differences = [score - self.paper.value for score in self.scores.values()]
        return summarise(differences).mean, interval(differences)

    @property
    def mark(self) -> str:
        """Return how many of the trials are hardly trained; "" if none is."""
        num, total = len(self.hardly_trained), len(self.scores) + len(self.undefined)
        return f"{num} of {total} hardly trained" if num else ""


@dataclass(frozen=True)
class ScoreTable:
    """One score of one task and model: rows are methods, columns supervision levels.

    focus: the methods that are compared with the others, which are the baselines
    focus_is_best: whether the method in focus was chosen because its scores are the best
    cells: (method, level) → its trials; absent if there are none
    paper_is_of_other_data: why the paper's scores are not shown; "" if they are, or it has none
    split: whose scores these are; the report's tables are of the test split
    """

    task: str
    model: str
    score: str
    methods: tuple[str, ...]
    focus: tuple[str, ...]
    levels: tuple[TrainingSize, ...]
    cells: Mapping[tuple[str, TrainingSize], Cell]
    focus_is_best: bool = False
    paper_is_of_other_data: str = ""
    split: str = SPLIT

    @property
    def lower_is_better(self) -> bool:
        """Whether the score is an error."""
        return metric(self.score).lower_is_better

    @property
    def sign(self) -> int:
        """Return what to multiply scores by so that larger is better."""
        return -1 if self.lower_is_better else 1

    @property
    def folds(self) -> int | None:
        """Return into how many folds the cohort is divided; None without cross-validation."""
        return next((cell.folds for cell in self.cells.values() if cell.folds), None)

    @property
    def has_paper(self) -> bool:
        """Whether any cell has a score of the paper."""
        return any(cell.paper for cell in self.cells.values())

    def marks(self) -> list[str]:
        """Return a warning about methods with trials that are hardly trained: how many, why."""
        found = {key: cell for key, cell in sorted(self.cells.items()) if cell.hardly_trained}
        if not found:
            return []
        which = "; ".join(
            f"{method} at {format_supervision(level)} ({cell.mark.partition(' hardly')[0]})"
            for (method, level), cell in found.items()
        )
        why = next(iter(next(iter(found.values())).hardly_trained.values()))
        return [
            f"Some runs hardly trained, so their scores may be those of the initial model: "
            f"{which}. For example, in the best epoch {why}. "
            "Train for more steps, or weaken the method."
        ]

    def paper_notes(self) -> list[str]:
        """Return notes on published scores that are shown: other settings, misprints."""
        notes = []
        differing: dict[str, list[str]] = {}
        for (method, level), cell in self.cells.items():
            at = f"{method} at {format_supervision(level)}"
            for difference in cell.differs if cell.paper else ():
                differing.setdefault(difference.text, []).append(at)
            if cell.paper and cell.paper.remark:
                notes.append(f"{at}: the paper's score is {cell.paper.remark}.")
        for text, where in differing.items():
            everywhere = len(where) == sum(bool(c.paper) for c in self.cells.values())
            who = "All rows" if everywhere else "; ".join(where)
            notes.append(f"{who}: settings differ from the paper's: {text}.")
        return notes

    def by_seed(self, level: TrainingSize) -> dict[str, Mapping[Repeat, float]]:
        """Return method → seed, or seed in a fold → score at a level, if one is defined."""
        cells = {m: self.cells.get((m, level)) for m in self.methods}
        return {m: cell.scores for m, cell in cells.items() if cell and cell.scores}

    def best(self, level: TrainingSize) -> str | None:
        """Return the method with the best mean at a level; None if no score is defined."""
        return max(
            self.by_seed(level),
            key=lambda m: self.sign * self.cells[m, level].summary.mean,
            default=None,
        )


def score_table(
    results: Results, task: str, model: str, score: str, split: str = SPLIT
) -> ScoreTable:
    """Return the table of a score, without trials that do not have it."""
    trials = [t for t in results.of(task, model) if score in t.scores.get(split, {})]
    groups: dict[tuple[str, TrainingSize], list[TrialResult]] = {}
    for trial in trials:
        groups.setdefault((trial.method, trial.supervision), []).append(trial)
    methods = method_order(trials)
    focused = {t.method for t in trials if t.in_focus}
    table = ScoreTable(
        task=task,
        model=model,
        score=score,
        methods=tuple(methods),
        focus=tuple(m for m in methods if m in focused),
        levels=tuple(sorted({t.supervision for t in trials})),
        cells={key: _cell(members, score, split) for key, members in groups.items()},
        paper_is_of_other_data=_of_other_data(trials, score),
        split=split,
    )
    if results.has_focus:
        return table
    found = [best for level in table.levels if (best := table.best(level))]
    return replace(table, focus=tuple(found[-1:]), focus_is_best=True)


def score_tables(results: Results) -> list[ScoreTable]:
    """Return a table for every task, model and score, the one that selects checkpoints first."""
    tables = []
    for task, model in results.settings():
        trials = results.of(task, model)
        selecting = [t.selected_by for t in trials]
        others = [name for t in trials for name in t.scores.get(SPLIT, {})]
        for score in dict.fromkeys(selecting + others):
            table = score_table(results, task, model, score)
            if table.cells:
                tables.append(table)
    return tables


def main_tables(results: Results, split: str = SPLIT) -> list[ScoreTable]:
    """Return the table of the score that selects checkpoints, for every task and model."""
    return [
        score_table(results, task, model, results.of(task, model)[0].selected_by, split)
        for task, model in results.settings()
    ]


def model_tables(results: Results) -> list[ScoreTable]:
    """Return a table of models for each task that has several, in the place of methods.

    At each level a model has its method with the best mean validation score: its label is "lstm
    with dropout", or "lstm" without a method. Each fold of a cross-validation chooses for itself,
    since the patients that validate it test another one: "lstm with dropout or none, by fold".
    """
    of_fold: dict[int | None, list[TrialResult]] = {}
    for trial in results.trials:
        of_fold.setdefault(trial.fold, []).append(trial)
    chosen = {
        (table.task, table.model, level, fold): table.best(level)
        for fold, trials in of_fold.items()
        for table in main_tables(Results(tuple(trials)), "validation")
        for level in table.levels
    }
    places = ((t, (t.task, t.model, t.supervision, t.fold)) for t in results.trials)
    kept = [t for t, place in places if chosen.get(place) == t.method]
    methods: dict[tuple[str, str, TrainingSize], dict[str, None]] = {}
    for t in kept:
        methods.setdefault((t.task, t.model, t.supervision), {})[t.method] = None
    labelled = tuple(
        replace(
            t,
            model="",
            method=_with_methods(t.model, list(methods[t.task, t.model, t.supervision])),
            in_focus=False,
        )
        for t in kept
    )
    models = Counter(task for task, _ in results.settings())
    return [t for t in main_tables(Results(labelled)) if models[t.task] > 1 and len(t.methods) > 1]


def _with_methods(model: str, methods: Sequence[str]) -> str:
    if len(methods) > 1:
        return f"{model} with {' or '.join(methods)}, by fold"
    return model if methods[0] == BASELINE else f"{model} with {methods[0]}"


def best_possible(results: Results, stores: Sequence[Store], table: ScoreTable) -> float | None:
    """Return the score of the true risk on a table's samples; None if the data is not simulated."""
    fingerprints = {t.fingerprint for t in results.of(table.task, table.model)}
    for store in stores:
        known = store.manifest.get("source", {}).get("best_possible", {}).get(table.task, {})
        if store.manifest["fingerprint"] in fingerprints and known:
            value = known.get(SPLIT, {}).get(table.score)
            return None if value is None else float(value)
    return None


def _of_other_data(trials: Sequence[TrialResult], score: str) -> str:
    """Return why the paper's scores of these methods are not shown; "" if there are none."""
    found: dict[str, dict[str, None]] = {}
    for trial in trials:
        for published in paper_scores(trial, score):
            if why := other_data(trial, published.data):
                of = f"Table {published.table} ({paper()['data'][published.data]['title']})"
                found.setdefault(why, {})[of] = None
        if any(other_data(trial, p.data) is None for p in paper_scores(trial, score)):
            return ""
    return " ".join(
        f"The paper's scores in {', '.join(tables)} are not shown: their data differs, as {why}."
        for why, tables in found.items()
    )


def _cell(trials: Sequence[TrialResult], score: str, split: str) -> Cell:
    scores, undefined = {}, {}
    for trial in trials:
        found = trial.scores[split][score]
        if found.value is None:
            undefined[trial.repeat] = found.reason or "no reason was recorded"
        else:
            scores[trial.repeat] = found.value
    same_data = (p for p in paper_scores(trials[0], score) if not other_data(trials[0], p.data))
    published = next(same_data, None) if split == SPLIT else None  # the paper tests
    differs = other_settings(trials[0], published.data) if published else ()
    hardly = {t.repeat: t.hardly_trained for t in trials if t.hardly_trained is not None}
    return Cell(scores, undefined, published, differs, hardly)


def format_title(table: ScoreTable) -> str:
    """Return a title: task, model, split and score."""
    return f"{format_task(table.task)}, {table.model}: {SPLIT} {format_score_name(table.score)}"


def format_cell(cell: Cell | None, score: str) -> str:
    """Return mean ± sd (n), and the number of undefined scores with the reason."""
    if cell is None:
        return "not run"
    reasons = "; ".join(dict.fromkeys(cell.undefined.values()))
    if not cell.scores:
        return f"undefined: {reasons}" + (f" ({cell.mark})" if cell.mark else "")
    mean, sd, n = format_score(cell.summary.mean, score), cell.summary.sd, cell.summary.n
    spread = f" ± {format_score(sd, score)}" if sd is not None else ""
    undefined = f"{len(cell.undefined)} undefined: {reasons}" if cell.undefined else ""
    of = f" of {cell.folds} folds" if cell.folds else ""
    if cell.folds and n > cell.folds:
        of = f", folds of repeated divisions into {cell.folds}"
    notes = (f"n = {n}{of}", "no sd" * (sd is None), undefined, cell.mark)
    return f"{mean}{spread} ({', '.join(filter(None, notes))})"


def format_paper(cell: Cell | None, score: str) -> str:
    """Return the paper's score of a cell; "-" if it has none."""
    if cell is None or cell.paper is None:
        return "-"
    return f"{format_score(cell.paper.value, score)} ± {format_score(cell.paper.sd, score)}"


def method_rows(
    method: str, cells: Sequence[tuple[Cell | None, str]], with_paper: bool
) -> list[list[str]]:
    """Return the texts of a method's cells, each with its score, and those of the paper below."""
    rows = [[method, *(format_cell(*cell) for cell in cells)]]
    if with_paper:
        rows.append(["(paper)", *(format_paper(*cell) for cell in cells)])
        rows.append(["(minus paper)", *(format_minus_paper(*cell) for cell in cells)])
    return rows


def format_minus_paper(cell: Cell | None, score: str) -> str:
    """Return our mean minus the paper's, with its interval over our seeds; "-" without either."""
    if cell is None or (found := cell.minus_paper) is None:
        return "-"
    difference, bounds = found
    text = format_difference(difference, score)
    reason = "one seed" if len(cell.scores) == 1 else "all seeds equal"
    return f"{text} ({format_interval(bounds, score) if bounds else f'no interval: {reason}'})"
