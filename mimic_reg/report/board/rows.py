"""The rows of the board, from run folders and the searches before them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scipy import stats

from mimic_reg.errors import InputError
from mimic_reg.metrics.comparison import interval, summarise
from mimic_reg.metrics.folds import Repeat, by_fold, in_order, num_folds
from mimic_reg.metrics.scores import metric
from mimic_reg.metrics.uncertainty import combined
from mimic_reg.report.board.commands import sweep_command, train_command
from mimic_reg.report.board.searches import Budget, Searches, read_searches
from mimic_reg.report.results import TrialResult, Unfinished, collect, folders_below
from mimic_reg.report.tables import SPLIT
from mimic_reg.runs import read_trial
from mimic_reg.settings import TrainingSize


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model with a method on a task, at a training size, over its seeds or folds.

    data:      fingerprint of the store
    low, high: 95 % interval of the mean test score; covers: which chance it is about
    n, sd:     seeds, or folds in a cross-validation; the standard deviation over them
    rank:      among the rows of its place; None if their budgets differ, or without a score
    seconds:   of training and validation, the mean of a run, on `device`
    code:      versions of the code
    command:   that trains its runs; "" if no single command does
    notes:     such as runs that are hardly trained
    """

    cohort: str
    data: str
    task: str
    size: TrainingSize
    model: str
    method: str
    score: str
    mean: float | None
    low: float | None
    high: float | None
    covers: str
    sd: float | None
    n: int
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    budget: Budget
    rank: int | None = None
    seconds: float | None = None
    device: str = ""
    code: tuple[str, ...] = ()
    command: str = ""
    notes: str = ""

    @property
    def place(self) -> tuple[str, str, str, TrainingSize, str]:
        """Return what rows must share to be compared."""
        return self.cohort, self.data, self.task, self.size, self.score


@dataclass(frozen=True)
class Board:
    """Rows by place, the best first; and what was left out.

    lost:       runs of points of a search that were not chosen
    unfinished: runs without a result
    problems:   searches that could not be read
    """

    rows: tuple[Row, ...]
    lost: int = 0
    unfinished: tuple[Unfinished, ...] = ()
    problems: tuple[str, ...] = ()

    def places(self) -> dict[tuple[str, str, str, TrainingSize, str], list[Row]]:
        """Return the rows of each place, in their order."""
        found: dict[tuple[str, str, str, TrainingSize, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.place, []).append(row)
        return found


def collect_board(works: Sequence[Path]) -> Board:
    """Read the board of work folders, or of any folders with runs.

    Raises:
        InputError: a folder is missing, or there is no run in them.
    """
    for work in works:
        if not work.is_dir():
            raise InputError(f"There is no folder {work}. Name a work folder, or one with runs.")
    searches = read_searches(works)
    by_data: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(f.resolve() for work in works for f in folders_below(work)):
        if folder not in searches.lost:
            by_data.setdefault(_fingerprint(folder), []).append(folder)
    if not by_data:
        raise InputError(
            f"There is no run in {', '.join(map(str, works))}. Make some with `mimic-reg compare`, "
            "`mimic-reg sweep` or `mimic-reg train`."
        )
    rows: list[Row] = []
    unfinished: list[Unfinished] = []
    for folders in by_data.values():
        results = collect(folders, fold_by_fold=searches.in_folds)
        unfinished += results.unfinished
        groups: dict[tuple[str, str, str, TrainingSize], list[TrialResult]] = {}
        for trial in results.trials:
            key = trial.task, trial.model, trial.method, trial.supervision
            groups.setdefault(key, []).append(trial)
        rows += [_row(trials, searches) for trials in groups.values()]
    return Board(
        tuple(_ranked(rows)), len(searches.lost), tuple(unfinished), tuple(searches.problems)
    )


def _fingerprint(folder: Path) -> str:
    try:
        return str(read_trial(folder)["store"]["fingerprint"])
    except (InputError, OSError):  # `collect` says what is wrong with it
        return ""


def _row(trials: Sequence[TrialResult], searches: Searches) -> Row:
    first = trials[0]
    name = first.selected_by
    found = {t.repeat: t.scores.get(SPLIT, {}).get(name) for t in trials}
    values = {r: s.value for r, s in found.items() if s is not None and s.value is not None}
    undefined = len(trials) - len(values)
    hardly = sum(t.hardly_trained is not None for t in trials)
    costs = [seconds for t in trials if (seconds := _seconds(t)) is not None]
    budgets = {searches.budgets.get(t.folder, Budget()) for t in trials}
    summary = summarise(list(by_fold(values).values()))
    low, high, covers = _interval(trials, values, name)
    if "regression" not in metric(name).targets:  # a mean of scores between 0 and 1
        low, high = (None if bound is None else min(1.0, max(0.0, bound)) for bound in (low, high))
    notes = [
        f"{undefined} of {len(trials)} undefined" * bool(undefined),
        f"{hardly} of {len(trials)} hardly trained" * bool(hardly),
    ]
    return Row(
        cohort=first.cohort.name,
        data=first.fingerprint,
        task=first.task,
        size=first.supervision,
        model=first.model,
        method=first.method,
        score=name,
        mean=summary.mean if values else None,
        low=low,
        high=high,
        covers=covers,
        sd=summary.sd,
        n=summary.n,
        seeds=tuple(sorted({t.seed for t in trials})),
        folds=tuple(sorted({t.fold for t in trials if t.fold is not None})),
        budget=max(budgets),
        seconds=math.fsum(costs) / len(costs) if costs else None,
        device=", ".join(sorted({t.device for t in trials})),
        code=tuple(sorted({t.versions.get("code") or "unknown" for t in trials})),
        command=train_command(trials) or sweep_command(searches.sweeps.get(first.folder)),
        notes="; ".join(filter(None, notes)),
    )


def _interval(
    trials: Sequence[TrialResult], values: Mapping[Repeat, float], name: str
) -> tuple[float | None, float | None, str]:
    """Return the 95 % interval of the mean, and which chance it covers.

    Over test subjects, the standard error of a mean over seeds is at most the mean of the runs':
    all are tested on the same subjects. Theirs follow from their bootstrap intervals.
    """
    whom = trials[0].cohort.subjects
    scores = [t.scores[SPLIT][name] for t in trials if t.repeat in values]
    wide = [s.high - s.low for s in scores if s.low is not None and s.high is not None]
    in_turn = [values[r] for r in in_order(values)]
    if (of := num_folds(values)) is not None:
        bounds = interval(list(by_fold(values).values()), of)
        return (*bounds, "folds") if bounds else (None, None, "")
    if len(in_turn) == 1 and len(wide) == 1:
        return scores[0].low, scores[0].high, whom
    if len(wide) == len(scores) and len(scores) > 1:
        error = math.fsum(wide) / len(wide) / (2 * float(stats.norm.ppf(0.975)))
        both = combined(in_turn, error, trials[0].num_samples[SPLIT])
        return (*both.bounds, f"seeds and {whom}") if both else (None, None, "")
    bounds = interval(in_turn)
    return (*bounds, "seeds") if bounds else (None, None, "")


def _seconds(trial: TrialResult) -> float | None:
    costs = [row.get("cost") or {} for row in trial.epochs()]
    names = "training_seconds", "validation_seconds"
    spent = [
        float(cost[n]) for cost in costs for n in names if isinstance(cost.get(n), int | float)
    ]
    return math.fsum(spent) if spent else None


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by place, the best first, with ranks where the budgets are equal."""
    ranked: list[Row] = []
    groups = Board(tuple(rows)).places()
    for place in sorted(groups, key=lambda p: (p[2], p[0], p[1], p[3], p[4])):
        sign = 1 if metric(place[4]).lower_is_better else -1
        order = sorted(
            groups[place], key=lambda r: (r.mean is None, sign * (r.mean or 0.0), r.model, r.method)
        )
        equal = len({row.budget for row in order}) == 1
        for number, row in enumerate(order, 1):
            ranked.append(replace(row, rank=number if equal and row.mean is not None else None))
    return ranked
