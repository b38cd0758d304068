"""In-hospital mortality: will the patient die in hospital? Predicted from the first 48 hours."""

import polars as pl

from mimic_reg.clinical.schema import EPSILON
from mimic_reg.store.spec import Task
from mimic_reg.tasks.base import eligible, finish

HOURS = 48.0


def samples(stays: pl.DataFrame, diagnoses: pl.DataFrame) -> pl.DataFrame:
    """Return a sample per stay of 48 hours or more with an event in them; y: died in hospital."""
    long_enough = eligible(stays).filter(
        pl.col("los_hours") >= HOURS - EPSILON, pl.col("first_event_hours") < HOURS + EPSILON
    )
    return finish(
        long_enough.with_columns(pl.lit(HOURS).alias("period_length"), y="mortality"), "y"
    )


TASK = Task(
    name="in_hospital_mortality", target="binary", labels=("y",), score="auroc", hours=HOURS
)
