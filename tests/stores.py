"""Small cohort stores for tests: arrays in which the label can be learned, or noise."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl

from mimic_reg import tasks
from mimic_reg.clinical.schema import CHANNELS, CONTINUOUS_CHANNELS, PHENOTYPES
from mimic_reg.store import Store, file_hash, write_json
from mimic_reg.store.spec import SCHEMA_VERSION, CohortSpec
from mimic_reg.store.stages import Workspace, publish

SPLITS = ("train", "val", "test")


def write_store(
    folder: Path,
    *,
    num_subjects: int = 60,
    hours: tuple[int, int] = (48, 60),
    seed: int = 0,
    signal: float = 1.0,
    num_phenotypes: int = len(PHENOTYPES),
) -> Path:
    """Write a store of `num_subjects` subjects, every third with two stays.

    A hidden severity shifts two continuous channels by `signal` and decides every label, so a
    model can learn them; with `signal=0` nothing can be learned.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    subject = np.repeat(np.arange(num_subjects), np.where(np.arange(num_subjects) % 3 == 0, 2, 1))
    stay = np.arange(len(subject)) * 7 + 200_001
    length = rng.integers(hours[0], hours[1] + 1, len(subject))
    severity = rng.normal(size=len(subject))
    died = (severity + rng.normal(size=len(subject)) * 0.3 > 0.5).astype(np.int8)
    split = np.array(["train", "train", "train", "val", "test"])[subject % 5]
    ids = pl.DataFrame({"subject_id": subject + 10_000, "icustay_id": stay, "split": split})

    _hourly(rng, stay, length, severity * signal).write_parquet(folder / "hourly.parquet")
    (folder / "tasks").mkdir(exist_ok=True)
    tables = {
        "in_hospital_mortality": _mortality(ids, length, died),
        "decompensation": _decompensation(ids, length, died),
        "phenotyping": _phenotyping(ids, length, severity, rng, num_phenotypes),
        "length_of_stay": _length_of_stay(ids, length),
    }
    for name, table in tables.items():
        shuffled = table.sample(fraction=1.0, shuffle=True, seed=seed)
        shuffled.write_parquet(folder / "tasks" / f"{name}.parquet")
        _normalizers(folder, name)
    write_manifest(folder)
    return folder


def write_manifest(folder: Path, spec: CohortSpec | None = None) -> None:
    """Write the manifest for the files in the folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    entries = {
        str(p.relative_to(folder)): {"bytes": p.stat().st_size, "xxh3": file_hash(p)} for p in files
    }
    fingerprint = hashlib.sha256(repr(sorted(entries.items())).encode()).hexdigest()
    present = [p.stem for p in sorted((folder / "tasks").glob("*.parquet"))]
    content = {
        "schema": SCHEMA_VERSION,
        "fingerprint": fingerprint,
        "cohort": (spec or tasks.cohort(present or tasks.names())).model_dump(mode="json"),
        "files": entries,
    }
    write_json(folder / "manifest.json", content)


def _hourly(
    rng: np.random.Generator, stay: np.ndarray, length: np.ndarray, shift: np.ndarray
) -> pl.DataFrame:
    rows = int(length.sum())
    values = (rng.random((rows, len(CHANNELS))) < 0.3).astype(np.float32)
    for channel in CONTINUOUS_CHANNELS:
        values[:, CHANNELS.index(channel)] = rng.normal(50, 10, rows)
    for channel in ("Heart Rate", "Glucose"):
        values[:, CHANNELS.index(channel)] += np.repeat(shift, length) * 10
    hour = np.concatenate([np.arange(n) for n in length]).astype(np.int32)
    keys = {"icustay_id": np.repeat(stay, length), "hour": hour}
    return pl.DataFrame(keys | {c: values[:, i] for i, c in enumerate(CHANNELS)})


def _mortality(ids: pl.DataFrame, length: np.ndarray, died: np.ndarray) -> pl.DataFrame:
    table = ids.with_columns(period_length=pl.lit(48.0), y=pl.Series(died))
    return table.filter(pl.Series(length >= 48))


def _decompensation(ids: pl.DataFrame, length: np.ndarray, died: np.ndarray) -> pl.DataFrame:
    hours = [list(map(float, range(5, n + 1))) for n in length]
    table = ids.with_columns(period_length=pl.Series(hours), died=died, total=length)
    return table.explode("period_length").select(
        *ids.columns,
        "period_length",
        y=(pl.col("died") * (pl.col("total") - pl.col("period_length") < 24)).cast(pl.Int8),
    )


def _phenotyping(
    ids: pl.DataFrame,
    length: np.ndarray,
    severity: np.ndarray,
    rng: np.random.Generator,
    num_phenotypes: int,
) -> pl.DataFrame:
    bounds = np.linspace(-0.5, 0.8, num_phenotypes)
    noise = rng.normal(size=(len(severity), num_phenotypes)) * 0.3
    labels = (severity[:, None] + noise > bounds).astype(np.int8)
    columns = [pl.Series(p, labels[:, i]) for i, p in enumerate(PHENOTYPES[:num_phenotypes])]
    return ids.with_columns(pl.Series("period_length", length - 0.4), *columns)


def _length_of_stay(ids: pl.DataFrame, length: np.ndarray) -> pl.DataFrame:
    table = _decompensation(ids, length, np.zeros(len(length), np.int8))
    total = pl.DataFrame({"icustay_id": ids["icustay_id"], "total": length})
    joined = table.join(total, on="icustay_id", how="left")
    return joined.with_columns(y=pl.col("total") - pl.col("period_length")).drop("total")


def _normalizers(folder: Path, task: str) -> None:
    num = len(CHANNELS)
    content = {
        "channels": list(CHANNELS),
        "published": {"means": [40.0] * num, "stds": [20.0] * num},
        "fitted": {"means": [50.0] * num, "stds": [10.0] * num},
    }
    (folder / "normalizers").mkdir(exist_ok=True)
    write_json(folder / "normalizers" / f"{task}.json", content)


def published(folder, **tables):
    """Publish a store with these tables of one column, over an existing one."""
    folder.mkdir(exist_ok=True)

    def build(place):
        for name, values in tables.items():
            pl.DataFrame({"x": values}).write_parquet(place / f"{name}.parquet")
        return {}

    work = Workspace(folder, json.dumps(tables))
    built, _, _ = work.stage("stage", build)
    work.finish()
    files = {f"{name}.parquet": built / f"{name}.parquet" for name in tables}
    publish(folder, files, {"mode": "benchmark"})
    return Store.open(folder)
