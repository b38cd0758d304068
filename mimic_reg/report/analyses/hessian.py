"""Trace of the Hessian against epochs, by method (figure 4a): how flat is the loss?

Fits with a `hessian_probe` record it. `measure` adds it to others, at their best epoch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mimic_reg import fitting
from mimic_reg.errors import InputError
from mimic_reg.probes import hessian_probe
from mimic_reg.report.analyses.base import Group, by_level, epochs_of, level_groups
from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.figures.measured import Series, trace_figure
from mimic_reg.report.figures.selection import recorded
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.store import read_json, write_json

TITLE = "Trace of the Hessian"
FILE = "hessian_trace.json"
TRACE, _ERROR = "hessian_trace", "hessian_trace_se"


def analyse(results: Results) -> Analysis:
    """Return curves of recorded traces and points of measured ones.

    Raises:
        InputError: no trial has either.
    """
    known = [t for t in results.trials if is_known(t)]
    if not known:
        raise InputError(
            "The trace of the Hessian is not known for any trial. Train with a hessian_probe, or "
            "measure it at the best epochs with `mimic-reg analyse hessian`."
        )
    return by_level(
        "hessian",
        TITLE,
        level_groups(results, known),
        lambda trials: [_read(trial) for trial in trials],
        _draw,
        _row,
        ("seeds", "epoch", "trace", "standard error of one"),
        "Hutchinson's estimate with Rademacher vectors, in evaluation mode, without penalties. "
        "Bands and ±: one standard deviation over seeds. Dotted: 2 / learning rate, the bound of "
        "linear stability for SGD with a constant rate.",
    )


def _draw(group: Group, found: dict[str, list[tuple[Series, float]]]) -> tuple[Figure, str]:
    traces = {method: [series for series, _ in seeds] for method, seeds in found.items()}
    figure = trace_figure(traces, _bound(group.trials), group.look)
    return figure, "trace of the Hessian of the data loss on training samples."


def is_known(trial: TrialResult) -> bool:
    """Return whether a trial's trace was recorded, or was measured afterwards."""
    return _recorded(trial) is not None or _measured(trial) is not None


def to_measure(results: Results, num_vectors: int, num_samples: int) -> list[TrialResult]:
    """Return the trials that are shown and have no trace of this precision."""
    shown = [t for group in level_groups(results, results.trials) for t in group.trials]
    return [t for t in shown if not _is_precise(t, num_vectors, num_samples)]


def _is_precise(trial: TrialResult, num_vectors: int, num_samples: int) -> bool:
    kept = _kept(trial)
    as_kept = kept.get("vectors", 0) >= num_vectors and kept.get("samples", 0) >= num_samples
    return as_kept or _recorded(trial) is not None


def measure(
    trial: TrialResult,
    *,
    num_vectors: int = hessian_probe.NUM_VECTORS,
    num_samples: int = hessian_probe.NUM_SAMPLES,
    batch_numbers: int = hessian_probe.BATCH_NUMBERS,
    store: Path | None = None,
    device: str | None = None,
) -> None:
    """Estimate the trace at a trial's best epoch and write it into the run folder.

    Raises:
        InputError: the model or its store was removed.
    """
    model, train = fitting.trained(trial.folder, store=store, device=device)
    found = hessian_probe.hessian_trace(
        model, train, num_vectors=num_vectors, num_samples=num_samples, batch_numbers=batch_numbers
    )
    write_json(
        trial.folder / FILE,
        {
            "trial": trial.id,
            "epoch": trial.best_epoch - 1,  # files count from 0
            "trace": found.mean,
            "standard_error": found.standard_error,
            "vectors": found.n,
            "samples": num_samples,
        },
    )


def _read(trial: TrialResult) -> tuple[Series, float]:
    """Return the trace at epochs, and the standard error of the last one."""
    found = _recorded(trial) or _measured(trial)
    assert found is not None
    return found


def _recorded(trial: TrialResult) -> tuple[Series, float] | None:
    series, errors = recorded(trial, TRACE), recorded(trial, _ERROR)
    return (series, float(errors.y[-1])) if series and errors else None


def _measured(trial: TrialResult) -> tuple[Series, float] | None:
    kept = _kept(trial)
    if not kept:
        return None
    return Series(np.array([kept["epoch"] + 1]), np.array([kept["trace"]])), kept["standard_error"]


def _kept(trial: TrialResult) -> dict[str, Any]:
    """Return what `measure` has written for this trial."""
    path = trial.folder / FILE
    content = read_json(path) if path.is_file() else {}
    return content if content.get("trial") == trial.id else {}


def _bound(trials: Sequence[TrialResult]) -> float | None:
    """Return 2 / learning rate, if all trials have the same."""
    rates = {float(t.settings["training"]["learning_rate"]) for t in trials}
    return 2 / rates.pop() if len(rates) == 1 else None


def _row(found: Sequence[tuple[Series, float]]) -> tuple[str, ...]:
    """Return the last value of every seed."""
    shown = epochs_of([series.x[-1] for series, _ in found])
    values = [float(series.y[-1]) for series, _ in found]
    sd = f" ± {_format(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    error = float(np.mean([error for _, error in found]))
    return str(len(found)), shown, f"{_format(float(np.mean(values)))}{sd}", _format(error)


def _format(value: float) -> str:
    """Return three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.6g}"
