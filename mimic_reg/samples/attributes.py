"""Attributes of the stays behind samples that are not features: age, gender, ethnicity.

Methods may need them in training; a model never sees them.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from mimic_reg.errors import InputError
from mimic_reg.store import Store, reading
from mimic_reg.store.spec import Task

STAYS = "stays.parquet"
OLDEST = 90.0  # years: MIMIC hides ages above 89, as about 300


def read_attributes(
    store: Store, task: Task, row: np.ndarray, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return columns (N,) of the stays of samples, by name; texts as objects, None if empty.

    An age above 90 years becomes 90.

    row: (N,) rows of the samples in the task's sample table

    Raises:
        InputError: the store has no table of stays, or it lacks these columns.
    """
    if STAYS not in store.manifest["files"]:
        raise InputError(
            f"The cohort {store.spec.name!r} in {store.folder} has no table of stays, so it knows "
            f"no {', '.join(names)} of its samples. Cohorts extracted from MIMIC have one."
        )
    unit = store.spec.unit
    with reading(store.folder, "a cohort store"):
        stays = store.read(STAYS)
        kinds = (pl.String, pl.Boolean, pl.Float64, pl.Float32, pl.Int8, pl.Int16, pl.Int32)
        keys = {unit, store.spec.subject, "split"}
        known = [c.name for c in stays if c.dtype in kinds and c.name not in keys]
        if unknown := [name for name in names if name not in known]:
            raise InputError(
                f"{store.path(STAYS)} has no attribute {unknown[0]!r}. It has: {', '.join(known)}."
            )
        samples = store.read(f"tasks/{task.name}.parquet").select(unit)[row]
        joined = samples.join(
            stays.select(unit, *names), on=unit, how="left", validate="m:1", maintain_order="left"
        )
    if "age" in names:
        joined = joined.with_columns(pl.col("age").cast(pl.Float64).clip(upper_bound=OLDEST))
    return {name: joined[name].to_numpy() for name in names}
