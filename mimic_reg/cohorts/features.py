"""Turn the dynamic and static tables into hourly channels."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from mimic_reg.cohorts.division import SPLIT_NAMES
from mimic_reg.cohorts.measurements import ROW, divided
from mimic_reg.cohorts.reading import HOUR, Tables, is_zero_one
from mimic_reg.cohorts.settings import Columns, ImportSettings
from mimic_reg.errors import InputError
from mimic_reg.settings.names import suggest
from mimic_reg.store.spec import Channel

_MOST_CATEGORIES = 100
# how keys end in MIMIC, eICU, HiRID and AmsterdamUMCdb
_KEYS = ("_id", "stayid", "patientid", "hospitalid", "admissionid", "wardid", "uniquepid")


@dataclass(frozen=True)
class Encoded:
    """How the columns of a table become channels: 32-bit numbers.

    types:       column → its plain type
    expressions: of the channels, in their order
    """

    channels: tuple[Channel, ...]
    expressions: tuple[pl.Expr, ...]
    types: dict[str, pl.DataType]
    notes: tuple[str, ...]

    @property
    def channel_names(self) -> list[str]:
        """Return their names."""
        return [channel.name for channel in self.channels]

    @property
    def variables(self) -> tuple[str, ...]:
        """Return the columns behind them."""
        return tuple(self.types)


@dataclass(frozen=True)
class Features:
    """The channels of a cohort, and how to compute them.

    static: stay and the channels of the static table
    """

    settings: ImportSettings
    dynamic: Encoded
    static: pl.DataFrame
    static_channels: tuple[Channel, ...]
    indicators: tuple[tuple[Channel, pl.Expr], ...]
    notes: tuple[str, ...]

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Return the channels, in the array's order."""
        marks = (channel for channel, _ in self.indicators)
        return (*self.dynamic.channels, *self.static_channels, *marks)

    def parts(
        self, tables: Tables, lengths: pl.DataFrame, rows: int, scratch: Path
    ) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
        """Yield the hourly table in parts, each of all hours of some stays, and what was measured.

        The hours are carried forward; they are empty before a first measurement. The second table
        has the same rows and the continuous channels: a value only where it was measured, static
        ones in hour 0.

        lengths: stay and hours, in the order of stays: hours 0 to hours - 1 of each
        rows:    of a part, about
        """
        stay, dyn = self.settings.stay, tables.dyn
        dyn = dyn.join(lengths, on=stay, how="semi", maintain_order="left")
        counts = dyn.group_by(stay).len("rows")
        of_stay = lengths.join(counts, on=stay, how="left", maintain_order="left")
        size = pl.max_horizontal("hours", "rows")
        of_stay = of_stay.with_columns(part=(size.cum_sum() - size) // rows)
        groups = of_stay.partition_by("part", maintain_order=True)
        encoded = divided(
            tables.measurements.batches(self.dynamic.types),
            lambda batch: batch.select(self.dynamic.expressions),
            dyn[ROW],
            [int(group["rows"].sum()) for group in groups],
            scratch,
        )
        start = 0
        for group, values in zip(groups, encoded, strict=True):
            keys = dyn[start : start + values.height].select(stay, HOUR)
            start += values.height
            yield self.hours(group.select(stay, "hours"), keys.hstack(values))

    def hours(
        self, lengths: pl.DataFrame, values: pl.DataFrame
    ) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return the hours of some stays, and what was measured in them, as `parts`.

        values: stay, hour and the dynamic channels
        """
        stay, settings, dynamic = self.settings.stay, self.settings, self.dynamic
        names = dynamic.channel_names
        grid = lengths.select(stay, pl.int_ranges("hours").alias(HOUR)).explode(HOUR)
        grid = grid.sort(stay, HOUR)
        if values.select(stay, HOUR).is_duplicated().any():
            values = values.group_by(stay, HOUR, maintain_order=True).agg(
                _aggregated(channel, settings.aggregate) for channel in dynamic.channels
            )
        raw = grid.join(values, on=[stay, HOUR], how="left", maintain_order="left")
        both = (*dynamic.channels, *self.static_channels)
        categories = [c.name for c in both if c.kind == "indicator"]
        known = normal_channels(dynamic.channels, settings.normal_values)
        hours = (
            raw.with_columns(pl.col(names).forward_fill().over(stay))
            .with_columns(pl.col(name).fill_null(value) for name, value in known.items())
            .join(self.static, on=stay, how="left", maintain_order="left")
            .with_columns(pl.col(categories).fill_null(0.0))
        )
        continuous = [c.name for c in dynamic.channels if c.kind == "continuous"]
        once = [c.name for c in self.static_channels if c.kind == "continuous"]
        first = pl.col(HOUR) == 0
        measured = raw.select(stay, HOUR, *continuous).hstack(
            hours.select(pl.when(first).then(pl.col(name)).alias(name) for name in once)
        )
        marks = raw.select(expression.cast(pl.Float32) for _, expression in self.indicators)
        return hours.hstack(marks), measured


def plan(tables: Tables, train: pl.Series, settings: ImportSettings) -> Features:
    """Return how the tables become channels.

    train: the training stays, of any fold; categories come from these alone

    Raises:
        InputError: a column cannot be a feature.
    """
    stay, dyn, sta, files = settings.stay, tables.dyn, tables.sta, tables.files
    keys = {stay, HOUR, settings.subject, settings.splits.column}
    columns = [n for n in tables.measurements.columns if n not in keys | {settings.time}]
    dynamic = _encoded(
        columns,
        lambda name: tables.measurements.column(name).gather(dyn[ROW]),
        settings.dynamic,
        dyn[stay].is_in(train),
        files["dyn"],
        "dynamic",
        settings.normal_values,
    )
    static = _encoded(
        [name for name in sta.columns if name not in keys],
        lambda name: sta[name],
        settings.static,
        sta[stay].is_in(train),
        files["sta"],
        "static",
        {},
    )
    indicators = indicators_of(dynamic, settings)
    _check_names(dynamic, static, indicators, settings)
    if not dynamic.channels:
        raise InputError(f"{files['dyn']} has no column that can be a feature.")
    return Features(
        settings,
        dynamic,
        sta.select(stay, *static.expressions),
        static.channels,
        tuple(indicators),
        (*dynamic.notes, *static.notes),
    )


def _encoded(
    present: list[str],
    read: Callable[[str], pl.Series],
    columns: Columns,
    in_train: pl.Series,
    path: Path,
    setting: str,
    normal_values: Mapping[str, float | str],
) -> Encoded:
    named = (*columns.continuous, *columns.categorical)
    for name in (*named, *columns.leave_out):
        if name not in present:
            raise InputError(
                f"{path} has no feature column {name!r}, which {setting!r} lists. "
                f"{suggest(name, present)}"
            )
    used = [n for n in present if (n in named if named else n not in columns.leave_out)]
    channels, expressions, notes, types = [], [], [], {}
    for name in used:
        column = read(name)
        types[name] = column.dtype
        normal = normal_values.get(name)
        found = _channels(column, column.filter(in_train), columns, path, setting, normal)
        channels += [channel for channel, _ in found]
        expressions += [expression.cast(pl.Float32) for _, expression in found]
        if all(channel.kind == "indicator" for channel, _ in found):
            known = column.filter(in_train).unique().implode()
            if new := int((~column.drop_nulls().is_in(known)).sum()):
                notes.append(
                    f"Values of {name!r} in {path.name} that no training stay has: {new:,}. "
                    "Their channels are 0."
                )
    return Encoded(tuple(channels), tuple(expressions), types, tuple(notes))


def _channels(
    column: pl.Series,
    in_train: pl.Series,
    columns: Columns,
    path: Path,
    setting: str,
    normal: float | str | None,
) -> list[tuple[Channel, pl.Expr]]:
    """The channels of a column, each with the expression that computes it.

    in_train: its values in training stays
    normal:   its value before a first measurement; of a text, it is always a category
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
    if not named and not numeric and len(categories) and set(categories) <= set(SPLIT_NAMES):
        raise InputError(
            f"{path}: the column {name!r} names splits, and must not be a feature. Set "
            f"splits.column to it, or list it under {setting}.leave_out."
        )
    if column.dtype == pl.Boolean or (numeric and is_zero_one(categories)):
        return [(Channel(name=name, kind="indicator", variable=name), pl.col(name) == 1)]
    _check_text(column, named, path, setting)
    if isinstance(normal, str) and column.dtype == pl.String:
        categories = pl.concat([categories, pl.Series([normal])]).unique().sort()
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


def indicators_of(dynamic: Encoded, settings: ImportSettings) -> list[tuple[Channel, pl.Expr]]:
    """Return a channel per variable that says whether it was measured in the hour; expressions."""
    if settings.indicators == "none":
        return []
    kind, found = settings.indicators, []
    first = {c.variable: c.name for c in reversed(dynamic.channels)}
    for variable in (v for v in dynamic.variables if v in first):
        channel = Channel(name=f"{kind}->{variable}", kind=kind, variable=variable)
        value = pl.col(first[variable])
        test = value.is_null() if kind == "missing" else value.is_not_null()
        found.append((channel, test.alias(channel.name)))
    return found


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
    channels = (*dynamic.channels, *static.channels, *(channel for channel, _ in indicators))
    names = [channel.name for channel in channels]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"Two columns or categories make the channel {repeated[0]!r}. Rename one of them."
        )
    for name, value in settings.normal_values.items():
        if name not in dynamic.variables:
            raise InputError(
                f"normal_values has {name!r}, which is not a dynamic variable. "
                f"{suggest(name, dynamic.variables)}"
            )
        if not normal_channels(dynamic.channels, {name: value}):
            holds = "text" if isinstance(value, float) else "numbers"
            raise InputError(f"normal_values: {name!r} holds {holds}, so {value!r} does not fit.")


def normal_channels(
    channels: Iterable[Channel], normal_values: Mapping[str, float | str]
) -> dict[str, float]:
    """Return the channels' values before a first measurement, where they are known."""
    known = {}
    for channel in channels:
        value = normal_values.get(channel.variable)
        if isinstance(value, float | int) and channel.name == channel.variable:
            known[channel.name] = float(value)
        elif isinstance(value, str) and channel.name != channel.variable:
            known[channel.name] = float(channel.name == f"{channel.variable}->{value}")
    return known
