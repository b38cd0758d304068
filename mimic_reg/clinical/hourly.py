"""Build hourly arrays: 76 channels per hour, imputed with the last measurement.

Source: the reference's `Discretizer` with the options of the published models: timestep 1.0, masks,
the previous value or else the normal one. Imputation only looks back. So for every task the array
of the first t hours is the first t rows of the stay's array.
"""

import polars as pl

from mimic_reg.clinical.schema import EPSILON, VARIABLES, Variable, variables


def num_hours(end: pl.Expr) -> pl.Expr:
    """Return the number of rows of an array that ends after `end` hours."""
    return (end + 1.0 - EPSILON).floor().cast(pl.Int32)


def within_stay(hours: pl.Expr, los_hours: pl.Expr) -> pl.Expr:
    """Return whether a row of an episode is within the stay; tasks use only such rows."""
    return (hours > -EPSILON) & (hours < los_hours + EPSILON)


def rows_within_stay(episodes: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of episodes within their stay; `stays`: icustay_id, los_hours."""
    joined = episodes.join(stays.select("icustay_id", "los_hours"), on="icustay_id")
    return joined.filter(within_stay(pl.col("hours"), pl.col("los_hours")))


def first_events(rows: pl.DataFrame) -> pl.DataFrame:
    """Return icustay_id and first_event_hours, from `rows_within_stay`."""
    return rows.group_by("icustay_id").agg(first_event_hours=pl.col("hours").min())


def hour_of(hours: pl.Expr) -> pl.Expr:
    """Return the row of a measurement: row k holds (k, k + 1], and row 0 also hour 0."""
    return (hours - EPSILON).cast(pl.Int32)


def last_of_hour(episodes: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Return each variable's last value, for every stay and hour with a measurement.

    episodes: `schema.EPISODES`, sorted by stay and hours
    stays:    icustay_id, los_hours
    """
    return (
        rows_within_stay(episodes, stays)
        .with_columns(hour_of(pl.col("hours")).alias("hour"))
        .filter(pl.col("hour") < num_hours(pl.col("los_hours")))
        .group_by("icustay_id", "hour", maintain_order=True)
        .agg(pl.col(VARIABLES).last(ignore_nulls=True))
    )


def _channels(variable: Variable) -> list[pl.Expr]:
    value = pl.col(variable.name)
    if not variable.categories:
        return [value.cast(pl.Float32)]
    return [
        (value == (category if variable.is_text else float(category)))
        .cast(pl.Float32)
        .alias(f"{variable.name}->{category}")
        for category in variable.categories
    ]


def build_hourly(episodes: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Return `schema.HOURLY` of the stays that have a measurement within their length of stay.

    episodes: `schema.EPISODES`, sorted by stay and hours
    stays:    icustay_id, los_hours; a stay without los_hours has no array
    """
    measured = last_of_hour(known_categories(episodes), stays)
    observed = [pl.col(v).is_not_null().cast(pl.Float32).alias(f"mask->{v}") for v in VARIABLES]
    # Hour 0 of every stay gets the normal values where nothing was measured. So filling forward
    # over the whole table never carries a value from one stay to the next.
    imputed = [
        pl.when(pl.col("hour") == 0)
        .then(pl.col(v.name).fill_null(v.normal))
        .otherwise(v.name)
        .forward_fill()
        .alias(v.name)
        for v in variables()
    ]
    return (
        stays.join(measured.select("icustay_id").unique(), on="icustay_id", how="semi")
        .sort("icustay_id")
        .select("icustay_id", hour=pl.int_ranges(0, num_hours(pl.col("los_hours")), dtype=pl.Int32))
        .explode("hour")
        .join(measured, on=["icustay_id", "hour"], how="left", maintain_order="left")
        .with_columns(observed)
        .with_columns(imputed)
        .select(
            "icustay_id",
            "hour",
            *(e for v in variables() for e in _channels(v)),
            *(f"mask->{v}" for v in VARIABLES),
        )
    )


def known_categories(episodes: pl.DataFrame) -> pl.DataFrame:
    """Set texts without a one-hot column to missing; the reference stops at them."""
    return episodes.with_columns(
        pl.when(pl.col(v.name).is_in(v.categories)).then(v.name).alias(v.name)
        for v in variables()
        if v.is_text
    )


def count_unknown_categories(episodes: pl.DataFrame) -> dict[str, int]:
    """Return {variable: number of cells whose text has no one-hot column}, without zeros."""
    counts = episodes.select(
        (pl.col(v.name).is_not_null() & ~pl.col(v.name).is_in(v.categories)).sum().alias(v.name)
        for v in variables()
        if v.is_text
    ).row(0, named=True)
    return {name: count for name, count in counts.items() if count}
