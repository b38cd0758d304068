"""Does a difference between methods hold for other patients? A paired bootstrap over subjects.

All seeds are tested on the same subjects, so tests over seeds cannot tell. Here test subjects are
drawn with replacement, the same ones for both methods and all their seeds; what is compared is the
mean over seeds of the difference. Percentile intervals: Efron and Tibshirani 1993, chapter 13. The
trained models stay what they are.

Shapes: N samples, C labels or classes, S subjects, R replicates.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimic_reg import tasks
from mimic_reg.errors import InputError
from mimic_reg.metrics.bootstrap import (
    Statistic,
    draw_counts,
    mean_statistic,
    percentile_interval,
    ranking_statistic,
    replicate,
)
from mimic_reg.report.figures.curves import read_joined
from mimic_reg.report.results import TrialResult
from mimic_reg.report.tables import ScoreTable
from mimic_reg.storage import Store

MOST_REPLICATES = 1000
FEWEST_REPLICATES = 200  # with fewer, the ends of a 95 % interval are of five draws or less
# What a table may cost: samples x labels (of means: subjects) x replicates x trials. A core ranks
# 140 to 540 million a second: a minute at most.
MOST_WORK = 8_000_000_000

NO_PREDICTIONS = "no predictions"
UNDEFINED = "undefined in most draws"

Key = tuple[str, float, int]  # method, supervision level, seed


@dataclass(frozen=True)
class Tested:
    """Labels and predictions of the test samples of a trial, and whom they are of.

    y:       (N, C) labels; (N, 1) values, or classes of a multiclass task
    p:       (N, C)
    subject: (N,) numbers from 0 on; never an id
    """

    y: np.ndarray
    p: np.ndarray
    subject: np.ndarray


@dataclass(frozen=True)
class Resampled:
    """The trials of a table, scored on the same draws of test subjects.

    values:      trial → (R,) its score on every draw; nan where that has one class only
    num_missing: trials with a score whose predictions, or labels, are not at hand
    reason:      why there are no values at all; "" if there are some
    unit:        what was drawn: "subject" or "image"
    """

    values: Mapping[Key, np.ndarray]
    num_missing: int = 0
    reason: str = ""
    unit: str = "subject"
    num_units: int = 0
    num_replicates: int = 0

    def interval(
        self, method: str, baseline: str, level: float, seeds: Sequence[int]
    ) -> tuple[float, float] | str:
        """95 % interval of the mean over seeds of method - baseline; or why there is none."""
        pairs = [((method, level, seed), (baseline, level, seed)) for seed in seeds]
        if not pairs:
            return "no seed in common"
        if self.reason or not all(key in self.values for pair in pairs for key in pair):
            return "-" if self.reason else NO_PREDICTIONS
        differences = [self.values[a] - self.values[b] for a, b in pairs]
        return percentile_interval(np.mean(differences, axis=0)) or UNDEFINED


def resample(
    table: ScoreTable,
    trials: Iterable[TrialResult],
    stores: Iterable[Store],
    most_work: float = MOST_WORK,
) -> Resampled:
    """Score the trials of a table again on draws of its test subjects.

    stores:    with the labels and subjects
    most_work: what it may cost, in the unit of `MOST_WORK`: where test set and trials are many,
               replicates are fewer, or none
    """
    if table.score not in _STATISTICS:
        return Resampled({}, reason="they are not made for this score")
    by_fingerprint = {store.manifest["fingerprint"]: store for store in stores}
    wanted = [t for t in trials if t.seed in table.by_seed(t.supervision).get(t.method, {})]
    values: dict[Key, np.ndarray] = {}
    first: Tested | None = None
    for trial in wanted:
        tested = _read(trial, table.split, by_fingerprint.get(trial.fingerprint))
        if tested is None or (first and not _same_samples(tested, first)):
            continue
        if first is None:
            first, num_units = tested, int(tested.subject.max()) + 1
            work = len(wanted) * (tested.y.size if table.score in _RANKED else num_units)
            num_replicates = min(MOST_REPLICATES, int(most_work // work))
            if num_replicates < FEWEST_REPLICATES:
                return Resampled({}, reason=_too_large(len(tested.y), len(wanted)))
            counts = draw_counts(num_units, num_replicates)
        statistic = _STATISTICS[table.score](tested)
        values[trial.method, trial.supervision, trial.seed] = replicate(statistic, counts)
    if first is None:
        why = "the store with the labels and subjects, or the predictions, are not at hand"
        return Resampled({}, len(wanted), why)
    unit = tasks.get(table.task).subject.removesuffix("_id")
    missing = len(wanted) - len(values)
    return Resampled(values, missing, "", unit, num_units, num_replicates)


def _too_large(num_samples: int, num_trials: int) -> str:
    return f"{num_samples:,} samples of {num_trials:,} trials are too many to draw from for a page"


def _read(trial: TrialResult, split: str, store: Store | None) -> Tested | None:
    if store is None or trial.task not in tasks.names():
        return None
    task = tasks.get(trial.task)
    try:
        table, p = read_joined(trial, store, [*task.labels, task.subject], split)
    except InputError:  # predictions that are gone are no reason to have no report
        return None
    subject = np.unique(table[task.subject].to_numpy(), return_inverse=True)[1]
    return Tested(table.select(task.labels).to_numpy(), p, subject) if len(p) else None


def _same_samples(a: Tested, b: Tested) -> bool:
    return np.array_equal(a.subject, b.subject) and np.array_equal(a.y, b.y)


# --- scores as functions of how often every subject is drawn --------------------------------------


def _mean_auroc(tested: Tested) -> Statistic:
    """Area under the ROC curve, its mean over the labels that have both classes."""
    each = [
        ranking_statistic(y, p, tested.subject)
        for y, p in zip(tested.y.T, tested.p.T, strict=True)
        if 0 < (y > 0).sum() < len(y)
    ]
    return lambda counts: np.mean([s(counts)[0] for s in each] or [np.nan])


def _accuracy(tested: Tested) -> Statistic:
    hit = tested.p.argmax(1) == tested.y[:, 0]
    return mean_statistic(hit.astype(np.float64), tested.subject)


def _absolute_deviation(tested: Tested) -> Statistic:
    error = (tested.p.astype(np.float64) - tested.y).mean(1)
    return mean_statistic(np.abs(error), tested.subject)


_RANKED = ("auroc", "macro_auroc")
_STATISTICS: Mapping[str, Callable[[Tested], Statistic]] = {
    **dict.fromkeys(_RANKED, _mean_auroc),
    "accuracy": _accuracy,
    "mean_absolute_deviation": _absolute_deviation,
}
