"""Predictions for current stays at given hours; an hour needs nothing later than itself.

At hour h a model sees the first h hours of a stay: what was measured up to h hours after admission.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from mimic_reg import samples
from mimic_reg.clinical.schema import EPSILON
from mimic_reg.clinical.stays import parse_time
from mimic_reg.errors import InputError
from mimic_reg.serving.model import ServedModel
from mimic_reg.sources.current import QUIET_HOURS, Current

HOUR, MISSING = "hour", "never_observed"
_AT_ONCE = 200_000  # predictions
_QUIET = pl.lit(f"{QUIET_HOURS:g}")


@dataclass(frozen=True)
class Hours:
    """Which hours of a stay are predicted.

    at:    these; empty: by `every`
    every: every so many hours, up to the last full one; None: only the last full one
    """

    at: tuple[int, ...] = ()
    every: int | None = None

    @classmethod
    def parse(cls, at: str | None, every: str | None) -> "Hours":
        """Return the hours of the options --at 24,48 and --every hour (or 6).

        Raises:
            InputError: both are given, or one is not a number of hours.
        """
        if at is not None and every is not None:
            raise InputError("--at and --every exclude each other. Give one of them.")
        if every is not None:
            return cls(every=1 if every == "hour" else _hours(every, "--every", "hour, or 6")[0])
        return cls(at=_hours(at, "--at", "24,48")) if at is not None else cls()


def _hours(text: str, option: str, example: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) if part.isascii() and part.isdecimal() else 0 for part in parts]
    if not all(0 < number <= 100_000 for number in numbers):
        raise InputError(f"{option} is {text!r}: give whole hours from 1 on, as {example}.")
    return tuple(sorted(set(numbers)))


def parse_now(text: str | None) -> datetime | None:
    """Return the time of the option --now.

    Raises:
        InputError: the text is not a time.
    """
    if text is None:
        return None
    (time,) = parse_time(pl.Series([text.strip()]))
    if time is None:
        raise InputError(f"--now {text!r} is not a time such as '2130-05-01 14:00:00'.")
    return time


@dataclass(frozen=True)
class Predicted:
    """Predictions of current stays.

    table:    the stay's key, hour, the outputs (their deviations NAME_sd, if the model knows them),
              never_observed: variables without a measurement so far, separated by "; "
    excluded: reason → stays without a prediction, or without one at an hour that was asked for
    notes:    sentences on what was left out
    """

    table: pl.DataFrame
    excluded: dict[str, int]
    notes: tuple[str, ...]
    now: datetime | None


def predict_current(
    model: ServedModel, current: Current, hours: Hours, done: pl.DataFrame | None = None
) -> Predicted:
    """Predict current stays at the hours that they have reached.

    done: stay and hour of predictions that are not needed again

    Raises:
        InputError: the model's cohort never has so many hours.
    """
    longest, notes = model.recipe.settings.hours, list(current.notes)
    if longest is not None and hours.at and max(hours.at) > longest:
        raise InputError(
            f"The model's cohort uses the first {longest} hours of a stay, so it cannot predict at "
            f"hour {max(hours.at)}. Give hours up to {longest}."
        )
    wanted, reasons = _wanted(current, hours, model.spec.unit)
    if model.task.hours and (other := set(wanted[HOUR].unique()) - {int(model.task.hours)}):
        notes.append(
            f"The model was trained on samples of {model.task.hours:g} hours; predictions at other "
            f"hours ({len(other)} here) are beyond what was validated."
        )
    if done is not None:
        wanted = wanted.join(done, on=[model.spec.unit, HOUR], how="anti", maintain_order="left")
    table = predict_hours(model, current, wanted)
    return Predicted(table, current.excluded | reasons, tuple(notes), current.now)


def _wanted(current: Current, hours: Hours, unit: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return stay and hour to predict, and {reason: stays without an hour that was asked for}."""
    last = pl.col("reached").floor().cast(pl.Int64)
    if hours.at:
        asked = pl.lit(list(hours.at), dtype=pl.List(pl.Int64))
    elif hours.every:
        asked = pl.int_ranges(hours.every, last + 1, hours.every)
    else:
        asked = pl.concat_list(last)
    hour = pl.col(HOUR)
    rows = current.stays.with_columns(asked.alias(HOUR)).explode(HOUR).drop_nulls(HOUR)
    rows = rows.with_columns(
        reason=pl.when(pl.col("lasted") < hour - EPSILON)
        .then(pl.format("shorter than {} hours", HOUR))
        .when(pl.col("reached") < hour)
        .then(pl.format("without a measurement in the {} hours before hour {}", _QUIET, HOUR))
        .when(pl.col("first") > hour + EPSILON)
        .then(pl.format("without a measurement before hour {}", HOUR))
    )
    kept = rows.filter((hour >= 1) & pl.col("reason").is_null()).select(unit, HOUR).sort(unit, HOUR)
    if hours.at:
        left_out = rows.drop_nulls("reason").sort(HOUR, maintain_order=True)
        left_out = left_out.group_by("reason", maintain_order=True).len()
        return kept, dict(left_out.iter_rows())
    none = current.stays.height - kept[unit].n_unique()
    reason = "without a full hour after the first measurement"
    return kept, {reason: none} if none else {}


def predict_hours(model: ServedModel, current: Current, wanted: pl.DataFrame) -> pl.DataFrame:
    """Return predictions (see `Predicted.table`) at hours of stays.

    wanted: stay and hour, which the stay has reached
    """
    unit, names = model.spec.unit, model.spec.channel_names
    keys = current.hourly.select(unit).with_row_index("first")
    starts = keys.group_by(unit).agg(pl.col("first").min())
    rows = wanted.join(starts, on=unit, how="left", maintain_order="left")
    values = current.hourly.select(names).to_numpy()
    found, spreads = [np.empty((0, len(model.outputs)), np.float32)], []
    for part in rows.iter_slices(_AT_ONCE):
        predictions, spread = model.learner.predict_with_spread(
            samples.from_rows(
                model.task,
                values,
                part["first"].to_numpy(),
                part[HOUR].to_numpy().astype(np.int32),
                constants=model.constants,
                device=model.device,
            )
        )
        found.append(predictions)
        if spread is not None:
            spreads.append(spread)
    outputs = np.concatenate(found)
    columns = model.columns(outputs, np.concatenate(spreads) if spreads else None)
    table = wanted.with_columns(pl.Series(n, v, pl.Float32) for n, v in columns.items())
    return table.hstack([_never_observed(current, unit, wanted)])


def _never_observed(current: Current, unit: str, wanted: pl.DataFrame) -> pl.Series:
    """Return the variables that were not measured before an hour, as text."""
    variables = [c for c in current.observed.columns if c not in (unit, HOUR)]
    so_far = current.observed.with_columns(
        pl.col(HOUR).cast(pl.Int64) + 1, *(pl.col(v).cum_max().over(unit) for v in variables)
    )
    seen = wanted.join(so_far, on=[unit, HOUR], how="left", maintain_order="left")
    names = [pl.when(~pl.col(v)).then(pl.lit(v)) for v in variables]
    if not names:
        return pl.Series(MISSING, [""] * wanted.height, pl.String)
    text = pl.concat_str(names, separator="; ", ignore_nulls=True)
    return seen.select(text.alias(MISSING)).to_series()
