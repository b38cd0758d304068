"""Read dyn and sta of current stays: no labels, encoded as the cohort of a trained model was."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from mimic_reg.cohorts.features import Encoded, Features, check_finite, indicators_of
from mimic_reg.cohorts.measurements import ROW
from mimic_reg.cohorts.reading import HOUR, read_unlabelled
from mimic_reg.cohorts.settings import ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.sources.current import Current
from mimic_reg.store import disk_errors
from mimic_reg.store.spec import Channel

_MASKS = ("observed", "missing")


def read_current(
    folder: Path,
    settings: ImportSettings,
    channels: tuple[Channel, ...],
    *,
    allow_missing: bool = False,
) -> Current:
    """Return the hours of the stays in a folder with dyn and sta; a stay lasts to its last row.

    settings, channels: of the cohort that the model was trained on
    allow_missing:      treat a column that the tables lack as not measured

    Raises:
        InputError: a table or a column is missing, or cannot be used; with counts.
    """
    with tempfile.TemporaryDirectory() as scratch, disk_errors(Path(scratch)):
        tables = read_unlabelled(folder, settings, Path(scratch))
        there = set(tables.measurements.columns)
        variables = dict.fromkeys(c.variable for c in channels if c.variable in there)
        rows = tables.dyn[ROW]
        columns = [tables.measurements.column(name).gather(rows) for name in variables]
    dyn = tables.dyn.drop(ROW).hstack(columns)
    return build_current(
        dyn, tables.sta, tables.files, settings, channels, tables.notes, allow_missing=allow_missing
    )


def build_current(
    dyn: pl.DataFrame,
    sta: pl.DataFrame,
    files: Mapping[str, Path],
    settings: ImportSettings,
    channels: tuple[Channel, ...],
    notes: tuple[str, ...] = (),
    *,
    allow_missing: bool = False,
) -> Current:
    """Return the hours of the stays in dyn and sta, as `read_current`.

    dyn:   stay, hour and variables, in the order of stays and times
    files: of dyn and sta, for messages
    notes: what was left out of them
    """
    stay = settings.stay
    known, rows = sta[stay].unique(), dyn[stay].unique()
    kept = rows.filter(rows.is_in(known.implode()))
    excluded = {
        f"not in {files['sta'].name}": len(rows) - len(kept),
        f"without a row in {files['dyn'].name}": len(known) - len(kept),
    }
    frames = {"dyn": dyn, "sta": sta}
    dyn = dyn.filter(pl.col(stay).is_in(kept.implode()))
    lengths = dyn.group_by(stay).agg((pl.col(HOUR).max() + 1).alias("hours"))
    lengths = lengths.with_columns(pl.col("hours").clip(upper_bound=settings.hours)).sort(stay)
    hourly, measured, observed, encoding = _encode_again(
        frames, files, lengths, channels, settings, allow_missing
    )
    timed = [c for c in observed.columns if c in dyn.columns and c not in (stay, HOUR)]
    first = observed.filter(pl.any_horizontal(pl.lit(False), *timed)).group_by(stay)
    stays = lengths.join(first.agg(first=pl.col(HOUR).min() + 1.0), on=stay, how="left")
    hours = pl.col("hours").cast(pl.Float64)
    excluded["without a measurement so far"] = stays["first"].null_count()
    return Current(
        hourly=hourly,
        measured=measured,
        observed=observed,
        stays=stays.drop_nulls("first")
        .select(stay, "first", reached=hours, lasted=hours)
        .sort(stay),
        excluded={reason: count for reason, count in excluded.items() if count},
        notes=(*notes, *encoding),
    )


def _encode_again(
    frames: dict[str, pl.DataFrame],
    files: Mapping[str, Path],
    lengths: pl.DataFrame,
    channels: tuple[Channel, ...],
    settings: ImportSettings,
    allow_missing: bool,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[str]]:
    """Return hourly, measured, observed of `Current` for dyn and sta, and notes."""
    of: dict[str, list[Channel]] = {}
    for channel in channels:
        of.setdefault(channel.variable, []).append(channel)
    stems = {v: _stem(v, found, frames["dyn"], settings) for v, found in of.items()}
    there = {v for v, stem in stems.items() if v in frames[stem].columns}
    missing = [c.name for v in of if v not in there for c in of[v]]
    folder = files["dyn"].parent
    if missing and not allow_missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of the cohort's {len(channels):,} channels: "
            f"{', '.join(missing)}. Add their columns, or use --allow-missing to treat them as not "
            "measured."
        )
    stay = settings.stay
    (values, dynamic), (once, static) = (
        _encoded(frame, stay, {v: of[v] for v in of if stems[v] == stem}, files[stem])
        for stem, frame in frames.items()
    )
    indicators = tuple(indicators_of(dynamic, settings))
    notes = [*dynamic.notes, *static.notes]
    built = Features(settings, dynamic, once, static.channels, indicators, tuple(notes))
    hourly, measured = built.hours(lengths, values)
    if missing:
        notes.append(f"Not in {folder.name}, treated as not measured: {', '.join(missing)}.")
    names = [channel.name for channel in channels]
    hourly = hourly.select(stay, HOUR, *names)
    held = {stem: [v for v in of if stems[v] == stem and v in there] for stem in frames}
    timed = (
        frames["dyn"].group_by(stay, HOUR).agg(pl.col(v).is_not_null().any() for v in held["dyn"])
    )
    known = frames["sta"].select(stay, *(pl.col(v).is_not_null() for v in held["sta"]))
    observed = (
        hourly.select(stay, HOUR)
        .join(timed, on=[stay, HOUR], how="left", maintain_order="left")
        .join(known, on=stay, how="left", maintain_order="left")
        .with_columns(pl.lit(False).alias(v) for v in of if v not in there)
        .select(stay, HOUR, *(pl.col(v).fill_null(False) for v in of))
        .with_columns(pl.col(v) & (pl.col(HOUR) == 0) for v in held["sta"])
    )
    return hourly, measured, observed, notes


def static_variables(channels: tuple[Channel, ...], settings: ImportSettings) -> tuple[str, ...]:
    """Return the variables of a cohort that are known to be static: none without indicators."""
    timed = {channel.variable for channel in channels if channel.kind in _MASKS}
    known = dict.fromkeys(channel.variable for channel in channels)
    return tuple(v for v in known if v not in timed) if settings.indicators != "none" else ()


def _stem(
    variable: str, channels: list[Channel], dyn: pl.DataFrame, settings: ImportSettings
) -> str:
    """Return which table holds a variable of the cohort: dyn or sta."""
    if settings.indicators != "none":
        return "sta" if static_variables(tuple(channels), settings) else "dyn"
    in_dyn = variable in dyn.columns and variable not in settings.dynamic.leave_out
    return "dyn" if in_dyn else "sta"


def _encoded(
    frame: pl.DataFrame, stay: str, variables: dict[str, list[Channel]], path: Path
) -> tuple[pl.DataFrame, Encoded]:
    """Return a table's keys with its channels of the cohort, and what these are."""
    columns, channels, notes = [], [], []
    types: dict[str, pl.DataType] = {}
    for name, found in variables.items():
        empty = pl.Series(name, [None] * frame.height, pl.Float64)
        column = frame[name] if name in frame.columns else empty
        types[name] = column.dtype
        values = [channel for channel in found if channel.kind not in _MASKS]
        columns += [_channel(column, c, path).cast(pl.Float32).alias(c.name) for c in values]
        channels += values
        if values[0].name != name:
            known = is_one_of(column.drop_nulls(), [category(c) for c in values])
            if new := len(known) - int(known.sum()):
                notes.append(
                    f"Values of {name!r} in {path.name} that no training stay has: {new:,}. "
                    "Their channels are 0."
                )
    keys = frame.select(key for key in (stay, HOUR) if key in frame.columns)
    there = tuple(pl.col(channel.name) for channel in channels)
    return keys.hstack(columns), Encoded(tuple(channels), there, types, tuple(notes))


def _channel(column: pl.Series, channel: Channel, path: Path) -> pl.Series:
    """Return the values of a channel of the cohort, from its variable's column."""
    if channel.name != channel.variable:
        return is_one_of(column, [category(channel)]).set(column.is_null(), None)
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise InputError(
            f"{path}: the column {column.name!r} holds {column.dtype}; the model was trained with "
            "numbers there. Make them numbers."
        )
    if channel.kind == "indicator":
        return column == 1 if column.dtype.is_numeric() else column
    check_finite(column, path)
    return column


def category(channel: Channel) -> str:
    """Return the category of a channel of a categorical variable, as text."""
    return channel.name.removeprefix(f"{channel.variable}->")


def is_one_of(column: pl.Series, categories: list[str]) -> pl.Series:
    """Return whether values are among categories, which are texts: 1 is the category "1.0"."""
    if not column.dtype.is_numeric():
        return column.cast(pl.String).is_in(categories)
    numbers = pl.Series(categories, dtype=pl.String).cast(pl.Float64, strict=False)
    return column.cast(pl.Float64).is_in(numbers.drop_nulls().implode())
