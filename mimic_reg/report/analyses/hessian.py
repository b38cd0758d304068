"""Trace of the Hessian against epochs, by method (figure 4a): how flat is where a fit ends?

Fits with a `hessian_probe` have recorded it; `measure` adds it to others, at their best epoch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mimic_reg import fitting
from mimic_reg.errors import InputError
from mimic_reg.probes.hessian_probe import (
    BATCH_NUMBERS,
    NUM_SAMPLES,
    NUM_VECTORS,
    hessian_trace,
)
from mimic_reg.report.analyses.base import level_groups
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.measured import Series, trace_figure
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.store import read_json, write_json

TITLE = "Trace of the Hessian"
FILE = "hessian_trace.json"
_MEAN, _ERROR = "hessian_trace", "hessian_trace_se"


def analyse(results: Results) -> Analysis:
    """Curves of what was recorded, points of what was measured.

    Raises:
        InputError: neither was done for any trial.
    """
    known = [t for t in results.trials if is_known(t)]
    if not known:
        raise InputError(
            "No trial knows the trace of its Hessian. Train with a hessian_probe, or measure it "
            "at the best epochs with `mimic-reg analyse hessian`."
        )
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in level_groups(results, known):
        traces = {m: [_read(t)[0] for t in found] for m, found in group.by_method().items()}
        figure = trace_figure(traces, _bound(group.trials), group.look)
        caption = f"{group.at}: trace of the Hessian of the data loss on training samples."
        drawn.append(Drawn(f"{group.name}_hessian", "analysis", caption, figure))
        rows = tables.setdefault(group.where, [])
        rows += [(m, group.level, *_row(found)) for m, found in group.by_method().items()]
    note = (
        "Hutchinson's estimate with Rademacher vectors, in evaluation mode, without penalties; "
        "bands and ±: one standard deviation over seeds. Dotted: 2 / learning rate, the bound of "
        "linear stability for SGD with a constant rate."
    )
    columns = ("method", "level", "seeds", "epoch", "trace", "standard error of one")
    return Analysis("hessian", TITLE, tuple(drawn), columns, tables, note)


def is_known(trial: TrialResult) -> bool:
    """Whether a trial has recorded the trace, or it was measured since."""
    return _recorded(trial) is not None or _measured(trial) is not None


def to_measure(results: Results, num_vectors: int, num_samples: int) -> list[TrialResult]:
    """The trials that are shown, of which nothing as precise is recorded or kept."""
    shown = [t for group in level_groups(results, results.trials) for t in group.trials]
    return [t for t in shown if not _is_precise(t, num_vectors, num_samples)]


def _is_precise(trial: TrialResult, num_vectors: int, num_samples: int) -> bool:
    kept = _kept(trial)
    as_kept = kept.get("vectors", 0) >= num_vectors and kept.get("samples", 0) >= num_samples
    return as_kept or _recorded(trial) is not None


def measure(
    trial: TrialResult,
    *,
    num_vectors: int = NUM_VECTORS,
    num_samples: int = NUM_SAMPLES,
    batch_numbers: int = BATCH_NUMBERS,
    store: Path | None = None,
    device: str | None = None,
) -> None:
    """Estimate the trace at a trial's best epoch and keep it in the run folder.

    Raises:
        InputError: the model or its store is gone.
    """
    model, train = fitting.trained(trial.folder, store=store, device=device)
    found = hessian_trace(
        model,
        train,
        num_vectors=num_vectors,
        num_samples=num_samples,
        batch_numbers=batch_numbers,
    )
    write_json(
        trial.folder / FILE,
        {
            "trial": trial.id,
            "epoch": trial.best_epoch,
            "trace": found.mean,
            "standard_error": found.standard_error,
            "vectors": found.n,
            "samples": num_samples,
        },
    )


def _read(trial: TrialResult) -> tuple[Series, float]:
    """The trace at epochs, and the standard error of the last one."""
    found = _recorded(trial) or _measured(trial)
    assert found is not None
    return found


def recorded(trial: TrialResult) -> Series | None:
    """The trace at the epochs at which a probe has recorded it; None if none has."""
    found = _recorded(trial)
    return found[0] if found else None


def _recorded(trial: TrialResult) -> tuple[Series, float] | None:
    rows = [row for row in trial.epochs() if _MEAN in row["recorded"]]
    if not rows:
        return None
    values = [float(row["recorded"][_MEAN]) for row in rows]  # what is not finite is text
    series = Series(np.array([row["epoch"] for row in rows]), np.array(values))
    return series, float(rows[-1]["recorded"][_ERROR])


def _measured(trial: TrialResult) -> tuple[Series, float] | None:
    kept = _kept(trial)
    if not kept:
        return None
    return Series(np.array([kept["epoch"]]), np.array([kept["trace"]])), kept["standard_error"]


def _kept(trial: TrialResult) -> dict[str, Any]:
    """What `measure` has kept of this very trial."""
    path = trial.folder / FILE
    content = read_json(path) if path.is_file() else {}
    return content if content.get("trial") == trial.id else {}


def _bound(trials: Sequence[TrialResult]) -> float | None:
    """2 / learning rate, if all trials have the same one."""
    rates = {float(t.settings["training"]["learning_rate"]) for t in trials}
    return 2 / rates.pop() if len(rates) == 1 else None


def _row(trials: Sequence[TrialResult]) -> tuple[str, ...]:
    """The last value of every seed."""
    found = [_read(trial) for trial in trials]
    epochs = sorted({int(series.x[-1]) for series, _ in found})
    shown = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    values = [float(series.y[-1]) for series, _ in found]
    sd = f" ± {_format(float(np.std(values, ddof=1)))}" if len(values) > 1 else ""
    error = float(np.mean([error for _, error in found]))
    return str(len(found)), shown, f"{_format(float(np.mean(values)))}{sd}", _format(error)


def _format(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):,.6g}"
