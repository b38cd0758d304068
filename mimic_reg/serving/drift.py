"""Drift: how current stays and their predictions differ from the training data. No stay is shown.

Numbers that fewer than 10 stays decide are left out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mimic_reg.metrics.small_counts import FEW, LEAST, is_small
from mimic_reg.serving.current import HOUR
from mimic_reg.serving.model import ServedModel
from mimic_reg.serving.reference import shares
from mimic_reg.sources.current import Current


@dataclass(frozen=True)
class Drift:
    """A summary of current stays beside the training data; None: too few stays, or not known.

    stays:       their number, or `FEW`
    excluded:    reason → number of stays left out, or `FEW`
    variables:   variable, missing: share of hours without a measurement; training: the same there
    channels:    channel, mean, training: means before normalisation; shift: their difference in
                 standard deviations of the training
    predictions: output, mean, validation: the same over the run's validation samples; psi:
                 population stability index between both distributions
    note:        why there is nothing to see; ""
    """

    stays: int | str
    excluded: dict[str, int | str]
    variables: tuple[dict[str, Any], ...] = ()
    channels: tuple[dict[str, Any], ...] = ()
    predictions: tuple[dict[str, Any], ...] = ()
    note: str = ""


def shown(count: int) -> int | str:
    """Return a count, or `FEW` for a small one."""
    return FEW if is_small(count) else count


def summarise(
    model: ServedModel, current: Current, excluded: dict[str, int], predictions: pl.DataFrame
) -> Drift:
    """Return the drift of current stays.

    predictions: the latest prediction of each stay; columns of the outputs
    """
    stays = current.stays.height
    known: dict[str, Any] = {
        "stays": shown(stays),
        "excluded": {reason: shown(count) for reason, count in excluded.items()},
    }
    if model.reference is None:
        return Drift(
            **known,
            note="The model holds no summary of its training data: an earlier version of mimic-reg "
            "exported it. Export or register its run again.",
        )
    if stays < LEAST:
        return Drift(**known, note=f"There are {FEW} stays, so nothing is shown.")
    unit = model.spec.unit
    ends = current.stays.select(unit, "reached")
    full = pl.col(HOUR) + 1 <= pl.col("reached")
    observed, measured = (
        table.join(ends, on=unit, maintain_order="left").filter(full)
        for table in (current.observed, current.measured)
    )
    variables = [c for c in current.observed.columns if c not in (unit, HOUR)]
    with_any = {v: observed.filter(pl.col(v))[unit].n_unique() for v in variables}
    few = {v for v, count in with_any.items() if is_small(count)}
    of = {channel.name: channel.variable for channel in model.spec.channels}
    return Drift(
        **known,
        variables=tuple(
            {
                "variable": name,
                "missing": None if name in few else _missing(observed[name]),
                "training": 1 - share,
            }
            for name, share in model.reference["observed"].items()
        ),
        channels=tuple(
            _channel(name, None if of[name] in few else measured[name], mean, std)
            for name, (mean, std) in model.reference["channels"].items()
        ),
        predictions=tuple(_predictions(model, predictions)),
    )


def _missing(observed: pl.Series) -> float | None:
    return 1 - float(observed.mean()) if len(observed) else None  # type: ignore[arg-type]


def _channel(name: str, values: pl.Series | None, mean: float, std: float) -> dict[str, Any]:
    now = None if values is None else values.cast(pl.Float64).mean()
    shift = None if now is None else (now - mean) / std  # type: ignore[operator]
    return {"channel": name, "mean": now, "training": mean, "shift": shift}


def _predictions(model: ServedModel, table: pl.DataFrame) -> list[dict[str, Any]]:
    references = model.reference["predictions"] if model.reference else []
    found = []
    for position, name in enumerate(model.outputs):
        values = table[name].to_numpy()
        reference = references[position] if position < len(references) else None
        enough = len(values) >= LEAST
        found.append(
            {
                "output": name,
                "mean": float(values.mean()) if enough else None,
                "validation": reference["mean"] if reference else None,
                "psi": stability(values, reference) if enough and reference else None,
            }
        )
    return found


def stability(values: np.ndarray, reference: dict[str, Any]) -> float:
    """Return the population stability index: sum of (a - e) log(a / e) over bins.

    a, e: shares of the values and of the reference in a bin; an empty one counts as half a value
    """
    least = 0.5 / len(values)
    now = np.maximum(shares(values, reference["edges"]), least)
    then = np.maximum(reference["shares"], least)
    return float(((now - then) * np.log(now / then)).sum())
