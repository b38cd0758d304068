"""Functions that the benchmark's tasks share: eligible stays, and the times of hourly samples.

A task module of this package defines `TASK`, and `samples`: (stays, diagnoses) -> the sample table
(`schema.SAMPLES` and the label columns), sorted. A stay's samples depend on no other stay.
"""

from typing import Any

import polars as pl

from mimic_reg.clinical.schema import EPSILON, SAMPLES
from mimic_reg.store.spec import SPLITS, Task

# Hourly predictions start after this many hours in the unit (decompensation, length of stay).
FIRST_HOURS = 4.0


def eligible(stays: pl.DataFrame) -> pl.DataFrame:
    """Return the stays with a length of stay, a diagnosis, and a measurement within the stay."""
    return stays.filter(
        pl.col("los_hours").is_not_null(),
        pl.col("num_diagnoses") > 0,
        pl.col("first_event_hours").is_not_null(),
    )


def hourly_samples(stays: pl.DataFrame, end: pl.Expr) -> pl.DataFrame:
    """Return a row per full hour before `end`, after `FIRST_HOURS` and the first measurement."""
    times = pl.int_ranges(0, (end + EPSILON).ceil().cast(pl.Int64))
    return (
        stays.with_columns(times.alias("period_length"))
        .explode("period_length", empty_as_null=False)
        .with_columns(pl.col("period_length").cast(pl.Float64))
        .filter(
            pl.col("period_length") > FIRST_HOURS,
            pl.col("period_length") > pl.col("first_event_hours"),
        )
    )


def finish(samples: pl.DataFrame, *labels: str) -> pl.DataFrame:
    """Return a sample table with its columns and rows in the store's order."""
    return samples.select(*SAMPLES.names(), *labels).sort("icustay_id", "period_length")


def count_samples(task: Task, table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the numbers of samples, stays, subjects and positives (by label) of each split."""
    counts: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        part = table.filter(pl.col("split") == split)
        counts[split] = {
            "samples": part.height,
            "stays": part["icustay_id"].n_unique(),
            "subjects": part["subject_id"].n_unique(),
        }
        if task.target == "binary":
            counts[split]["positives"] = int(part["y"].sum())
        elif task.target == "multilabel":
            counts[split]["positives"] = part.select(pl.col(task.labels).sum()).row(0, named=True)
    return counts
