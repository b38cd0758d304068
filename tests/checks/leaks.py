"""A clean cohort of 160 stays in tables, and how to write it as a store without its own checks."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from mimic_reg.store import Store, normalizer_name, write_json
from mimic_reg.store.spec import FOLD, SPLIT, Channel, CohortSpec, Task, split_in_fold
from tests.stores import write_manifest

SEEN = 12  # hours before the prediction
CHANNELS = (
    Channel(name="hr", kind="continuous", variable="hr"),
    Channel(name="lactate", kind="continuous", variable="lactate"),
    Channel(name="age", kind="continuous", variable="age"),
    Channel(name="vent", kind="indicator", variable="vent"),
    Channel(name="seen->hr", kind="observed", variable="hr"),
    Channel(name="lost->lactate", kind="missing", variable="lactate"),
)
TASK = Task(name="death", target="binary", labels=("died",), score="auroc", hours=SEEN)


@dataclass
class Tables:
    """What a store is made from; a leak changes it.

    fitted_to: the splits whose hours the normaliser is fitted to
    """

    hourly: pl.DataFrame
    samples: pl.DataFrame
    task: Task = TASK
    folds: int | None = None
    fitted_to: tuple[str, ...] = ("train",)


def clean(seed=0, num=160):
    """160 stays of 80 patients, 13 to 20 hours; a weak signal; values are carried forward."""
    rng = np.random.default_rng(seed)
    stay, length = np.arange(num) + 1000, rng.integers(SEEN + 1, SEEN + 9, num)
    died = rng.random(num) < 0.4
    rows, of = int(length.sum()), np.repeat(np.arange(num), length)
    measured = {name: rng.random(rows) < 0.4 for name in ("hr", "lactate")}
    values = {
        "hr": np.where(measured["hr"], rng.normal(80 + 3 * died[of], 9).round(1), np.nan),
        "lactate": np.where(measured["lactate"], rng.gamma(2, 1, rows).round(2), np.nan),
    }
    hourly = pl.DataFrame({"stay": stay[of], "hour": np.concatenate(list(map(np.arange, length)))})
    hourly = hourly.with_columns(
        *(pl.Series(name, value) for name, value in values.items()),
        age=pl.Series(rng.normal(60, 15, num).round()[of]),
        vent=pl.Series((rng.random(rows) < 0.2).astype(float)),
    ).with_columns(
        pl.col(list(values)).fill_nan(None).forward_fill().over("stay"),
        pl.Series("seen->hr", measured["hr"].astype(float)),
        pl.Series("lost->lactate", 1.0 - measured["lactate"]),
    )
    subject = np.arange(num) // 2
    samples = pl.DataFrame(
        {
            **{"stay": stay, "patient": subject, "end": float(SEEN), "died": died.astype(np.int8)},
            "split": np.array(["train", "train", "val", "test"])[subject % 4],
        }
    )
    return Tables(hourly, samples)


def write(folder, tables):
    """Write the tables, with their normaliser, and return the store."""
    (folder / "tasks").mkdir(parents=True)
    names = [channel.name for channel in CHANNELS if channel.name in tables.hourly.columns]
    extra = [c for c in tables.hourly.columns if c not in ("stay", "hour", *names)]
    added = [Channel(name=c, kind="continuous", variable=c) for c in extra]
    spec = CohortSpec(
        **{"name": "clean", "unit": "stay", "subject": "patient", "time": "hour", "end": "end"},
        **{"channels": (*CHANNELS, *added), "tasks": (tables.task,), "splits": "by patient"},
        **{"folds": tables.folds, "normalizers": ("fitted",), "imputed": False},
    )
    hourly = tables.hourly.with_columns(pl.col(spec.channel_names).cast(pl.Float32)).sort(
        "stay", "hour"
    )
    hourly.select("stay", "hour", *spec.channel_names).write_parquet(folder / "hourly.parquet")
    tables.samples.write_parquet(folder / "tasks" / f"{tables.task.name}.parquet")
    folds = range(1, tables.folds + 1) if tables.folds else [None]
    for fold in folds:
        samples = tables.samples
        if fold:
            samples = samples.with_columns(split_in_fold(fold, tables.folds)).drop(FOLD)
        path = folder / normalizer_name(f"{tables.task.name}.json", fold)
        path.parent.mkdir(exist_ok=True)
        fit = _fit(hourly, samples.filter(pl.col(SPLIT).is_in(tables.fitted_to)), spec)
        write_json(path, {"channels": list(spec.channel_names), "fitted": fit})
    write_manifest(folder, spec)
    return Store.open(folder)


def _fit(hourly, samples, spec):
    seen = samples.group_by("stay").agg(pl.col("end").max())
    used = hourly.join(seen, on="stay").filter(pl.col("hour") < pl.col("end"))
    columns = [used[name].cast(pl.Float64) for name in spec.channel_names]
    return {
        "hours": used.height,
        "means": [c.mean() for c in columns],
        "stds": [c.std() for c in columns],
    }
