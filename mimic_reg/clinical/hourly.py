"""Hourly arrays: 76 channels an hour, imputed forward from the last measurement.

Source: the reference's `Discretizer` (timestep 1.0, masks, previous value, then the normal one),
which the published models use. Because imputation only looks back, the array of the first t hours
is the first t rows of the stay's array, whatever the task.
"""

import polars as pl

from mimic_reg.clinical.schema import EPSILON, VARIABLES, Variable, variables


def num_hours(end: pl.Expr) -> pl.Expr:
    """Rows of an array that ends after `end` hours."""
    return (end + 1.0 - EPSILON).floor().cast(pl.Int32)


def within_stay(hours: pl.Expr, los_hours: pl.Expr) -> pl.Expr:
    """Whether a row of an episode is used by the tasks at all."""
    return (hours > -EPSILON) & (hours < los_hours + EPSILON)


def hour_of(hours: pl.Expr) -> pl.Expr:
    """Row k holds what was measured in (k, k + 1]; row 0 also hour 0."""
    return (hours - EPSILON).cast(pl.Int32)


def last_of_hour(episodes: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Per stay and hour with a measurement, each variable's last value.

    Args:
        episodes: `schema.EPISODES`, sorted by stay and hours.
        stays: icustay_id, los_hours.
    """
    return (
        episodes.join(stays.select("icustay_id", "los_hours"), on="icustay_id")
        .filter(within_stay(pl.col("hours"), pl.col("los_hours")))
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
    """`schema.HOURLY` of the stays that have a measurement within their length of stay.

    Args:
        episodes: `schema.EPISODES`, sorted by stay and hours.
        stays: icustay_id, los_hours; a stay without los_hours gives no array.
    """
    measured = last_of_hour(known_categories(episodes), stays)
    observed = [pl.col(v).is_not_null().cast(pl.Float32).alias(f"mask->{v}") for v in VARIABLES]
    # Every stay's hour 0 gets the normal values where nothing was measured, so filling forward
    # over the whole table never carries a value from one stay into the next.
    imputed = [
        pl.when(pl.col("hour") == 0)
        .then(pl.col(v.name).fill_null(v.normal))
        .otherwise(v.name)
        .forward_fill()
        .alias(v.name)
        for v in variables()
    ]
    return (
        stays.lazy()
        .join(measured.lazy().select("icustay_id").unique(), on="icustay_id", how="semi")
        .sort("icustay_id")
        .select("icustay_id", hour=pl.int_ranges(0, num_hours(pl.col("los_hours")), dtype=pl.Int32))
        .explode("hour")
        .join(measured.lazy(), on=["icustay_id", "hour"], how="left", maintain_order="left")
        .with_columns(observed)
        .with_columns(imputed)
        .select(
            "icustay_id",
            "hour",
            *(e for v in variables() for e in _channels(v)),
            *(f"mask->{v}" for v in VARIABLES),
        )
        .collect()
    )


def known_categories(episodes: pl.DataFrame) -> pl.DataFrame:
    """Texts without a one-hot column become missing (the reference stops at them)."""
    return episodes.with_columns(
        pl.when(pl.col(v.name).is_in(v.categories)).then(v.name).alias(v.name)
        for v in variables()
        if v.is_text
    )


def count_unknown_categories(episodes: pl.DataFrame) -> dict[str, int]:
    """Cells whose text has no one-hot column, by variable; only variables that have any."""
    counts = episodes.select(
        (pl.col(v.name).is_not_null() & ~pl.col(v.name).is_in(v.categories)).sum().alias(v.name)
        for v in variables()
        if v.is_text
    ).row(0, named=True)
    return {name: count for name, count in counts.items() if count}
