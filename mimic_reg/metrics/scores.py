"""Scores of predictions, with bootstrap intervals over subjects.

Rankings come from scikit-learn. For intervals, the same scores are functions of the subjects'
weights (`bootstrap`); tests compare them with scikit-learn's `sample_weight`.

A score that the labels do not define (a single class) is undefined with a reason, never 0.
`METRICS` has all properties of each score.

Shapes: N samples, C labels or classes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.metrics import bootstrap
from mimic_reg.store.spec import Target

NUM_BINS = 15  # equal-width confidence bins of the calibration error


@dataclass(frozen=True)
class Score:
    """One score: a value, or None and the reason why it is undefined.

    reason:     also set if a mean over labels leaves some out
    low, high:  bootstrap interval; None if not asked for, or undefined in too many replicates
    replicates: number of replicates in which the score is defined
    """

    value: float | None
    reason: str | None = None
    low: float | None = None
    high: float | None = None
    replicates: int = 0


@dataclass(frozen=True)
class Metric:
    """A kind of score.

    name:     in configurations and files; title: in words
    targets:  the kinds of labels that it is defined for
    lower_is_better: whether it is an error
    meaning:  sentences for readers
    inflated: whether its bootstrap replicates are larger than the score on average
    over_subjects: labels (N, C), predictions (N, C) and subjects (N,) → the score as a function of
              the subjects' weights, for intervals of differences; None if there are none
    ranks:    whether this function sorts all samples, which takes most of the time
    matters:  the smallest difference that is worth finding, for sample sizes
    """

    name: str
    title: str
    targets: tuple[Target, ...]
    lower_is_better: bool = False
    meaning: tuple[str, ...] = ()
    inflated: bool = False
    over_subjects: Callable[[np.ndarray, np.ndarray, np.ndarray], bootstrap.Statistic] | None = None
    ranks: bool = False
    matters: float = 0.01


def metric(name: str) -> Metric:
    """Return the kind of score called `name`.

    Raises:
        InputError: there is none.
    """
    if name not in METRICS:
        raise InputError(f"There is no score {name!r}. Known scores: {', '.join(METRICS)}.")
    return METRICS[name]


def improves(name: str, value: float, best: float | None) -> bool:
    """Return whether `value` is strictly better than the best so far; the first of equals wins."""
    if best is None:
        return True
    return value < best if metric(name).lower_is_better else value > best


def score(
    target: Target,
    y: np.ndarray,
    p: np.ndarray,
    subject: np.ndarray | None = None,
    *,
    labels: tuple[str, ...] = (),
    num_replicates: int = 0,
) -> dict[str, Score]:
    """Return all scores of a target, by name.

    y:       (N, C) labels in {0, 1}, or real (N, 1); (N,) classes of a multiclass target
    p:       (N, C) probabilities, or predicted values
    subject: (N,) the subject of each sample; needed for intervals
    labels:  names of the columns of y, for reasons
    num_replicates: bootstrap replicates; 0 leaves the intervals out

    Raises:
        InputError: there are no samples.
        MimicRegError: a prediction is not finite.
    """
    if not len(y):
        raise InputError("There are no samples to score.")
    if len(y) != len(p):
        raise AssertionError(f"{len(p)} predictions for {len(y)} samples")
    if not np.isfinite(p).all():
        raise MimicRegError("Some predictions are not finite: the model has diverged.")
    whom = np.unique(np.arange(len(y)) if subject is None else subject, return_inverse=True)[1]
    names = labels or tuple(str(c) for c in range(p.shape[1]))
    exact = y if target == "multiclass" else y.astype(np.float64)
    families = _FAMILIES[target](exact, p.astype(np.float64), whom, names)
    if not num_replicates:
        return {name: s for scores, _ in families for name, s in scores.items()}
    counts = bootstrap.draw_counts(int(whom.max()) + 1, num_replicates)
    return {
        name: s for scores, statistic in families for name, s in _bound(scores, statistic, counts)
    }


# scores by name, and a function of the subjects' weights that returns them in the same order
_Family = tuple[dict[str, Score], bootstrap.Statistic]


def _bound(
    scores: dict[str, Score], statistic: bootstrap.Statistic, counts: np.ndarray
) -> list[tuple[str, Score]]:
    values = bootstrap.replicate(statistic, counts).reshape(len(counts), -1)
    bounded = []
    for (name, score), column in zip(scores.items(), values.T, strict=True):
        if score.value is None:
            interval = None
        elif metric(name).inflated:
            interval = bootstrap.basic_interval(score.value, column)
        else:
            interval = bootstrap.percentile_interval(column)
        if interval is not None:
            defined = int(np.isfinite(column).sum())
            score = replace(score, low=interval[0], high=interval[1], replicates=defined)
        bounded.append((name, score))
    return bounded


def _binary(
    y: np.ndarray, p: np.ndarray, subject: np.ndarray, labels: tuple[str, ...]
) -> list[_Family]:
    ranked = _ranked(("auroc", "auprc"), y[:, 0], p[:, 0], subject, labels[0])
    return [ranked, *_probability_families(y, p, subject)]


def _multilabel(
    y: np.ndarray, p: np.ndarray, subject: np.ndarray, labels: tuple[str, ...]
) -> list[_Family]:
    pooled = y.ravel(), p.ravel(), np.repeat(subject, y.shape[1])
    micro = _ranked(("micro_auroc", "micro_auprc"), *pooled, "any")
    return [_macro(y, p, subject, labels), micro, *_probability_families(y, p, subject)]


def _ranked(
    names: tuple[str, str], y: np.ndarray, p: np.ndarray, subject: np.ndarray, label: str
) -> _Family:
    """Return the area under the ROC curve and average precision of one label (N,)."""
    auroc = auprc = None
    if not 0 < y.sum() < len(y):
        auroc = f"all samples have label {label!r} = {int(y.any())}"
        auprc = None if y.any() else auroc
    functions = ((roc_auc_score, auroc), (average_precision_score, auprc))
    found = [Score(None, why) if why else Score(float(of(y, p))) for of, why in functions]
    return dict(zip(names, found, strict=True)), bootstrap.ranking_statistic(y, p, subject)


def _macro(y: np.ndarray, p: np.ndarray, subject: np.ndarray, labels: tuple[str, ...]) -> _Family:
    """Return means over the labels that have both classes; `reason` names the others."""
    defined = (y.sum(0) > 0) & (y.sum(0) < len(y))
    left_out = [name for name, is_defined in zip(labels, defined, strict=True) if not is_defined]
    reason = f"without labels of one class: {', '.join(left_out)}" if left_out else None
    columns = np.flatnonzero(defined)
    if not len(columns):
        undefined = Score(None, "all samples have one class, in every label")
        scores = {"macro_auroc": undefined, "macro_auprc": undefined}
        return scores, lambda counts: np.full(2, np.nan)
    each = [bootstrap.ranking_statistic(y[:, c], p[:, c], subject) for c in columns]
    y, p = y[:, columns], p[:, columns]
    scores = {
        "macro_auroc": Score(float(np.mean(roc_auc_score(y, p, average=None))), reason),
        "macro_auprc": Score(float(np.mean(average_precision_score(y, p, average=None))), reason),
    }
    return scores, lambda counts: np.mean([s(counts) for s in each], axis=0)


def _multiclass(
    y: np.ndarray, p: np.ndarray, subject: np.ndarray, labels: tuple[str, ...]
) -> list[_Family]:
    hit = (p.argmax(1) == y).astype(np.float64)
    one_hot = np.eye(p.shape[1])[y]
    return [
        _linear("accuracy", hit, subject),
        _linear("brier", np.square(p - one_hot).sum(1), subject),
        _calibration(hit[:, None], p.max(1, keepdims=True), subject),
    ]


def _regression(
    y: np.ndarray, p: np.ndarray, subject: np.ndarray, labels: tuple[str, ...]
) -> list[_Family]:
    error = (p - y).mean(1)
    squared = bootstrap.mean_statistic(np.square(error), subject)
    root = {"root_mean_squared_error": Score(float(np.sqrt(np.square(error).mean())))}
    return [
        _linear("mean_absolute_deviation", np.abs(error), subject),
        (root, lambda counts: np.sqrt(squared(counts))),
    ]


_FAMILIES: dict[Target, Callable[..., list[_Family]]] = {
    "binary": _binary,
    "multilabel": _multilabel,
    "multiclass": _multiclass,
    "regression": _regression,
}


def _probability_families(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> list[_Family]:
    squared = np.square(p - y).mean(1)
    return [_linear("brier", squared, subject), _calibration(y, p, subject)]


def _linear(name: str, values: np.ndarray, subject: np.ndarray) -> _Family:
    return {name: Score(float(values.mean()))}, bootstrap.mean_statistic(values, subject)


def _calibration(hit: np.ndarray, confidence: np.ndarray, subject: np.ndarray) -> _Family:
    statistic = bootstrap.calibration_statistic(hit, confidence, subject, NUM_BINS)
    everyone = np.ones(int(subject.max()) + 1, np.int32)
    return {"calibration_error": Score(float(statistic(everyone)))}, statistic


# --- the registry ---------------------------------------------------------------------------------


def _mean_auroc(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> bootstrap.Statistic:
    """Return the mean area under the ROC curve over the labels that have both classes."""
    each = [
        bootstrap.ranking_statistic(label, predicted, subject)
        for label, predicted in zip(y.T, p.T, strict=True)
        if 0 < (label > 0).sum() < len(label)
    ]
    return lambda counts: np.mean([s(counts)[0] for s in each] or [np.nan])


def _accuracy(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> bootstrap.Statistic:
    return bootstrap.mean_statistic((p.argmax(1) == y[:, 0]).astype(np.float64), subject)


def _absolute_deviation(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> bootstrap.Statistic:
    return bootstrap.mean_statistic(np.abs((p.astype(np.float64) - y).mean(1)), subject)


_AUROC = "AUROC: area under the ROC curve; 0.5 is chance."
_AUPRC = "AUPRC: average precision; the share of positives is chance."
_MACRO = "Macro: the mean over labels, without those of a single class."
_MICRO = "Micro: all labels pooled."
_HITS = "Accuracy: share of samples whose most probable class is the right one."
_BRIER = "Brier score: mean squared error of the probabilities."
_BINS = (
    f"Calibration error: mean distance of predicted from observed shares, over {NUM_BINS} bins of "
    "equal width. Few samples inflate it; its interval, corrected for that, may lie lower."
)
_DEVIATION = (
    "Mean absolute deviation: of the prediction from the truth, in the label's unit "
    "(length_of_stay: hours)."
)
_RANKED: dict[str, Any] = {"over_subjects": _mean_auroc, "ranks": True}
_HOURS: dict[str, Any] = {"lower_is_better": True, "matters": 1.0}
_PROBABILITIES: tuple[Target, ...] = ("binary", "multilabel", "multiclass")

METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("auroc", "AUROC", ("binary",), meaning=(_AUROC,), **_RANKED),
        Metric("auprc", "AUPRC", ("binary",), meaning=(_AUPRC,)),
        Metric("macro_auroc", "macro AUROC", ("multilabel",), meaning=(_AUROC, _MACRO), **_RANKED),
        Metric("macro_auprc", "macro AUPRC", ("multilabel",), meaning=(_AUPRC,)),
        Metric("micro_auroc", "micro AUROC", ("multilabel",), meaning=(_AUROC, _MICRO)),
        Metric("micro_auprc", "micro AUPRC", ("multilabel",), meaning=(_AUPRC,)),
        Metric("accuracy", "accuracy", ("multiclass",), meaning=(_HITS,), over_subjects=_accuracy),
        Metric("brier", "Brier score", _PROBABILITIES, lower_is_better=True, meaning=(_BRIER,)),
        Metric(
            "calibration_error",
            "calibration error",
            _PROBABILITIES,
            lower_is_better=True,
            meaning=(_BINS,),
            inflated=True,
        ),
        Metric(
            "mean_absolute_deviation",
            "mean absolute deviation",
            ("regression",),
            meaning=(_DEVIATION,),
            over_subjects=_absolute_deviation,
            **_HOURS,
        ),
        Metric("root_mean_squared_error", "root mean squared error", ("regression",), **_HOURS),
    )
}
