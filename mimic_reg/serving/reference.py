"""What a model's training data were like: the reference for drift. Only sums over many samples."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mimic_reg.metrics.small_counts import LEAST
from mimic_reg.runs import PREDICTIONS
from mimic_reg.samples.stays import training_moments
from mimic_reg.store import Store, reading
from mimic_reg.store.spec import CohortSpec

_BINS = 10


def reference_of(store: Store, spec: CohortSpec, run: Path) -> dict[str, Any] | None:
    """Return statistics of training hours and validation predictions; None for images.

    hours:       number of training hours
    observed:    variable → share of these hours in which it was measured
    channels:    continuous channel → mean and deviation in these hours
    predictions: for each output: mean, and edges and shares of bins of equal counts; empty if the
                 run has too few predictions
    """
    if not spec.is_hourly:
        return None
    (task,) = spec.tasks
    moments = training_moments(store, task)
    means = dict(zip(spec.channel_names, moments["means"], strict=True))
    stds = dict(zip(spec.channel_names, moments["stds"], strict=True))
    masks = [c for c in spec.channels if c.kind in ("observed", "missing")]
    return {
        "hours": moments.get("hours"),
        "observed": {
            c.variable: means[c.name] if c.kind == "observed" else 1 - means[c.name] for c in masks
        },
        "channels": {
            c.name: [means[c.name], stds[c.name]] for c in spec.channels if c.kind == "continuous"
        },
        "predictions": _predictions(run / PREDICTIONS["validation"]),
    }


def _predictions(path: Path) -> list[dict[str, Any]]:
    """Return mean, edges and shares of each output's predictions, with at least LEAST a bin."""
    if not path.is_file():
        return []
    with reading(path, "a run's predictions"):
        frame = pl.read_parquet(path)
        outputs = [frame[name].to_numpy() for name in frame.columns if name.startswith("p")]
    bins = min(_BINS, frame.height // LEAST)
    if bins < 2:
        return []
    return [_bins(values, bins) for values in outputs]


def _bins(values: np.ndarray, bins: int) -> dict[str, Any]:
    quantiles = np.quantile(values, np.arange(1, bins) / bins)
    edges = sorted({float(f"{edge:.3g}") for edge in quantiles})
    return {"mean": float(values.mean()), "edges": edges, "shares": shares(values, edges)}


def shares(values: np.ndarray, edges: list[float]) -> list[float]:
    """Return the share of values in each bin between the edges, the outer ones open."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return [float(share) for share in counts / max(len(values), 1)]
