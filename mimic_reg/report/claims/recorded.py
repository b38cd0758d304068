"""Claims about what happens during fits: selection, curvature, gradients (claims 7 to 13)."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.metrics.deviations import DEVIATION_EDGES, deviations
from mimic_reg.metrics.folds import Repeat
from mimic_reg.metrics.scores import metric
from mimic_reg.report.analyses import gradients
from mimic_reg.report.analyses.base import start_and_best
from mimic_reg.report.analyses.hessian import TRACE
from mimic_reg.report.analyses.selection import last
from mimic_reg.report.claims.base import Found, Measured, names, rows_at, usable
from mimic_reg.report.figures.selection import EVER, recorded
from mimic_reg.report.formats import format_level
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.settings import BASELINE

IMAGES = ("image_classification", "dnn", "fashion_mnist")
MORTALITY = ("in_hospital_mortality", "lstm", "mimic-iii")
NOT_WORSE = 0.01  # of a score
SETTLED_AT, SETTLED = 100, 27_000  # epoch, counted from 1; parameters
GROWTH, DISTANCE = 0.05, 0.2
LONG = 110  # epochs
ALIKE = math.log10(2)
HARDLY = 0.01  # of a parameter's distance from its start

_Found = tuple[dict[str, Found], Counter[str]]
_Trials = Sequence[TrialResult]
_Part = Measured | None


def selection_grows_with_data(results: Results) -> _Found:
    """Compare what is ever selected at the largest and at the smallest training size."""

    def part(trials: _Trials, where: str) -> Iterable[_Part]:
        levels = sorted({t.supervision for t in trials if t.supervision.is_share})
        ends = [rows_at(trials, "itps", level=level, tau=_TAU[where]) for level in levels]
        ends = [found for found in ends if _by_seed(found, _ever)]
        if len(ends) > 1:
            sizes = [format_level(found[0].supervision) for found in (ends[-1], ends[0])]
            yield _pair(
                f"{where}: ever selected, {' minus '.join(sizes)}", ends[-1], ends[0], _ever
            )

    return _on(results, (IMAGES, MORTALITY), part)


_TAU = {"dnn, image_classification": 0.25, "lstm, in_hospital_mortality": 0.15}


def threshold(results: Results) -> _Found:
    """Compare thresholds 0.01 and 0.25 with 0.15, without early stopping."""

    def parts(trials: _Trials, where: str) -> Iterable[_Part]:
        of = {t: rows_at(trials, "itps", tau=t, stopping=False) for t in (0.01, 0.15, 0.25)}
        yield _pair(f"{where}: ever selected, tau 0.01 minus 0.15", of[0.01], of[0.15], _ever)
        yield _pair(f"{where}: fall of validation, tau 0.01 minus 0.15", of[0.01], of[0.15], _fall)
        yield _pair(f"{where}: ever selected, tau 0.15 minus 0.25", of[0.15], of[0.25], _ever)
        what = f"{where}: test score plus {NOT_WORSE}, tau 0.25 minus 0.15"
        yield _pair(what, of[0.25], of[0.15], _score, added=NOT_WORSE)

    return _on(results, (MORTALITY,), parts, num_parts=4)


def selection_settles(results: Results) -> _Found:
    """Measure the growth of the selection after epoch 100, and its size there."""

    def growth(trial: TrialResult) -> float | None:
        at, end = _ever_at(trial, SETTLED_AT), _ever(trial)
        return GROWTH - (end - at) / at if at and end is not None else None

    def distance(trial: TrialResult) -> float | None:
        at = _ever_at(trial, SETTLED_AT)
        return None if at is None else DISTANCE - abs(at / SETTLED - 1)

    def parts(trials: _Trials, where: str) -> Iterable[_Part]:
        found = _long(rows_at(trials, "itps", tau=0.25, stopping=False))
        yield _alone(f"{where}: {GROWTH:.0%} minus the growth after epoch 100", found, growth)
        what = f"{where}: {DISTANCE:.0%} minus the distance from {SETTLED:,} at epoch 100"
        yield _alone(what, found, distance)

    return _on(results, (IMAGES,), parts, num_parts=2)


def hessian(results: Results) -> _Found:
    """Compare traces of ITPS and of no method: at first, and from epoch 100 on."""

    def parts(trials: _Trials, where: str) -> Iterable[_Part]:
        rows = [("itps", 0.25), (BASELINE, None)]
        found = [_long(rows_at(trials, r, tau=tau, stopping=False)) for r, tau in rows]
        first, late = ([_by_seed(f, part) for f in found] for part in (_first_trace, _late_trace))
        runs = names([t for f in found for t in f])
        what = f"{where}: trace at the first probe, itps minus none"
        yield Measured(what, first[0], first[1], runs)
        distances = {
            s: ALIKE - abs(math.log10(late[0][s] / late[1][s]))
            for s in late[0].keys() & late[1].keys()
            if late[0][s] > 0 and late[1][s] > 0
        }
        what = f"{where}: log10 of 2 minus the distance of the traces from epoch 100 on"
        yield Measured(what, distances, None, runs)

    return _on(results, (IMAGES,), parts, num_parts=2)


def gradient_norm(results: Results) -> _Found:
    """Compare medians of the first and the last tenth of the recorded norms."""

    def parts(trials: _Trials, where: str) -> Iterable[_Part]:
        plain, ours = rows_at(trials, BASELINE), rows_at(trials, "itps", tau=0.15)
        yield _alone(f"{where}: raw norm without a method, first minus last", plain, _raw_fall)
        yield _alone(f"{where}: masked norm with itps, last minus first", ours, _masked_rise)

    return _on(results, (MORTALITY,), parts, num_parts=2)


def little_movement(results: Results) -> _Found:
    """Measure the share of parameters near their start, minus one half."""

    def part(trials: _Trials, where: str) -> Iterable[_Part]:
        what = f"{where}: share within {HARDLY} of the start, minus one half"
        yield _alone(what, rows_at(trials, BASELINE), _near_start)

    return _on(results, (IMAGES, MORTALITY), part)


def memory(results: Results) -> _Found:
    """Return nothing, because runs do not record memory."""
    return {}, Counter()


# --- recorded values ------------------------------------------------------------------------------


def _on(
    results: Results,
    settings: Sequence[tuple[str, str, str]],
    parts: Callable[[_Trials, str], Iterable[_Part]],
    num_parts: int = 1,
) -> _Found:
    """Return what the runs of some tasks and models contain, by their data.

    parts:     (runs, where) → possible comparisons
    num_parts: comparisons of one task and model that a claim needs
    """
    by_data: dict[str, Found] = {}
    left_out = Counter[str]()
    for task, model, data in settings:
        kept, others = usable(results, task, model, data, ("itps", BASELINE))
        left_out |= others
        for other, trials in kept.items():
            measured = [p for p in parts(trials, f"{model}, {task}") if p is not None and p.method]
            measured = [p for p in measured if p.baseline is None or p.baseline]
            if measured:
                found = by_data.setdefault(other, Found())
                found.parts += measured
                if len(measured) < num_parts:
                    found.missing.append(f"{num_parts - len(measured)} comparisons without runs")
    for found in by_data.values():
        if len(settings) > 1:
            here = len({part.what.partition(":")[0] for part in found.parts})
            found.covered = f"{here} of {len(settings)} data sets"
    return by_data, left_out


_Value = Callable[[TrialResult], float | None]


def _by_seed(trials: _Trials, value: _Value) -> dict[Repeat, float]:
    found = {t.repeat: value(t) for t in trials}
    return {seed: v for seed, v in found.items() if v is not None and math.isfinite(v)}


def _alone(what: str, trials: _Trials, value: _Value) -> Measured:
    return Measured(what, _by_seed(trials, value), None, names(trials))


def _pair(
    what: str, trials: _Trials, baseline: _Trials, value: _Value, added: float = 0.0
) -> Measured:
    ours = {seed: v + added for seed, v in _by_seed(trials, value).items()}
    return Measured(what, ours, _by_seed(baseline, value), names((*trials, *baseline)))


def _long(trials: _Trials) -> list[TrialResult]:
    return [t for t in trials if len(t.epochs()) >= LONG]


def _ever(trial: TrialResult) -> float | None:
    return last(trial, EVER)


def _ever_at(trial: TrialResult, epoch: int) -> float | None:
    """Return the number ever selected at the end of an epoch, counted from 1."""
    series = recorded(trial, EVER)
    found = [] if series is None else series.y[series.x == epoch].tolist()
    return found[0] if found else None


def _fall(trial: TrialResult) -> float | None:
    """Return how far the last validation score is below the best one."""
    sign = -1 if metric(trial.selected_by).lower_is_better else 1
    values = [row["validation"].get(trial.selected_by) for row in trial.epochs()]
    scores = [sign * float(v) for v in values if v is not None]
    return max(scores) - scores[-1] if scores and all(map(math.isfinite, scores)) else None


def _score(trial: TrialResult) -> float | None:
    found = trial.scores["test"].get(trial.selected_by)
    return None if found is None else found.value


def _first_trace(trial: TrialResult) -> float | None:
    series = recorded(trial, TRACE)
    return None if series is None else float(series.y[0])


def _late_trace(trial: TrialResult) -> float | None:
    series = recorded(trial, TRACE)
    late = None if series is None else series.y[series.x >= SETTLED_AT]
    return float(np.mean(late)) if late is not None and len(late) else None


def _raw_fall(trial: TrialResult) -> float | None:
    norms = gradients.read(trial)
    return None if norms is None else -gradients.change(norms.raw.y)


def _masked_rise(trial: TrialResult) -> float | None:
    norms = gradients.read(trial)
    return None if norms is None else gradients.change(norms.applied.y)


def _near_start(trial: TrialResult) -> float | None:
    try:
        found = deviations(*start_and_best(trial))
    except InputError:  # the checkpoint was removed
        return None
    far = found.counts[np.searchsorted(DEVIATION_EDGES, HARDLY * (1 - 1e-9)) :].sum()
    return float(1 - far / found.total - 0.5)
