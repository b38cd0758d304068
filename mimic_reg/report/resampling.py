"""Intervals over test subjects of the trials of a table, from their predictions."""

from collections.abc import Iterable

from mimic_reg.errors import InputError
from mimic_reg.metrics import resampling
from mimic_reg.metrics.resampling import MOST_WORK, Resampled, Tested
from mimic_reg.report.predictions import read_predictions
from mimic_reg.report.results import TrialResult
from mimic_reg.report.tables import ScoreTable
from mimic_reg.store import Store


def resample(
    table: ScoreTable,
    trials: Iterable[TrialResult],
    stores: Iterable[Store],
    most_work: float = MOST_WORK,
) -> Resampled:
    """Score the trials of a table again on draws of the test subjects.

    stores: with the labels and subjects
    """
    by_fingerprint = {store.manifest["fingerprint"]: store for store in stores}
    wanted = [t for t in trials if t.repeat in table.by_seed(t.supervision).get(t.method, {})]
    read = (
        ((t.method, t.supervision, t.repeat), _read(t, by_fingerprint.get(t.fingerprint)))
        for t in wanted
    )
    unit = wanted[0].cohort.subject.removesuffix("_id") if wanted else "subject"
    return resampling.resample(table.score, read, len(wanted), unit=unit, most_work=most_work)


def _read(trial: TrialResult, store: Store | None) -> Tested | None:
    if store is None:
        return None
    try:
        found = read_predictions(trial, store)
    except InputError:  # predictions were removed: the report has no interval of this trial
        return None
    return found if len(found.p) else None
