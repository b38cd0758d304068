"""What a task is: how its samples come from the cohort, and what a model has to predict.

A task module in this package defines `TASK`; the module's name is the task's name everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from mimic_reg.schema import EPSILON, SAMPLES, SPLITS

Target = Literal["binary", "multilabel", "multiclass", "regression"]

# Hourly predictions start after this many hours in the unit (decompensation, length of stay).
FIRST_HOURS = 4.0


@dataclass(frozen=True)
class Task:
    """One prediction task.

    name:      the module's name
    target:    binary and multilabel: labels in {0, 1}, one logit a label, sigmoid;
               multiclass: one integer label, softmax; regression: one real label
    labels:    the label columns of the task's sample table
    score:     the score that selects checkpoints on the validation split
    samples:   (stays, diagnoses) -> the sample table (`schema.SAMPLES` + label columns), sorted; a
               stay's samples depend on no other stay. None where they do not come from ICU stays
    num_outputs: logits of a model for this task
    keys:      the columns that tell its samples apart
    subject:   the column of whom a sample belongs to
    hours:     the period_length of every sample, where the task fixes it
    """

    name: str
    target: Target
    labels: tuple[str, ...]
    score: str
    samples: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame] | None = None
    num_outputs: int = 1
    keys: tuple[str, ...] = ("icustay_id", "period_length")
    subject: str = "subject_id"
    hours: float | None = None


def eligible(stays: pl.DataFrame) -> pl.DataFrame:
    """Stays that any task may use: a length of stay, a diagnosis, a measurement within the stay."""
    return stays.filter(
        pl.col("los_hours").is_not_null(),
        pl.col("num_diagnoses") > 0,
        pl.col("first_event_hours").is_not_null(),
    )


def hourly_samples(stays: pl.DataFrame, end: pl.Expr) -> pl.DataFrame:
    """One row a stay and full hour before `end`, after `FIRST_HOURS` and the first measurement."""
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
    """The columns of a sample table, in the store's order."""
    return samples.select(*SAMPLES.names(), *labels).sort("icustay_id", "period_length")


def count_samples(task: Task, table: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Samples, stays, subjects and positives (by label, where there are several) of each split."""
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
