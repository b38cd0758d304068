"""Mean and standard deviation of every channel: the published ones and those of this cohort."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from mimic_reg.clinical.hourly import num_hours
from mimic_reg.schema import CHANNELS, resource

# As the reference: a smaller deviation would blow up a constant channel.
MIN_STD = 1e-7


def published(task: str) -> dict[str, list[float]]:
    """The reference's normaliser of `task`, fitted on the full MIMIC-III with its outliers."""
    tables = json.loads(resource("published_normalizers.json").read_text("utf-8"))
    table = tables.get(task, tables["others"])
    return {"means": [table[c][0] for c in CHANNELS], "stds": [table[c][1] for c in CHANNELS]}


def normalizers(hourly: Path, samples: dict[str, pl.DataFrame]) -> dict[str, dict[str, Any]]:
    """{task: {channels, published, fitted}} for each sample table.

    `fitted` takes every hour of the training stays that a sample of the task sees, once (the
    reference draws random samples of decompensation and length of stay instead), with ddof 1.
    """
    queries = [_statistics(hourly, table) for table in samples.values()]
    return {
        name: {"channels": list(CHANNELS), "published": published(name), "fitted": _fitted(result)}
        for name, result in zip(samples, pl.collect_all(queries, engine="streaming"), strict=True)
    }


def _statistics(hourly: Path, samples: pl.DataFrame) -> pl.LazyFrame:
    seen = (
        samples.lazy()
        .filter(pl.col("split") == "train")
        .group_by("icustay_id")
        .agg(num_hours(pl.col("period_length")).max().alias("hours"))
    )
    return (
        pl.scan_parquet(hourly)
        .join(seen, on="icustay_id")
        .filter(pl.col("hour") < pl.col("hours"))
        .select(
            pl.len(),
            *(pl.col(c).cast(pl.Float64).mean().alias(f"mean {c}") for c in CHANNELS),
            *(pl.col(c).cast(pl.Float64).std(ddof=1).alias(f"std {c}") for c in CHANNELS),
        )
    )


def _fitted(result: pl.DataFrame) -> dict[str, Any]:
    row = result.row(0, named=True)
    return {
        "hours": row["len"],
        "means": [0.0 if row[f"mean {c}"] is None else row[f"mean {c}"] for c in CHANNELS],
        "stds": [max(row[f"std {c}"] or 0.0, MIN_STD) for c in CHANNELS],
    }
