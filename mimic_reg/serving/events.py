"""Requests of raw events: a row for each measurement; the answer has a row for each stay.

Columns of a request:

    time      hours since admission to the unit, or a time such as "2130-05-01 14:00:00"
    item      MIMIC's item id; or
    variable  the name of the variable
    value     a number or a text
    unit      of the value, as the source has it
    stay      the caller's own key; not needed for one stay
    admitted  time of admission to the unit; needed if `time` is not in hours
    at        hours after admission to predict at; by default those with a measurement

Events are cleaned, imputed and normalised as raw tables are. What is left out is counted by reason.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

from mimic_reg.clinical import events as ev
from mimic_reg.clinical import schema
from mimic_reg.clinical.schema import EPSILON
from mimic_reg.clinical.stays import MAX_DAYS, parse_time
from mimic_reg.cohorts import current as imported
from mimic_reg.cohorts.reading import HOUR
from mimic_reg.errors import InputError
from mimic_reg.extraction import current as extracted
from mimic_reg.serving.current import MISSING, predict_hours
from mimic_reg.serving.model import ServedModel
from mimic_reg.serving.raw import keyed
from mimic_reg.sources.current import Current
from mimic_reg.store.spec import CohortSpec

COLUMNS = ("stay", "time", "item", "variable", "value", "unit", "admitted", "at")
IGNORED = "ignored"
_ADMITTED = datetime(2000, 1, 1)
_LATEST = 24.0 * MAX_DAYS
_AFTER = pl.format("after hour {}", pl.col("at").cast(pl.String).str.strip_suffix(".0"))


def takes_events(spec: CohortSpec) -> bool:
    """Return whether requests for a model can be events: no channel has the name of a column."""
    return spec.is_hourly and not set(COLUMNS[1:]) & set(spec.channel_names)


def is_events(spec: CohortSpec, frame: pd.DataFrame) -> bool:
    """Return whether a request has events, not hours."""
    if not takes_events(spec):  # a request of images has no columns
        return False
    there = set(map(str, frame.columns))
    return "value" in there and bool({"item", "variable"} & there)


def answer_events(model: ServedModel, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each stay, in the order of the request.

    Columns: stay (if given), hours, the outputs, never_observed, ignored: {reason: events}. A stay
    without a usable event has no prediction.

    Raises:
        InputError: a column is missing, no time can be read, or the model takes no events.
    """
    recipe = model.recipe
    codes, stays = _stays(frame)
    events = _events(frame, codes)
    ignored: list[tuple[int, str]] = []
    events = _within(events, ignored)
    if recipe.kind == "ricu":
        current = _imported(model, events, ignored)
    else:
        current = keyed(_extracted(events, recipe.mode, ignored), model.spec)
    unit = model.spec.unit
    hours = current.hourly.group_by(unit).agg(pl.len().cast(pl.Int64).alias(HOUR)).sort(unit)
    hours = hours.join(current.stays.select(unit), on=unit, how="semi").sort(unit)
    table = pl.DataFrame({unit: range(len(stays))}, schema={unit: pl.Int64}).join(
        predict_hours(model, current, hours), on=unit, how="left", maintain_order="left"
    )
    counts = [Counter[str]() for _ in stays]
    for code, reason in ignored:
        counts[code][reason] += 1
    found: dict[str, Any] = {"stay": list(stays)} if "stay" in frame else {}
    found["hours"] = table[HOUR].fill_null(0).to_list()
    for name in table.columns[2:]:
        found[name] = pd.Series(table[name].to_list(), dtype=object)
    names = "; ".join(c for c in current.observed.columns if c not in (unit, HOUR))
    found[MISSING] = table[MISSING].fill_null(names).to_list()
    found[IGNORED] = [dict(count) for count in counts]
    return pd.DataFrame(found)


def _stays(frame: pd.DataFrame) -> tuple[np.ndarray, Any]:
    """Return each row's stay as a number from 0, and the stays."""
    if not len(frame):
        raise InputError("The table has no rows.")
    if "stay" not in frame:
        return np.zeros(len(frame), np.int64), [""]
    if frame["stay"].isna().any():
        raise InputError("The column 'stay' has empty cells.")
    try:
        codes, stays = pd.factorize(frame["stay"])
    except TypeError as error:  # lists
        raise InputError("The column 'stay' must hold numbers or texts.") from error
    return codes.astype(np.int64), stays


def _events(frame: pd.DataFrame, codes: np.ndarray) -> pl.DataFrame:
    """Return stay, hours (null: not readable), item, variable, value, unit as text, and `at`."""
    if "time" not in frame:
        raise InputError(
            "The column 'time' is missing: hours since admission to the unit, or times with the "
            "column 'admitted'."
        )
    texts = {
        name: [_text(v) for v in frame[name]] if name in frame else [None] * len(frame)
        for name in COLUMNS[1:]
    }
    table = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
    hours = table["time"].cast(pl.Float64, strict=False)
    times, admitted = parse_time(table["time"]), parse_time(table["admitted"])
    dated = times.is_not_null() & hours.is_null()
    if (lost := int((dated & admitted.is_null()).sum())) and lost == int(dated.sum()):
        raise InputError(
            f"{lost:,} times are dates, so the column 'admitted' must have the time of admission "
            "to the unit. Or give times as hours since admission."
        )
    since = (times - admitted).dt.total_microseconds() / 3.6e9
    at = table["at"].cast(pl.Float64, strict=False)
    wrong = table["at"].is_not_null() & ~(at.is_between(1, _LATEST)).fill_null(False)
    if wrong.any():
        raise InputError(f"The column 'at' must have hours from 1 to {_LATEST:,.0f}.")
    table = table.with_columns(hours.fill_null(since).fill_nan(None).alias("hours"), at, stay=codes)
    if (table.group_by("stay").agg(pl.col("at").n_unique())["at"] > 1).any():
        raise InputError("The column 'at' must be the same in all rows of a stay.")
    return table.drop("time", "admitted")


def _text(value: Any) -> str | None:
    """Return a cell as the text of a raw table: 80.0 as "80"."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, int | float | np.number):
        number = float(value)
        if np.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value).strip()


def _drop(
    events: pl.DataFrame, condition: pl.Expr, reason: pl.Expr, ignored: list[tuple[int, str]]
) -> pl.DataFrame:
    """Return the events that do not meet a condition; note the others."""
    found = condition.fill_null(False)
    ignored += events.filter(found).select("stay", reason).iter_rows()
    return events.filter(~found)


def _within(events: pl.DataFrame, ignored: list[tuple[int, str]]) -> pl.DataFrame:
    """Return the events with a value and a readable time from admission to `at`."""
    value = pl.col("value")
    empty = value.is_null() | value.is_in(schema.MISSING_TEXTS)
    events = _drop(events, empty, pl.lit("no value"), ignored)
    hours = pl.col("hours")
    events = _drop(events, hours < -EPSILON, pl.lit("before admission"), ignored)
    events = _drop(events, hours > pl.col("at") + EPSILON, _AFTER, ignored)
    beyond = pl.lit(f"more than {MAX_DAYS:,} days after admission")
    return _drop(events, hours > _LATEST, beyond, ignored)


def _extracted(events: pl.DataFrame, mode: ev.Mode, ignored: list[tuple[int, str]]) -> Current:
    """Return the hours of stays from events of MIMIC's items, or of the benchmark's variables."""
    events = _drop(events, pl.col("hours").is_null(), pl.lit("time not readable"), ignored)
    items = ev.items(mode).with_columns(item=pl.col("itemid").cast(pl.String)).drop("itemid")
    codes = pl.DataFrame(
        {"variable": schema.VARIABLES, "code": range(len(schema.VARIABLES))},
        schema_overrides={"code": pl.UInt8},
    )
    items = items.rename({"variable": "of_item"})
    events = events.join(items, on="item", how="left", maintain_order="left")
    events = events.join(codes, on="variable", how="left", maintain_order="left")
    other = pl.col("of_item") != pl.col("code")
    events = _drop(events, other, pl.lit("item and variable disagree"), ignored)
    events = events.with_columns(pl.coalesce("of_item", "code").alias("code"))
    events = _drop(events, pl.col("code").is_null(), _unknown(), ignored)
    named = events.select(
        subject_id="stay",
        icustay_id="stay",
        variable="code",
        label=pl.col("label").fill_null(""),
        charttime=(
            pl.lit(_ADMITTED) + pl.duration(microseconds=pl.col("hours") * 3.6e9)
        ).dt.strftime("%Y-%m-%d %H:%M:%S%.6f"),
        value="value",
        valueuom="unit",
    )
    measurements, _ = ev.clean_named(named, mode)
    _note_unreadable(named, measurements, ignored)
    last = events.group_by("stay").agg(pl.coalesce(pl.col("at").first(), pl.col("hours").max()))
    stays = last.select(
        subject_id="stay",
        icustay_id="stay",
        intime=pl.lit(_ADMITTED),
        outtime=pl.lit(_ADMITTED) + pl.duration(microseconds=pl.col("at") * 3.6e9),
    )
    until = _ADMITTED + timedelta(hours=_LATEST + 1)
    return extracted.build_current(measurements, stays, until)


def _unknown() -> pl.Expr:
    """Return why an event is not one of the model's."""
    return pl.coalesce(  # a null makes the text of a format null
        pl.format("item {} is not one of the model's", "item"),
        pl.format("'{}' is not a variable of the model", "variable"),
        pl.lit("neither an item nor a variable"),
    )


def _note_unreadable(
    named: pl.DataFrame, measurements: pl.DataFrame, ignored: list[tuple[int, str]]
) -> None:
    """Note the events whose value cannot be read, by variable."""
    keys = ["icustay_id", "variable"]
    kept_of = measurements.group_by(keys).len("kept")
    lost = named.group_by(keys).len("all").join(kept_of, on=keys, how="left")
    for stay, code, every, kept in lost.iter_rows():
        reason = f"value of {schema.VARIABLES[code]} not readable"
        ignored += [(stay, reason)] * (every - (kept or 0))
    for code, variable in enumerate(schema.variables()):
        texts = measurements.filter(pl.col("variable") == code).drop_nulls("text")
        if variable.is_text:
            odd = texts.filter(~pl.col("text").is_in(variable.categories))
        else:
            odd = texts.filter(ev.to_number(texts["text"]).is_null())
        ignored += [(stay, f"value of {variable.name} not readable") for stay in odd["icustay_id"]]


def _imported(model: ServedModel, events: pl.DataFrame, ignored: list[tuple[int, str]]) -> Current:
    """Return the hours of stays from events of an imported cohort's variables."""
    settings, channels = model.recipe.settings, model.spec.channels
    static = imported.static_variables(channels, settings)
    variables = dict.fromkeys(channel.variable for channel in channels)
    known = pl.col("variable").is_in(list(variables)).fill_null(False)
    events = _drop(events, ~known, _unknown(), ignored)
    timeless = pl.col("hours").is_null() & ~pl.col("variable").is_in(list(static))
    events = _drop(events, timeless, pl.lit("time not readable"), ignored)
    hour = (pl.col("hours").fill_null(0.0) + EPSILON).floor().cast(pl.Int64).alias(HOUR)
    too_late = hour >= pl.col("at")
    events = _drop(events, too_late, _AFTER, ignored)
    events = events.sort("stay", "hours", nulls_last=False).with_columns(hour)
    columns = {v: _values(events, v, channels, ignored) for v in variables}
    stay = settings.stay
    keys, timed = events.select(pl.col("stay").alias(stay), HOUR), set(variables) - set(static)
    dyn = keys.hstack([columns[v] for v in variables if v in timed])
    end = (pl.col("at").first().ceil() - 1).cast(pl.Int64).alias(HOUR)
    ends = events.group_by(pl.col("stay").alias(stay)).agg(end)
    dyn = pl.concat([dyn, ends.drop_nulls()], how="diagonal")
    sta = events.select(pl.col("stay").alias(stay)).hstack([columns[v] for v in static])
    sta = sta.group_by(stay).agg(pl.all().drop_nulls().last())
    files = {"dyn": Path("request"), "sta": Path("request")}
    return imported.build_current(dyn, sta, files, settings, channels)


def _values(
    events: pl.DataFrame, variable: str, channels: Iterable[Any], ignored: list[tuple[int, str]]
) -> pl.Series:
    """Return the values of a variable, empty in the events of others; note unreadable ones."""
    of = [c for c in channels if c.variable == variable and c.kind in ("continuous", "indicator")]
    own = events["variable"] == variable
    text = events["value"].set(~own, None)
    if of[0].name == variable:
        values = text.replace({"true": "1", "false": "0"}).cast(pl.Float64, strict=False)
        values = values.set(~values.is_finite().fill_null(True), None)
        odd = own & values.is_null()
    else:
        values = text
        odd = own & ~imported.is_one_of(text, [imported.category(c) for c in of]).fill_null(True)
    ignored += [(stay, f"value of {variable} not readable") for stay in events["stay"].filter(odd)]
    return values.alias(variable)
