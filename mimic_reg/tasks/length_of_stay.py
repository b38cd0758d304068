"""Length of stay: how many hours will the patient stay? Predicted at every hour of the stay."""

import polars as pl

from mimic_reg.store.spec import Task
from mimic_reg.tasks.base import eligible, finish, hourly_samples


def samples(stays: pl.DataFrame, diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return a sample per hour of the stay, even after a death; y: remaining hours."""
    hours = hourly_samples(eligible(stays), pl.col("los_hours"))
    return finish(hours.with_columns(y=pl.col("los_hours") - pl.col("period_length")), "y")


TASK = Task(
    name="length_of_stay", target="regression", labels=("y",), score="mean_absolute_deviation"
)
