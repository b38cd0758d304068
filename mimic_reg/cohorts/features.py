"""Turn the dynamic and static tables into hourly channels."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mimic_reg.cohorts.division import SPLIT_NAMES
from mimic_reg.cohorts.reading import HOUR, Tables, is_zero_one
from mimic_reg.cohorts.settings import Columns, ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.settings.names import suggest
from mimic_reg.store.spec import Channel

_MOST_CATEGORIES = 100
# how keys end in MIMIC, eICU, HiRID and AmsterdamUMCdb
_KEYS = ("_id", "stayid", "patientid", "hospitalid", "admissionid", "wardid", "uniquepid")


@dataclass(frozen=True)
class Features:
    """Hourly channels of stays.

    hourly:   stay, hour, channels; carried forward; empty before a first measurement
    measured: the same rows and the continuous channels; a value only where it was measured, static
              ones in hour 0
    notes:    sentences on what was left out
    """

    hourly: pl.DataFrame
    measured: pl.DataFrame
    channels: tuple[Channel, ...]
    notes: tuple[str, ...]


def build(
    tables: Tables, lengths: pl.DataFrame, train: pl.Series, settings: ImportSettings
) -> Features:
    """Return the channels of the stays in `lengths` (stay, hours): hours 0 to hours - 1 of each.

    train: the training stays; categories come from these alone

    Raises:
        InputError: a column cannot be a feature.
    """
    stay = settings.stay
    keys = (stay, HOUR, settings.subject, settings.splits.column)
    dynamic, static = (
        _encoded(table, columns, keys, table[stay].is_in(train), tables.files[stem], setting)
        for table, columns, stem, setting in (
            (tables.dyn, settings.dynamic, "dyn", "dynamic"),
            (tables.sta, settings.static, "sta", "static"),
        )
    )
    _check_names(dynamic, static, _indicators(dynamic, settings), settings)
    if not dynamic.channels:
        raise InputError(f"{tables.files['dyn']} has no column that can be a feature.")
    return assemble(lengths, dynamic, static, settings)


def assemble(
    lengths: pl.DataFrame, dynamic: "Encoded", static: "Encoded", settings: ImportSettings
) -> Features:
    """Return the features of the stays in `lengths` from encoded tables."""
    stay, indicators = settings.stay, _indicators(dynamic, settings)
    names, values = dynamic.channel_names, dynamic.frame
    grid = lengths.select(stay, pl.int_ranges("hours").alias(HOUR)).explode(HOUR).sort(stay, HOUR)
    by_hour = values
    if values.select(stay, HOUR).is_duplicated().any():
        by_hour = values.group_by(stay, HOUR, maintain_order=True).agg(
            _aggregated(channel, settings.aggregate) for channel in dynamic.channels
        )
    raw = grid.join(by_hour, on=[stay, HOUR], how="left", maintain_order="left")
    categories = [c.name for c in (*dynamic.channels, *static.channels) if c.kind == "indicator"]
    known = {n: v for n, v in settings.normal_values.items() if n in names}
    hours = (
        raw.with_columns(pl.col(names).forward_fill().over(stay))
        .with_columns(pl.col(name).fill_null(value) for name, value in known.items())
        .join(static.frame, on=stay, how="left", maintain_order="left")
        .with_columns(pl.col(categories).fill_null(0.0))
    )
    continuous = [c.name for c in dynamic.channels if c.kind == "continuous"]
    once = [c.name for c in static.channels if c.kind == "continuous"]
    first = pl.col(HOUR) == 0
    measured = raw.select(stay, HOUR, *continuous).hstack(
        hours.select(pl.when(first).then(pl.col(name)).alias(name) for name in once)
    )
    marks = raw.select(expression.cast(pl.Float32) for _, expression in indicators)
    return Features(
        hourly=hours.hstack(marks),
        measured=measured,
        channels=(*dynamic.channels, *static.channels, *(channel for channel, _ in indicators)),
        notes=(*dynamic.notes, *static.notes),
    )


@dataclass(frozen=True)
class Encoded:
    """A table's keys and channels as 32-bit numbers; `variables` are the columns behind them."""

    frame: pl.DataFrame
    channels: tuple[Channel, ...]
    variables: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def channel_names(self) -> list[str]:
        """Return their names."""
        return [channel.name for channel in self.channels]


def _encoded(
    frame: pl.DataFrame,
    columns: Columns,
    keys: tuple[str | None, ...],
    in_train: pl.Series,
    path: Path,
    setting: str,
) -> Encoded:
    named = (*columns.continuous, *columns.categorical)
    present = [name for name in frame.columns if name not in keys]
    for name in (*named, *columns.leave_out):
        if name not in present:
            raise InputError(
                f"{path} has no feature column {name!r}, which {setting!r} lists. "
                f"{suggest(name, present)}"
            )
    used = [n for n in present if (n in named if named else n not in columns.leave_out)]
    channels, expressions, notes = [], [], []
    for name in used:
        column = frame[name]
        found = _channels(column, column.filter(in_train), columns, path, setting)
        channels += [channel for channel, _ in found]
        expressions += [expression.cast(pl.Float32) for _, expression in found]
        if all(channel.kind == "indicator" for channel, _ in found):
            known = column.filter(in_train).unique().implode()
            if new := int((~column.drop_nulls().is_in(known)).sum()):
                notes.append(
                    f"Values of {name!r} in {path.name} that no training stay has: {new:,}. "
                    "Their channels are 0."
                )
    _refuse_repeated(channels)
    kept = [key for key in dict.fromkeys(keys) if key in (keys[0], HOUR) and key in frame.columns]
    return Encoded(frame.select(*kept, *expressions), tuple(channels), tuple(used), tuple(notes))


def _refuse_repeated(channels: Iterable[Channel]) -> None:
    names = [channel.name for channel in channels]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"Two columns or categories make the channel {repeated[0]!r}. Rename one of them."
        )


def _channels(
    column: pl.Series, in_train: pl.Series, columns: Columns, path: Path, setting: str
) -> list[tuple[Channel, pl.Expr]]:
    """The channels of a column, each with the expression that computes it.

    in_train: its values in training stays
    """
    name = column.name
    numeric = column.dtype.is_numeric()
    if not numeric and column.dtype not in (pl.String, pl.Boolean):
        raise InputError(
            f"{path}: the column {name!r} holds {column.dtype}, neither numbers nor text. List it "
            f"under {setting}.leave_out."
        )
    named = name in (*columns.continuous, *columns.categorical)
    if not named and name.lower().endswith(_KEYS) and not column.dtype.is_float():
        raise InputError(
            f"{path}: the column {name!r} looks like a key, and a key must not be a feature. Name "
            f"it as 'subject' if it identifies patients, or list it under {setting}.leave_out."
        )
    if name in columns.continuous or (numeric and name not in columns.categorical):
        if not numeric and column.dtype != pl.Boolean:
            raise InputError(f"{path}: the column {name!r} holds text, so it is not continuous.")
        check_finite(column, path)
        return [(Channel(name=name, kind="continuous", variable=name), pl.col(name))]
    categories = in_train.drop_nulls().unique().sort()
    if not named and not numeric and set(categories) <= set(SPLIT_NAMES):
        raise InputError(
            f"{path}: the column {name!r} names splits, and must not be a feature. Set "
            f"splits.column to it, or list it under {setting}.leave_out."
        )
    if column.dtype == pl.Boolean or (numeric and is_zero_one(categories)):
        return [(Channel(name=name, kind="indicator", variable=name), pl.col(name) == 1)]
    _check_text(column, named, path, setting)
    if len(categories) > _MOST_CATEGORIES:
        raise InputError(
            f"{path}: the column {name!r} has {len(categories):,} categories, more than "
            f"{_MOST_CATEGORIES}. List it under {setting}.leave_out, or group its categories."
        )
    return [
        (
            Channel(name=f"{name}->{category}", kind="indicator", variable=name),
            (pl.col(name) == pl.lit(category)).alias(f"{name}->{category}"),
        )
        for category in categories
    ]


def _check_text(column: pl.Series, named: bool, path: Path, setting: str) -> None:
    """Refuse numbers with a few words among them, such as an age of "> 89"."""
    values = column.drop_nulls()
    words = values.cast(pl.Float64, strict=False).null_count()
    if not named and words < len(values) / 2:
        raise InputError(
            f"{path}: {words:,} of {len(values):,} values of {column.name!r} are not numbers. Make "
            f"them numbers, or list the column under {setting}.categorical or leave_out."
        )


def check_finite(column: pl.Series, path: Path) -> None:
    """Refuse numbers that a channel cannot hold.

    Raises:
        InputError: they are infinite, or too large for 32 bits; with a count.
    """
    numbers = column.cast(pl.Float32, strict=False).drop_nulls()
    if bad := int((~numbers.is_finite()).sum()):
        raise InputError(
            f"{path}: {bad:,} values of {column.name!r} are infinite or too large for 32 bits."
        )


def _aggregated(channel: Channel, how: str) -> pl.Expr:
    values = pl.col(channel.name).drop_nulls()
    if channel.kind == "indicator" or how == "last":
        return values.last()
    return values.median() if how == "median" else values.mean()


def _indicators(dynamic: Encoded, settings: ImportSettings) -> list[tuple[Channel, pl.Expr]]:
    """A channel per variable that says whether it was measured in the hour, and its expression."""
    if settings.indicators == "none":
        return []
    of = {variable: _first_channel(dynamic, variable) for variable in dynamic.variables}
    found = []
    for variable, name in of.items():
        if name is None:
            continue
        missing = settings.indicators == "missing"
        channel = Channel(
            name=f"{settings.indicators}->{variable}",
            kind="missing" if missing else "observed",
            variable=variable,
        )
        test = pl.col(name).is_null() if missing else pl.col(name).is_not_null()
        found.append((channel, test.alias(channel.name)))
    return found


def _first_channel(dynamic: Encoded, variable: str) -> str | None:
    return next((c.name for c in dynamic.channels if c.variable == variable), None)


def _check_names(
    dynamic: Encoded,
    static: Encoded,
    indicators: list[tuple[Channel, pl.Expr]],
    settings: ImportSettings,
) -> None:
    if both := sorted({*dynamic.variables} & {*static.variables}):
        raise InputError(
            f"The column {both[0]!r} is in both dyn and sta. List it under static.leave_out or "
            "dynamic.leave_out."
        )
    _refuse_repeated((*dynamic.channels, *static.channels, *(channel for channel, _ in indicators)))
    continuous = [c.name for c in dynamic.channels if c.kind == "continuous"]
    for name in settings.normal_values:
        if name not in continuous:
            raise InputError(
                f"normal_values has {name!r}, which is not a continuous dynamic variable. "
                f"{suggest(name, continuous)}"
            )
