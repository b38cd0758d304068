"""The parts of a card that come from predictions and labels: scores, calibration, subgroups.

Shapes: N samples, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mimic_reg.errors import InputError
from mimic_reg.metrics import delong
from mimic_reg.metrics.calibration import Estimate, calibrate, net_benefit, treat_all
from mimic_reg.metrics.scores import METRICS, metric, score
from mimic_reg.metrics.small_counts import FEW, LEAST, enough_of_each, in_tens
from mimic_reg.report.cohort import flow, read_audit
from mimic_reg.report.cohort.published import scored_samples
from mimic_reg.report.document import Grid, Part
from mimic_reg.report.figures.curves import calibration_figure, calibration_points
from mimic_reg.report.figures.decision import decision_figure
from mimic_reg.report.figures.drawing import styles
from mimic_reg.report.figures.drawn import Drawn
from mimic_reg.report.formats import HIDDEN, count, format_scored, format_task
from mimic_reg.report.predictions import Predictions, has_curves, read_predictions
from mimic_reg.report.results import TrialResult
from mimic_reg.report.subgroups import ATTRIBUTES, in_order, read_groups
from mimic_reg.runs import PREDICTIONS
from mimic_reg.store import Store

REPLICATES = 200  # of the scores of subgroups that have no formula for their interval
MOST_VALUES = 2_000_000  # samples x labels of a subgroup that is drawn so often
THRESHOLDS = np.round(np.arange(0.02, 0.501, 0.02), 2)
_SHOWN_THRESHOLDS = (0.04, 0.1, 0.2, 0.3, 0.5)


def on_data(trial: TrialResult, store: Store | None) -> Predictions | None:
    """Return the test samples of a run; None without its store or its predictions.

    Raises:
        InputError: the predictions are damaged, or not of the samples that were scored.
    """
    path = trial.folder / PREDICTIONS["test"]
    if store is None or not path.is_file():
        return None
    found = read_predictions(trial, store)
    if wrong := _wrong(found.p, trial):
        raise InputError(
            f"{path} {wrong}. `mimic-reg evaluate {trial.folder} --overwrite` makes it again."
        )
    return replace(found, p=found.p.astype(np.float64))


def _wrong(p: np.ndarray, trial: TrialResult) -> str:
    """Return what is wrong with predictions (N, C); "" if nothing is."""
    scored, outputs = trial.num_samples["test"], trial.target.num_outputs
    if p.shape != (scored, outputs):
        return (
            f"has {p.shape[0]:,} x {p.shape[1]} predictions, but {scored:,} x {outputs} were scored"
        )
    if not np.isfinite(p).all():
        return "has predictions that are not finite"
    if trial.target.target != "regression" and (p.min() < 0 or p.max() > 1):
        return "has predictions that are no probabilities"
    return ""


def evaluation_parts(
    trial: TrialResult,
    store: Store | None,
    found: Predictions | None,
    sizes: Sequence[Sequence[str]] = (),
) -> list[Part | None]:
    """Return the parts on data, scores, calibration, net benefit and subgroups.

    sizes: the rows of `samples_by_split`
    """
    return [
        _data(trial, store, sizes),
        _scores(trial, found),
        _calibration(trial, found),
        _decisions(trial, found),
        _labels(trial, found),
        _subgroups(trial, store, found),
    ]


# --- data -----------------------------------------------------------------------------------------


def _data(trial: TrialResult, store: Store | None, sizes: Sequence[Sequence[str]]) -> Part:
    cohort = trial.cohort
    what = (
        f"{count(len(cohort.channels), 'channel')} an hour, of "
        f"{count(len({c.variable for c in cohort.channels}), 'variable')}"
        if cohort.is_hourly
        else f"images of {' x '.join(map(str, cohort.shape))}"
    )
    facts = {"cohort": cohort.name, "input": what, "splits": cohort.splits}
    if trial.fold:
        facts["fold"] = f"tested on fold {trial.fold} of {cohort.folds}"
    scored = scored_samples(trial, sizes)
    facts |= {f"{split} samples that were scored": text for split, text in scored.items()}
    audit = {} if store is None else read_audit(store)
    return Part(
        "data",
        "On which data?",
        facts=facts,
        grids=[grid for grid in (_flow(audit), _samples(trial, sizes)) if grid.rows],
        notes=[
            f"Counts of 1 to {LEAST - 1} are not shown, nor numbers whose difference would tell "
            "one; steps that leave out so few are told with their neighbour."
        ],
    )


def _flow(audit: Mapping[str, Any]) -> Grid:
    boxes = flow.boxes(audit.get("cohort_flow", []), LEAST)
    units = tuple(boxes[0].left) if boxes else ()
    rows = [
        [
            ", ".join(box.reasons) or box.step,
            *(HIDDEN if n is None else f"{n:,}" for n in box.left.values()),
        ]
        for box in boxes
    ]
    return Grid("Cohort flow: what each step of the extraction kept.", ("step", *units), rows)


def _samples(trial: TrialResult, sizes: Sequence[Sequence[str]]) -> Grid:
    cohort = trial.cohort
    whom = [cohort.subjects] * (cohort.subject != cohort.unit)
    header = ("split", "samples", "stays", *whom, "with the event")
    return Grid("Samples by split.", header, sizes)


# --- scores ---------------------------------------------------------------------------------------


def _scores(trial: TrialResult, found: Predictions | None) -> Part:
    names = [trial.selected_by, *(n for n in trial.scores["test"] if n != trial.selected_by)]
    rows = [
        [
            METRICS[name].title,
            *(format_scored(trial.scores.get(s, {}).get(name), name) for s in _SPLITS),
        ]
        for name in names
    ]
    sentences, whom = [], trial.cohort.subjects
    if found is not None and trial.target.target == "binary":
        y, p, subject = found.y[:, 0], found.p[:, 0], found.subject
        area = _delong(y, p, subject) if enough_of_each(y, subject) else None
        if area:
            shown = f"{area.value:.4f} (95 % {area.low:.4f} to {area.high:.4f})"
            sentences.append(f"Test AUROC with DeLong's interval over {whom}: {shown}.")
    grid = Grid(f"Scores, with 95 % bootstrap intervals over {whom}.", ("score", *_SPLITS), rows)
    meaning = dict.fromkeys(text for name in names for text in METRICS[name].meaning)
    return Part("scores", "How good is it?", sentences, grids=[grid], notes=[" ".join(meaning)])


_SPLITS = ("test", "validation")


def _delong(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> Estimate | None:
    placed = delong.placements(y, p, subject)
    bounds = delong.interval(placed) if placed else None
    return Estimate(placed.auroc, *bounds) if placed and bounds else None


def _interval(found: Estimate | None, digits: int = 2) -> str:
    if found is None:
        return "-"
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


# --- calibration and decisions --------------------------------------------------------------------


def _calibration(trial: TrialResult, found: Predictions | None) -> Part | None:
    if found is None or not has_curves(trial):
        return None
    heading, whom, num_labels = "Are its risks right?", trial.cohort.subjects, found.y.shape[1]
    y, p, subject = found.y.ravel(), found.p.ravel(), np.repeat(found.subject, num_labels)
    if not enough_of_each(y, subject):
        why = f"Not shown: the test samples have {FEW} {whom} of a class."
        return Part("calibration", heading, [why], brief=True)
    pooled = " All labels are pooled." * (num_labels > 1)
    whole = calibrate(y, p, subject)
    facts = {
        "intercept": _interval(whole.intercept),
        "slope": _interval(whole.slope),
        "mean prediction": f"{p.mean():.3f}",
        "observed share": f"{y.mean():.3f}",
    }
    points = calibration_points(y, p)
    rows = [] if points is None else [[f"{at:.3f}", f"{share:.2f}"] for at, share, _ in points]
    grid = Grid(
        f"Bins of predictions in order; each has {LEAST} of a class or more, or none.{pooled}",
        ("mean prediction", "observed share"),
        rows,
    )
    figure = calibration_figure({trial.method: [found]}, styles([trial.method]))
    caption = "Calibration on the test samples; dotted: perfect."
    drawn = [Drawn("calibration", "curves", caption + pooled, figure)] if figure else []
    return Part(
        "calibration",
        heading,
        [f"Not estimated: {whole.reason}."] if whole.reason else [],
        facts,
        [grid] if rows else [],
        drawn,
        [
            "Intercept 0 and slope 1 are perfect. An intercept below 0 means that risks are too "
            "high on average; a slope below 1, that they are too extreme. 95 % intervals over "
            f"{whom}."
        ],
        brief=True,
    )


def _decisions(trial: TrialResult, found: Predictions | None) -> Part | None:
    """Return the decision curve of one label, where at least ten subjects would be treated."""
    if found is None or trial.target.target != "binary":
        return None
    y, p = found.y[:, 0], found.p[:, 0]
    shown = np.array([t for t in THRESHOLDS if _subjects(found.subject[p >= t]) >= LEAST])
    if len(shown) < 2 or not enough_of_each(y, found.subject):
        return None
    model, everyone = net_benefit(y, p, found.subject, shown), treat_all(float(y.mean()), shown)
    rows = [
        [f"{100 * t:.0f} %", _interval(mine, 4), f"{all_:.4f}", "0"]
        for t, mine, all_ in zip(shown, model, everyone, strict=True)
        if round(float(t), 2) in _SHOWN_THRESHOLDS
    ]
    grid = Grid("Net benefit.", ("threshold", "model", "treat all", "treat none"), rows)
    caption = "Decision curve on the test samples, with a 95 % band."
    drawn = Drawn("decision", "curves", caption, decision_figure(shown, model, everyone))
    note = (
        "Net benefit: true positives minus false positives, these weighted with the odds of the "
        "threshold, per sample. A model helps where its curve is above both others. The curve ends "
        f"where fewer than {LEAST} {trial.cohort.subjects} would be treated."
    )
    return Part("decisions", "Does acting on it help?", grids=[grid], figures=[drawn], notes=[note])


def _subjects(subject: np.ndarray) -> int:
    return len(np.unique(subject))


# --- labels and subgroups -------------------------------------------------------------------------


def _labels(trial: TrialResult, found: Predictions | None) -> Part | None:
    """Return AUROC and calibration of each label of a multilabel task."""
    if found is None or trial.target.target != "multilabel":
        return None
    rows = [
        [format_task(label), *_binary_cells(found.y[:, c], found.p[:, c], found.subject)]
        for c, label in enumerate(trial.target.labels)
    ]
    grid = Grid("Labels, with 95 % intervals.", ("label", *_BINARY), rows)
    return Part("labels", "How good is it for each label?", grids=[grid])


_BINARY = ("AUROC (DeLong)", "calibration intercept", "calibration slope")


def _binary_cells(y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> list[str]:
    """Return AUROC, intercept and slope of samples with enough subjects of both classes."""
    if not enough_of_each(y, subject):
        return [f"{FEW} of a class", "-", "-"]
    found = calibrate(y, p, subject)
    area = _interval(_delong(y, p, subject), 3)
    return [area, _interval(found.intercept), _interval(found.slope)]


def _subgroups(trial: TrialResult, store: Store | None, found: Predictions | None) -> Part | None:
    if found is None or store is None or not trial.cohort.is_hourly:
        return None
    groups, absent = read_groups(store, trial.target, found.row, found.subject)
    grids = [_grid(title, of_samples, trial, found) for title, of_samples in groups.items()]
    notes = [
        f"Numbers of {trial.cohort.subjects} and samples are rounded down to tens. Groups of fewer "
        f"than {LEAST} are put together, also with the next larger one if they would still be too "
        f"few. A score needs {LEAST} {trial.cohort.subjects} of each class. These intervals are "
        "not corrected for their number: among many groups, some differ by chance."
    ]
    sentences = []
    if absent:
        known = ", ".join(a.title for a in ATTRIBUTES if a.title in groups) or "nothing"
        text = f"The store groups its {trial.cohort.subjects} by {known}; not by "
        sentences.append(f"{text}{', '.join(absent)}.")
    return Part(
        "subgroups", "For whom is it worse?", sentences, grids=grids, notes=notes, brief=True
    )


def _grid(title: str, groups: np.ndarray, trial: TrialResult, found: Predictions) -> Grid:
    names = in_order(dict.fromkeys(groups, 0))
    binary = trial.target.target == "binary"
    rows = []
    for name in names:
        which = groups == name
        y, p, subject = found.y[which], found.p[which], found.subject[which]
        cells = [in_tens(_subjects(subject)), in_tens(len(y))]
        if binary:
            cells += _binary_cells(y[:, 0], p[:, 0], subject)
        else:
            cells.append(_group_score(trial, y, p, subject))
        rows.append([name, *cells])
    columns = _BINARY if binary else (metric(trial.selected_by).title,)
    header = (title, trial.cohort.subjects, "samples", *columns)
    return Grid(f"By {title}, with 95 % intervals.", header, rows)


def _group_score(trial: TrialResult, y: np.ndarray, p: np.ndarray, subject: np.ndarray) -> str:
    classes = y[:, 0] if trial.target.target == "multiclass" else y
    draws, target = REPLICATES if y.size <= MOST_VALUES else 0, trial.target
    scores = score(target.target, classes, p, subject, labels=target.labels, num_replicates=draws)
    kept = scores[trial.selected_by]
    return "undefined: one class" if kept.value is None else format_scored(kept, trial.selected_by)
