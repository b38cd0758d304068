"""Read dyn and sta of current stays: no labels, encoded as the cohort of a trained model was."""

from pathlib import Path

import polars as pl

from mimic_reg.cohorts.features import Encoded, Features, assemble, check_finite
from mimic_reg.cohorts.reading import HOUR, Tables, read_unlabelled
from mimic_reg.cohorts.settings import ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.sources.current import Current
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
    tables = read_unlabelled(folder, settings)
    return build_current(tables, settings, channels, allow_missing=allow_missing)


def build_current(
    tables: Tables,
    settings: ImportSettings,
    channels: tuple[Channel, ...],
    *,
    allow_missing: bool = False,
) -> Current:
    """Return the hours of the stays in dyn and sta, as `read_current`."""
    stay = settings.stay
    known, rows = tables.sta[stay].unique(), tables.dyn[stay].unique()
    kept = rows.filter(rows.is_in(known.implode()))
    excluded = {
        f"not in {tables.files['sta'].name}": len(rows) - len(kept),
        f"without a row in {tables.files['dyn'].name}": len(known) - len(kept),
    }
    dyn = tables.dyn.filter(pl.col(stay).is_in(kept.implode()))
    lengths = dyn.group_by(stay).agg((pl.col(HOUR).max() + 1).alias("hours"))
    lengths = lengths.with_columns(pl.col("hours").clip(upper_bound=settings.hours)).sort(stay)
    built, observed = _encode_again(tables, lengths, channels, settings, allow_missing)
    timed = [c for c in observed.columns if c in tables.dyn.columns and c not in (stay, HOUR)]
    first = observed.filter(pl.any_horizontal(pl.lit(False), *timed)).group_by(stay)
    stays = lengths.join(first.agg(first=pl.col(HOUR).min() + 1.0), on=stay, how="left")
    hours = pl.col("hours").cast(pl.Float64)
    excluded["without a measurement so far"] = stays["first"].null_count()
    return Current(
        hourly=built.hourly,
        measured=built.hourly.select(stay, HOUR).hstack(built.measured.drop(stay, HOUR)),
        observed=observed,
        stays=stays.drop_nulls("first")
        .select(stay, "first", reached=hours, lasted=hours)
        .sort(stay),
        excluded={reason: count for reason, count in excluded.items() if count},
        notes=(*tables.notes, *built.notes),
    )


def _encode_again(
    tables: Tables,
    lengths: pl.DataFrame,
    channels: tuple[Channel, ...],
    settings: ImportSettings,
    allow_missing: bool,
) -> tuple[Features, pl.DataFrame]:
    """Return the channels of an imported cohort for other stays, and which hours were measured."""
    of: dict[str, list[Channel]] = {}
    for channel in channels:
        of.setdefault(channel.variable, []).append(channel)
    frames = {"dyn": tables.dyn, "sta": tables.sta}
    stems = {v: _stem(v, found, tables, settings) for v, found in of.items()}
    there = {v for v, stem in stems.items() if v in frames[stem].columns}
    missing = [c.name for v in of if v not in there for c in of[v]]
    folder = tables.files["dyn"].parent
    if missing and not allow_missing:
        raise InputError(
            f"{folder} lacks {len(missing):,} of the cohort's {len(channels):,} channels: "
            f"{', '.join(missing)}. Add their columns, or use --allow-missing to treat them as not "
            "measured."
        )
    stay = settings.stay
    encoded = {
        stem: _encoded(frame, stay, {v: of[v] for v in of if stems[v] == stem}, tables.files[stem])
        for stem, frame in frames.items()
    }
    built = assemble(lengths, encoded["dyn"], encoded["sta"], settings)
    notes = list(built.notes)
    if missing:
        notes.append(f"Not in {folder.name}, treated as not measured: {', '.join(missing)}.")
    names = [channel.name for channel in channels]
    hourly = built.hourly.select(stay, HOUR, *names)
    measured = {stem: [v for v in of if stems[v] == stem and v in there] for stem in frames}
    timed = tables.dyn.group_by(stay, HOUR).agg(
        pl.col(v).is_not_null().any() for v in measured["dyn"]
    )
    once = tables.sta.select(stay, *(pl.col(v).is_not_null() for v in measured["sta"]))
    observed = (
        hourly.select(stay, HOUR)
        .join(timed, on=[stay, HOUR], how="left", maintain_order="left")
        .join(once, on=stay, how="left", maintain_order="left")
        .with_columns(pl.lit(False).alias(v) for v in of if v not in there)
        .select(stay, HOUR, *(pl.col(v).fill_null(False) for v in of))
        .with_columns(pl.col(v) & (pl.col(HOUR) == 0) for v in measured["sta"])
    )
    return Features(hourly, built.measured, channels, tuple(notes)), observed


def static_variables(channels: tuple[Channel, ...], settings: ImportSettings) -> tuple[str, ...]:
    """Return the variables of a cohort that are known to be static: none without indicators."""
    timed = {channel.variable for channel in channels if channel.kind in _MASKS}
    known = dict.fromkeys(channel.variable for channel in channels)
    return tuple(v for v in known if v not in timed) if settings.indicators != "none" else ()


def _stem(variable: str, channels: list[Channel], tables: Tables, settings: ImportSettings) -> str:
    """Return which table holds a variable of the cohort: dyn or sta."""
    if settings.indicators != "none":
        return "sta" if static_variables(tuple(channels), settings) else "dyn"
    in_dyn = variable in tables.dyn.columns and variable not in settings.dynamic.leave_out
    return "dyn" if in_dyn else "sta"


def _encoded(
    frame: pl.DataFrame, stay: str, variables: dict[str, list[Channel]], path: Path
) -> Encoded:
    """Return a table's keys and its channels of the cohort."""
    columns, channels, notes = [], [], []
    for name, found in variables.items():
        empty = pl.Series(name, [None] * frame.height, pl.Float64)
        column = frame[name] if name in frame.columns else empty
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
    return Encoded(keys.hstack(columns), tuple(channels), tuple(variables), tuple(notes))


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
