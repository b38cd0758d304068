"""Episodes: one row a time, one column a variable, for each stay.

Source: the reference's `extract_episodes_from_subjects` and `subject`. Of several values of a
variable at one time the largest wins: the largest number, or for variables whose text the
reference leaves alone the largest text. Item, table and row order play no part.
"""

import polars as pl

from mimic_reg.clinical.events import UNTOUCHED, to_number
from mimic_reg.clinical.schema import EPISODE_TEXTS, EPISODES, TEXT_VARIABLES, VARIABLES
from mimic_reg.clinical.stays import hours_between

# Numbers whose source text can differ from the number's own: "59.666698455810547".
_TEXT_OF_NUMBERS = [v for v in VARIABLES if v in UNTOUCHED and v not in TEXT_VARIABLES]


def number_text(number: pl.Expr) -> pl.Expr:
    """The spelling taken for granted: 86.0 as "86", else the shortest that reads back the same."""
    return number.cast(pl.String).str.strip_suffix(".0")


def merge_times(measurements: pl.DataFrame) -> pl.DataFrame:
    """One row a (subject, time): the 17 variables' winning values, as text where untouched."""
    winners = [
        pl.when(pl.col("variable") == code)
        .then("text" if name in UNTOUCHED else "number")
        .max()
        .alias(name)
        for code, name in enumerate(VARIABLES)
    ]
    return measurements.group_by("subject_id", "time").agg(winners)


def assign_stays(
    merged: pl.DataFrame, measurements: pl.DataFrame, stays: pl.DataFrame
) -> pl.DataFrame:
    """The rows of each stay, by hours since admission to the unit.

    A row belongs to a stay when a measurement of that time has its id, or when the time lies in
    the stay; so rows before `intime` and after `outtime` are there too. A time whose measurements
    name two stays gives two rows, with the same values.
    """
    named = measurements.select("subject_id", "time", named="icustay_id").unique()
    own = pl.col("named") == pl.col("icustay_id")
    inside = pl.col("time").is_between("intime", "outtime").fill_null(False)
    rows = (
        named.join(stays.select("subject_id", "icustay_id", "intime", "outtime"), on="subject_id")
        .filter(own | inside)
        .join(merged, on=["subject_id", "time"])
    )
    hours = hours_between(rows["time"], rows["intime"])
    return rows.with_columns(hours.alias("hours")).sort("icustay_id", "hours")


def split_texts(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Episodes with numbers as numbers (`schema.EPISODES`), and the texts that numbers do not give.

    A text that is no number at all ("ERROR") leaves the number null and stands in the second
    table (`schema.EPISODE_TEXTS`), so that nothing of the source is lost.
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
    """`schema.EPISODES` and `schema.EPISODE_TEXTS` of `stays`, sorted by stay and hours.

    Args:
        measurements: all measurements of the stays' subjects (`events.MEASUREMENTS`).
        stays: subject_id, icustay_id, intime, outtime.
    """
    return split_texts(assign_stays(merge_times(measurements), measurements, stays))
