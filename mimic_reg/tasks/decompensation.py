"""Decompensation: will the patient die within 24 hours? Predicted at every hour of the stay."""

import polars as pl

from mimic_reg.clinical.stays import seconds_between
from mimic_reg.store.spec import Task
from mimic_reg.tasks.base import eligible, finish, hourly_samples

HORIZON_HOURS = 24.0
# The hours lived of a patient without a time of death.
_FOREVER = 1e18


def samples(stays: pl.DataFrame, diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return a sample per hour while the patient lives and stays; y: dies within 24 hours.

    A patient who died in hospital without a DEATHTIME has y = 0 throughout, as in the reference.
    """
    stays = eligible(stays)
    lived = hours_lived(stays).fill_null(_FOREVER)
    until = stays.with_columns(lived.alias("lived"))
    hours = hourly_samples(until, pl.min_horizontal("los_hours", "lived"))
    dies = (pl.col("mortality") == 1) & (pl.col("lived") - pl.col("period_length") < HORIZON_HOURS)
    return finish(hours.with_columns(y=dies.cast(pl.Int8)), "y")


def hours_lived(stays: pl.DataFrame) -> pl.Series:
    """Return the hours from `intime` to `deathtime`, by one division; null without a death."""
    lived = seconds_between(stays["deathtime"], stays["intime"]) / 3600.0
    return pl.Series("lived", lived).fill_nan(None)


TASK = Task(name="decompensation", target="binary", labels=("y",), score="auroc")
