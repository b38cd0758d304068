"""Build the episode of each stay: one row per time, one column per variable.

Source: the reference's `extract_episodes_from_subjects` and `subject`. If a variable has several
values at one time, the largest one is used: the largest number, or the largest text for variables
whose text the reference leaves unchanged. Item, table and row order do not matter.
"""

import polars as pl

from mimic_reg.clinical.events import UNTOUCHED, to_number
from mimic_reg.clinical.schema import EPISODE_TEXTS, EPISODES, TEXT_VARIABLES, VARIABLES
from mimic_reg.clinical.stays import hours_between

# Variables whose numbers can be spelled in another way in the source: "59.666698455810547".
_TEXT_OF_NUMBERS = [v for v in VARIABLES if v in UNTOUCHED and v not in TEXT_VARIABLES]


def number_text(number: pl.Expr) -> pl.Expr:
    """Return the default spelling: 86.0 as "86", else the shortest exact text."""
    return number.cast(pl.String).str.strip_suffix(".0")


def merge_times(measurements: pl.DataFrame) -> pl.DataFrame:
    """Return one row per (subject, time): the largest value of each variable, text if untouched.

    `named` lists the stays that the measurements at this time name.
    """
    winners = [
        pl.when(pl.col("variable") == code)
        .then("text" if name in UNTOUCHED else "number")
        .max()
        .alias(name)
        for code, name in enumerate(VARIABLES)
    ]
    times = measurements.lazy().group_by("subject_id", "time")
    merged = times.agg(*winners, named=pl.col("icustay_id").unique())
    return merged.collect(engine="streaming")  # half the time of the default engine


def assign_stays(merged: pl.DataFrame, stays: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of each stay, by hours since admission to the unit.

    A row belongs to a stay if a measurement at that time has the stay's id, or if the time is
    within the stay. So some rows are before `intime` or after `outtime`. If measurements at one
    time name two stays, both stays have the row.

    merged: from `merge_times`
    """
    own = pl.col("named") == pl.col("icustay_id")
    inside = pl.col("time").is_between("intime", "outtime").fill_null(False)
    places = (
        merged.select("subject_id", "time", "named")
        .with_row_index("row")
        .explode("named")
        .join(stays.select("subject_id", "icustay_id", "intime", "outtime"), on="subject_id")
        .filter(own | inside)
    )
    hours = hours_between(places["time"], places["intime"]).alias("hours")
    places = places.select("row", "icustay_id", hours).sort("icustay_id", "hours")
    return places.drop("row").hstack(merged.select(VARIABLES)[places["row"]])


def split_texts(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return episodes with parsed numbers (`schema.EPISODES`), and texts that numbers do not give.

    For a text that is not a number ("ERROR") the number is null. The second table
    (`schema.EPISODE_TEXTS`) holds such texts, so that nothing of the source is lost.
    """
    numbers = rows.with_columns(to_number(rows[name]).alias(name) for name in _TEXT_OF_NUMBERS)
    texts = pl.concat(
        rows.select("icustay_id", "hours", pl.lit(name).alias("variable"), text=name).filter(
            pl.col("text").is_not_null()
            & ~pl.col("text").eq_missing(numbers.select(number_text(pl.col(name))).to_series())
        )
        for name in _TEXT_OF_NUMBERS
    ).unique()
    texts = texts.sort("icustay_id", "hours", "variable").select(EPISODE_TEXTS.names())
    return numbers.select(EPISODES.names()), texts


def build_episodes(
    measurements: pl.DataFrame, stays: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return `schema.EPISODES` and `schema.EPISODE_TEXTS` of `stays`, sorted by stay and hours.

    measurements: all measurements of the stays' subjects (`events.MEASUREMENTS`)
    stays:        subject_id, icustay_id, intime, outtime
    """
    return split_texts(assign_stays(merge_times(measurements), stays))
