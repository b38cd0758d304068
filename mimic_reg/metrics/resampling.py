"""Does a difference between methods hold for other patients? A paired bootstrap over subjects.

All seeds are tested on the same subjects, so tests over seeds do not answer this. Here test
subjects are drawn with replacement, the same ones for both methods and all seeds; in a
cross-validation, within each fold, so that all subjects of the cohort are drawn. Of repeated
divisions into folds only the first counts here: the others test the same subjects again. The
statistic is the mean over seeds of the difference. Percentile intervals: Efron and Tibshirani 1993,
chapter 13. The models are not trained again.

Shapes: N samples, C labels or classes, S subjects, R replicates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimic_reg.metrics.bootstrap import draw_counts, percentile_interval, replicate
from mimic_reg.metrics.folds import Fold, Repeat
from mimic_reg.metrics.scores import metric
from mimic_reg.settings import TrainingSize

MOST_REPLICATES = 1000
FEWEST_REPLICATES = 200  # with fewer, five draws or less decide an end of a 95 % interval
# The most that a table may cost: samples x labels (for means: subjects) x replicates x trials. A
# core ranks 140 to 540 million a second, so this is a minute at most.
MOST_WORK = 8_000_000_000

NO_PREDICTIONS = "no predictions"
UNDEFINED = "undefined in most draws"

Key = tuple[str, TrainingSize, Repeat]  # method, training size, seed


@dataclass(frozen=True)
class Tested:
    """Labels, predictions and subjects of the test samples of a trial.

    y:       (N, C) labels; (N, 1) values, or classes of a multiclass task
    p:       (N, C)
    subject: (N,) numbers from 0 on, not ids
    """

    y: np.ndarray
    p: np.ndarray
    subject: np.ndarray


@dataclass(frozen=True)
class Resampled:
    """The trials of a table, scored on the same draws of test subjects.

    values:      trial → (R,) its score on every draw; nan if a draw has only one class
    num_missing: trials with a score but without predictions or labels
    reason:      why there are no values; "" if there are some
    unit:        what was drawn: "subject" or "image"
    """

    values: Mapping[Key, np.ndarray]
    num_missing: int = 0
    reason: str = ""
    unit: str = "subject"
    num_units: int = 0
    num_replicates: int = 0

    def interval(
        self, method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
    ) -> tuple[float, float] | str:
        """Return the 95 % interval of the mean over seeds of method - baseline, or a reason."""
        first = [seed for seed in seeds if not _repeated(seed)]
        pairs = [((method, level, seed), (baseline, level, seed)) for seed in first]
        if not pairs:
            return "no seed in common"
        if self.reason or not all(key in self.values for pair in pairs for key in pair):
            return "-" if self.reason else NO_PREDICTIONS
        differences = [self.values[a] - self.values[b] for a, b in pairs]
        return percentile_interval(np.mean(differences, axis=0)) or UNDEFINED


def resample(
    score: str,
    trials: Iterable[tuple[Key, Tested | None]],
    num_trials: int,
    *,
    unit: str = "subject",
    most_work: float = MOST_WORK,
) -> Resampled:
    """Score trials again on draws of their test subjects.

    trials:     predictions of each trial, read when they are needed; trials with None, or with
                other samples than the first of their fold, are left out
    num_trials: how many there are
    unit:       what is drawn
    most_work:  the most that it may cost, see `MOST_WORK`: large test sets or many trials have
                fewer replicates, or none
    """
    found = metric(score)
    if found.over_subjects is None:
        return Resampled({}, reason="not available for this score")
    values: dict[Key, np.ndarray] = {}
    first: dict[int, Tested] = {}  # by fold
    counts: dict[int, np.ndarray] = {}
    num_replicates = 0
    for key, tested in trials:
        fold = key[2].number if isinstance(key[2], Fold) else 0
        if _repeated(key[2]):
            num_trials -= 1
            continue
        if tested is None or (fold in first and not _same_samples(tested, first[fold])):
            continue
        if fold not in first:
            num_units = int(tested.subject.max()) + 1
            if not first:
                work = num_trials * (tested.y.size if found.ranks else num_units)
                num_replicates = min(MOST_REPLICATES, int(most_work // work))
            if num_replicates < FEWEST_REPLICATES:
                return Resampled({}, reason=_too_large(len(tested.y), num_trials))
            first[fold], counts[fold] = tested, draw_counts(num_units, num_replicates, fold)
        statistic = found.over_subjects(tested.y, tested.p, tested.subject)
        values[key] = replicate(statistic, counts[fold])
    num_units = sum(int(tested.subject.max()) + 1 for tested in first.values())
    if not first:
        why = "the predictions, or the labels in the store, were not found"
        return Resampled({}, num_trials, why)
    return Resampled(values, num_trials - len(values), "", unit, num_units, num_replicates)


def _repeated(seed: Repeat) -> bool:
    """Return whether a run tests subjects that the folds of the first division tested before."""
    return isinstance(seed, Fold) and seed.number > seed.of


def _too_large(num_samples: int, num_trials: int) -> str:
    return f"{num_samples:,} samples of {num_trials:,} trials would take too long"


def _same_samples(a: Tested, b: Tested) -> bool:
    return np.array_equal(a.subject, b.subject) and np.array_equal(a.y, b.y)
