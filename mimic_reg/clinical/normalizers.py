"""Normalisers: the mean and standard deviation of every channel, published or fitted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from mimic_reg.clinical.hourly import num_hours
from mimic_reg.clinical.schema import CHANNELS, CONTINUOUS_CHANNELS, resource
from mimic_reg.parallel import in_order
from mimic_reg.progress import Progress
from mimic_reg.store import write_json

# A channel is constant if its deviation is at most this share of the larger of 1 and its mean's
# size: rounding errors are that small. The reference then divides by 1e-7, so that the first other
# value becomes enormous.
CONSTANT = 1e-7
_ROWS_AT_ONCE = 1_000


def published(task: str) -> dict[str, list[float]]:
    """Return the reference's normaliser of `task`, fitted on MIMIC-III including outliers."""
    tables = json.loads(resource("published_normalizers.json").read_text("utf-8"))
    table = tables.get(task, tables["others"])
    return {"means": [table[c][0] for c in CHANNELS], "stds": [table[c][1] for c in CHANNELS]}


def is_constant(means: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """Return for each channel whether it is constant, in the shape of `means`."""
    return stds <= CONSTANT * np.maximum(1.0, np.abs(means))


@dataclass
class _Moments:
    """Count, mean and squared deviations of rows that are added in parts (Chan et al. 1979)."""

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(len(CHANNELS)))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(len(CHANNELS)))

    @classmethod
    def of(cls, rows: np.ndarray) -> "_Moments":
        if not len(rows):
            return cls()
        mean = _sum(rows) / len(rows)
        return cls(len(rows), mean, _sum(rows, around=mean))

    def add(self, part: "_Moments") -> None:
        if not part.count:
            return
        delta, total = part.mean - self.mean, self.count + part.count
        self.squares += part.squares + delta**2 * self.count * part.count / total
        self.mean += delta * part.count / total
        self.count = total

    def fitted(self) -> dict[str, Any]:
        """Return the normaliser, with deviation 1 for constant channels.

        `constant` names the continuous ones only, as indicators and observed channels are not
        normalised.
        """
        stds = np.sqrt(self.squares / max(self.count - 1, 1))
        constant = is_constant(self.mean, stds)
        stds[constant] = 1.0
        named = {c for c, is_so in zip(CHANNELS, constant, strict=True) if is_so}
        return {
            "hours": self.count,
            "means": self.mean.tolist(),
            "stds": stds.tolist(),
            "constant": [c for c in CONTINUOUS_CHANNELS if c in named],
        }


def _sum(rows: np.ndarray, around: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of the rows in double precision, or of their squared deviations.

    Rows are added one after the other, some at a time, so that the processor's cache holds them.
    """
    part = np.zeros((_ROWS_AT_ONCE + 1, rows.shape[1]))  # its first row is the sum so far
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = rows[start : start + _ROWS_AT_ONCE]
        added = part[1 : len(chosen) + 1]
        added[:] = chosen
        if around is not None:
            added -= around
            np.square(added, out=added)
        part[0] = part[: len(chosen) + 1].sum(0)
    total: np.ndarray = part[0].copy()
    return total


def write_normalizers(
    folder: Path,
    hourly: Path,
    samples: Mapping[str, pl.DataFrame | pl.LazyFrame],
    progress: Progress,
    *,
    unit: str = "icustay_id",
    benchmark: bool = True,
) -> None:
    """Write `folder`/normalizers/TASK.json for each sample table: channels, published, fitted.

    `fitted` uses every hour that a training sample of the task sees, once, with ddof 1. (For
    decompensation and length of stay the reference draws random samples instead.) `constant` names
    the continuous channels that are constant in these hours; `progress` is told of them.

    unit:      the column of stays, in the hourly table and in the samples
    benchmark: whether the published normaliser is for these data, and so among the content
    """
    seen = {name: _hours_seen(table, unit) for name, table in samples.items()}
    moments = {name: _Moments() for name in samples}

    def of_group(frame: pl.DataFrame) -> dict[str, _Moments]:
        array, parts = frame.select(CHANNELS).to_numpy(), {}
        for name, limits in seen.items():
            rows = frame.select(unit, "hour").join(
                limits, on=unit, how="left", maintain_order="left"
            )
            used = (rows["hour"] < rows["hours"]).fill_null(False).to_numpy()
            parts[name] = _Moments.of(array[used])
        return parts

    file = pq.ParquetFile(hourly)
    groups = (pl.DataFrame(file.read_row_group(g)) for g in range(file.num_row_groups))
    for parts in in_order(groups, of_group):
        for name, part in parts.items():
            moments[name].add(part)
    (folder / "normalizers").mkdir()
    for name, found in moments.items():
        content: dict[str, Any] = {"channels": list(CHANNELS)}
        if benchmark:
            content["published"] = published(name)
        content["fitted"] = found.fitted()
        write_json(folder / "normalizers" / f"{name}.json", content, sync=False)
        if constant := content["fitted"]["constant"]:
            progress.note(f"Constant in the training samples of {name}: {', '.join(constant)}.")


def _hours_seen(samples: pl.DataFrame | pl.LazyFrame, unit: str) -> pl.DataFrame:
    train = samples.lazy().filter(pl.col("split") == "train")
    seen = train.group_by(unit).agg(num_hours(pl.col("period_length")).max().alias("hours"))
    return seen.collect()
