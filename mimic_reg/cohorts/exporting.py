"""Write a task of an extracted MIMIC store as dyn, sta and outc, as ricu and YAIB read them."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from mimic_reg.clinical.hourly import num_hours
from mimic_reg.clinical.schema import VARIABLES
from mimic_reg.errors import InputError
from mimic_reg.store import Store, atomic, check_cohort, disk_errors, make_folder
from mimic_reg.store.spec import SPLIT

CONFIG = "cohort.yaml"
FILES = ("dyn.parquet", "sta.parquet", "outc.parquet", CONFIG)
_STATIC = ("age", "gender", "ethnicity", "race", "first_careunit", "subject_id", SPLIT)


def export_cohort(
    store: Store, task: str, out: Path, *, folds: int | None = None
) -> dict[str, int]:
    """Write dyn (stay_id, time, variables), sta, outc and settings; return each table's rows.

    dyn holds the last value of each variable in an hour; only hours that a sample sees. A label of
    an hourly task has the time of the last hour that it sees. Times are durations since admission.

    folds: divide the patients anew, into folds; None: as in the store

    Raises:
        InputError: the store is not an extracted one or lacks the task; `out` is not empty.
    """
    check_cohort(store)
    found, spec = store.spec.task(task), store.spec
    if out.exists() and (not out.is_dir() or any(p.name not in FILES for p in out.iterdir())):
        raise InputError(f"{out} holds other files. Choose a new or empty folder for --out.")
    stay, end = spec.unit, str(spec.end)
    samples = store.read(f"tasks/{task}.parquet")
    samples = samples.with_columns(hour=num_hours(pl.col(end)).cast(pl.Int64) - 1)
    seen = samples.group_by(stay).agg(pl.col("hour").max().alias("last"))
    dyn = (
        store.scan("episodes.parquet")
        .with_columns(hour=pl.col("hours").floor().cast(pl.Int64))
        .filter(pl.col("hour") >= 0)
        .join(seen.lazy(), on=stay)
        .filter(pl.col("hour") <= pl.col("last"))
        .sort(stay, "hours")
        .group_by(stay, "hour", maintain_order=True)
        .agg(pl.col(v).drop_nulls().last().alias(_snake(v)) for v in VARIABLES)
        .collect()
    )
    stays = store.read("stays.parquet").join(seen, on=stay, how="semi")
    static = [name for name in _STATIC if name != SPLIT or folds is None]
    sta = stays.select(stay, *(c for c in static if c in stays.columns))
    keys = [stay, "hour"] if samples[stay].is_duplicated().any() else [stay]
    outc = samples.select(*keys, *(pl.col(c).alias(_label(c)) for c in found.labels))
    labels = [_label(column) for column in found.labels]
    splits = {"column": SPLIT} if folds is None else {"folds": folds}
    settings: dict[str, Any] = {"task": task, "subject": "subject_id", "splits": splits}
    if found.target != "binary":
        settings |= {"target": found.target, "labels": labels}
    tables = {"dyn": dyn, "sta": sta.rename({"gender": "sex"}), "outc": outc}
    make_folder(out)
    for name, frame in tables.items():
        frame = frame.rename({stay: "stay_id"})
        if "hour" in frame.columns:
            time = pl.duration(hours=pl.col("hour")).alias("time")
            frame = frame.select("stay_id", time, pl.exclude("stay_id", "hour"))
        path = out / f"{name}.parquet"
        with disk_errors(out), atomic.writing(path, mode=atomic.PRIVATE) as file:
            frame.write_parquet(file)
    atomic.write_text(out / CONFIG, yaml.safe_dump(settings, sort_keys=False))
    return {name: frame.height for name, frame in tables.items()}


def _snake(name: str) -> str:
    return re.sub(r"\W+", "_", name.lower())


def _label(column: str) -> str:
    return "label" if column == "y" else _snake(column)
