"""What the comparisons of a table show together: over seeds, over test subjects, over both.

Each comparison gets one plain sentence: what may be concluded, and how many more seeds or test
subjects a difference that matters would need. `delta` is the smallest such difference.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from mimic_reg.errors import InputError
from mimic_reg.metrics.comparison import holm_defined
from mimic_reg.metrics.folds import Repeat, in_order
from mimic_reg.metrics.resampling import Resampled
from mimic_reg.metrics.scores import metric
from mimic_reg.metrics.uncertainty import Combined, combined
from mimic_reg.report.cohort.published import samples_by_split, test_subjects
from mimic_reg.report.conclusions import conclude, is_open, needed
from mimic_reg.report.formats import format_level
from mimic_reg.report.resampling import resample
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.report.tables import ScoreTable, main_tables
from mimic_reg.report.verdicts import Compared, comparisons, num_tests
from mimic_reg.settings import TrainingSize
from mimic_reg.store import Store


@dataclass(frozen=True)
class Evidence:
    """A comparison with everything that is known about its difference.

    subjects: 95 % interval over test subjects, or why there is none
    both:     95 % interval over seeds and test subjects; None if one of the two is not known
    delong, delong_holm: p of DeLong's test over test subjects, of AUROCs; with Holm's correction
    sentence: what may be concluded
    """

    compared: Compared
    subjects: tuple[float, float] | str
    both: Combined | None
    delong: float | None
    delong_holm: float | None
    sentence: str


@dataclass(frozen=True)
class Weighed:
    """The comparisons of a table, in the order of `verdicts.comparisons`.

    num_units: how many test subjects there are, as it may be shown
    """

    table: ScoreTable
    resampled: Resampled
    evidence: tuple[Evidence, ...]
    num_units: str

    @property
    def focus(self) -> list[Evidence]:
        """Return those of the methods in focus; all, if there are none."""
        found = [e for e in self.evidence if e.compared.method in self.table.focus]
        return found or list(self.evidence)

    @property
    def sentences(self) -> list[str]:
        """Return what may be concluded on those in focus, after the level if there are several."""
        levels = [f"{format_level(e.compared.supervision)}: " for e in self.focus]
        several = len(self.table.levels) > 1
        return [at * several + e.sentence for at, e in zip(levels, self.focus, strict=True)]


def weigh(
    results: Results, stores: Sequence[Store], delta: float | None = None
) -> tuple[Weighed, ...]:
    """Return the evidence of every main table that compares methods.

    stores: with the labels of the test samples
    delta:  the smallest difference that matters; None: that of the score, see `scores.Metric`

    Raises:
        InputError: delta is not above 0.
    """
    if delta is not None and not 0 < delta < float("inf"):
        raise InputError(f"The smallest difference that matters is {delta}: give one above 0.")
    return tuple(
        _weigh(table, results.of(table.task, table.model), stores, delta)
        for table in main_tables(results)
        if comparisons(table)
    )


def _weigh(
    table: ScoreTable, trials: Sequence[TrialResult], stores: Sequence[Store], delta: float | None
) -> Weighed:
    resampled = resample(table, trials, stores)
    own = (s for s in stores if s.manifest["fingerprint"] == trials[0].fingerprint)
    num_units = test_subjects(resampled.num_units, samples_by_split(trials[0], next(own, None)))
    found: list[Evidence] = []
    for (method, level), group in itertools.groupby(comparisons(table), _family):
        members = list(group)
        tested = [resampled.delong(*_asked(c, table)) for c in members]
        p = [each.p if each else None for each in tested]
        adjusted = holm_defined(p, num_tests(table, method, level))
        found += [
            _evidence(c, table, resampled, plain, holm, delta, num_units)
            for c, plain, holm in zip(members, p, adjusted, strict=True)
        ]
    return Weighed(table, resampled, tuple(found), num_units)


def _family(compared: Compared) -> tuple[str, TrainingSize]:
    return compared.method, compared.supervision


def _evidence(
    compared: Compared,
    table: ScoreTable,
    resampled: Resampled,
    p: float | None,
    p_holm: float | None,
    delta: float | None,
    num_units: str,
) -> Evidence:
    asked = _asked(compared, table)
    subjects = resampled.interval(*asked)
    error = None if table.folds else resampled.error(*asked)
    both = None
    if error is not None:
        scores = table.by_seed(compared.supervision)
        differences = [scores[compared.method][s] - scores[compared.baseline][s] for s in asked[-1]]
        both = combined(differences, error, resampled.num_units)
    wanted = metric(table.score).matters if delta is None else delta
    unit, sentence = resampled.unit, conclude(compared, table, both, resampled.unit, wanted)
    if not table.folds and is_open(compared, both, wanted):
        tell = num_units == f"{resampled.num_units:,}"
        more = needed(compared, error, resampled.num_units, unit, wanted, tell=tell)
        sentence = f"{sentence} {more}".strip()
    return Evidence(compared, subjects, both, p, p_holm, sentence)


def _asked(compared: Compared, table: ScoreTable) -> tuple[str, str, TrainingSize, list[Repeat]]:
    """Return method, baseline, level, and the seeds that both have."""
    method, baseline, level = compared.method, compared.baseline, compared.supervision
    scores = table.by_seed(level)
    return method, baseline, level, in_order(scores[method].keys() & scores[baseline].keys())
