"""What a task is: how its samples come from the cohort, and what a model has to predict.

A task module in this package defines `TASK`; the module's name is the task's name everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import polars as pl

Target = Literal["binary", "multilabel", "multiclass", "regression"]

# Tolerance of the benchmark in every comparison of hours.
EPSILON = 1e-6
# Prediction starts after this many hours in the unit (decompensation, length of stay).
FIRST_HOURS = 4.0


@dataclass(frozen=True)
class Task:
    """One prediction task.

    name:      the module's name
    target:    binary and multilabel: labels in {0, 1}, one logit a label, sigmoid;
               multiclass: one integer label, softmax; regression: one real label
    labels:    the label columns of the task's sample table
    score:     the score that selects checkpoints on the validation split
    samples:   (stays, diagnoses) -> the sample table (`schema.SAMPLES` + label columns), or None
               where samples do not come from ICU stays
    num_outputs: logits of a model for this task
    """

    name: str
    target: Target
    labels: tuple[str, ...]
    score: str
    samples: Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame] | None = None
    num_outputs: int = 1
