"""Does a difference between methods hold for other patients? A paired bootstrap over subjects.

All seeds are tested on the same subjects, so tests over seeds do not answer this. Here test
subjects are drawn with replacement, the same ones for both methods and all seeds; in a
cross-validation, within each fold, so that all subjects of the cohort are drawn. Of repeated
divisions into folds only the first counts here: the others test the same subjects again. The
statistic is the mean over seeds of the difference. Percentile intervals: Efron and Tibshirani 1993,
chapter 13. The models are not trained again.

For AUROCs there is DeLong's test beside it, which also serves where so many draws would take too
long.

Shapes: N samples, C labels or classes, S subjects, R replicates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from mimic_reg.metrics import delong
from mimic_reg.metrics.bootstrap import draw_counts, percentile_interval, replicate
from mimic_reg.metrics.delong import Placements
from mimic_reg.metrics.folds import Fold, Repeat, num_folds
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
    placements:  trial → its placements, of AUROCs only
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
    placements: Mapping[Key, Placements] = field(default_factory=dict)

    def interval(
        self, method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
    ) -> tuple[float, float] | str:
        """Return the 95 % interval of the mean over seeds of method - baseline, or a reason."""
        if not _pairs(method, baseline, level, seeds):
            return "no seed in common"
        found = self._differences(method, baseline, level, seeds)
        if found is None:
            return "-" if self.reason else NO_PREDICTIONS
        return percentile_interval(found) or UNDEFINED

    def error(
        self, method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
    ) -> float | None:
        """Return the standard error of the same mean over test subjects; None if unknown.

        It is that of the draws, and without draws that of DeLong.
        """
        found = self._differences(method, baseline, level, seeds)
        if found is None:
            tested = self.delong(method, baseline, level, seeds)
            return tested.error if tested else None
        finite = found[np.isfinite(found)]
        return float(finite.std(ddof=1)) if 2 * len(finite) >= len(found) else None

    def delong(
        self, method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
    ) -> delong.Paired | None:
        """Return DeLong's test of the same mean; None if it is not one of AUROCs, or of folds."""
        keys = _pairs(method, baseline, level, seeds)
        if not keys or num_folds(seeds) or not self.placements.keys() >= set(chain(*keys)):
            return None
        found = [self.placements[key] for pair in keys for key in pair]
        return delong.paired(delong.weighted(found, [1 / len(keys), -1 / len(keys)] * len(keys)))

    def _differences(
        self, method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
    ) -> np.ndarray | None:
        """Return (R,) the mean over seeds of method - baseline on every draw."""
        keys = _pairs(method, baseline, level, seeds)
        if self.reason or not keys or not self.values.keys() >= set(chain(*keys)):
            return None
        return np.mean([self.values[a] - self.values[b] for a, b in keys], axis=0)


def _pairs(
    method: str, baseline: str, level: TrainingSize, seeds: Sequence[Repeat]
) -> list[tuple[Key, Key]]:
    first = [seed for seed in seeds if not _repeated(seed)]
    return [((method, level, seed), (baseline, level, seed)) for seed in first]


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
    placed: dict[Key, Placements] = {}
    first: dict[int, Tested] = {}  # by fold
    counts: dict[int, np.ndarray] = {}
    num_replicates, too_large = 0, ""
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
                size = f"{len(tested.y):,} samples of {num_trials:,} trials"
                too_large = f"{size} would take too long"
                if score != "auroc":
                    return Resampled({}, reason=too_large)
            first[fold] = tested
            counts[fold] = draw_counts(num_units, 0 if too_large else num_replicates, fold)
        if score == "auroc" and (places := _place(tested)):
            placed[key] = places
        if not too_large:
            statistic = found.over_subjects(tested.y, tested.p, tested.subject)
            values[key] = replicate(statistic, counts[fold])
    num_units = sum(int(tested.subject.max()) + 1 for tested in first.values())
    if not first:
        why = "the predictions, or the labels in the store, were not found"
        return Resampled({}, num_trials, why)
    num_missing = 0 if too_large else num_trials - len(values)
    return Resampled(values, num_missing, too_large, unit, num_units, num_replicates, placed)


def _place(tested: Tested) -> Placements | None:
    return delong.placements(tested.y[:, 0], tested.p[:, 0], tested.subject)


def _repeated(seed: Repeat) -> bool:
    """Return whether a run tests subjects that the folds of the first division tested before."""
    return isinstance(seed, Fold) and seed.number > seed.of


def _same_samples(a: Tested, b: Tested) -> bool:
    return np.array_equal(a.subject, b.subject) and np.array_equal(a.y, b.y)
