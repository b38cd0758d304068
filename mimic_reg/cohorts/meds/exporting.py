"""Write a store as a MEDS 0.4 data set: events by patient, codes, splits, and labels by task."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from mimic_reg import __version__
from mimic_reg.clinical.hourly import num_hours
from mimic_reg.cohorts.meds import layout
from mimic_reg.cohorts.meds.codes import Code, read_codes
from mimic_reg.cohorts.settings import RESERVED
from mimic_reg.errors import InputError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.samples.attributes import STAYS
from mimic_reg.samples.unlabelled import known_stays
from mimic_reg.store import Store
from mimic_reg.store.spec import CohortSpec, Task
from mimic_reg.store.stages import whole_folder

ORIGIN = datetime(2000, 1, 1)  # the start of a patient's first stay, if the store has no times
_STATIC = {  # columns of an extracted store's stays that are not features
    "age": "Age at the start of the stay, in years; about 300 above 89.",
    "gender": "Sex.",
    "ethnicity": "Ethnicity.",
    "first_careunit": "First care unit of the stay.",
}
# columns beside those of a store, whose names may be any
_START, _UNTIL = "_stay_start", "_stay_until"
_HOURS_AT_ONCE = 500_000  # of a shard
_LONGEST_NAME = 100


def export_meds(store: Store, out: Path, progress: Progress = SILENT) -> dict[str, int]:
    """Write a store into the new folder `out`; return the rows of events, codes, splits and labels.

    They are written beside `out` and renamed, so `out` is complete or absent. A measurement of an
    hour has the time at which the hour ends. A label has the time at which the last hour that its
    sample sees ends.

    Raises:
        InputError: `out` is not empty; the store has no hours, or a patient in several splits; it
            has folds, and is not divided by `in_fold`.
        MimicRegError: the disk is full or cannot be written.
    """
    spec = store.spec
    if not spec.is_hourly:
        raise InputError(
            f"{store.folder} holds images; MEDS is for events of patients. Choose a store of stays."
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is not empty. Choose a new or empty folder for --out.")
    spec.check_fold(store.fold)
    codes, notes = read_codes(store)
    stays, more = _stays(store)
    notes += more
    with whole_folder(out) as folder:
        events, found = _write_events(store, stays, codes, folder, notes, progress)
        if never := [code.name for code in codes if code.name not in found]:
            notes.append(f"Never measured, so the settings leave them out: {', '.join(never)}.")
            codes = [code for code in codes if code.name in found]
        splits = stays.select("subject_id", pl.col("split").replace_strict(layout.SPLIT_NAMES))
        splits = splits.unique().sort("subject_id")
        _write(folder / layout.SPLITS, splits, layout.SPLIT_COLUMNS)
        labels = sum(_write_labels(store, task, stays, codes, folder) for task in spec.tasks)
        described = _descriptions(codes)
        names = pl.DataFrame({"code": sorted(found)}, schema={"code": pl.String}).with_columns(
            description=pl.col("code").replace_strict(described, default=None),
            parent_codes=pl.lit(None, pl.List(pl.String)),
        )
        _write(folder / layout.CODES, names, layout.CODE_COLUMNS)
        _write_metadata(store, folder, notes)
    for note in notes:
        progress.note(note)
    return {"events": events, "codes": len(found), "subjects": splits.height, "labels": labels}


def _stays(store: Store) -> tuple[pl.DataFrame, list[str]]:
    """The stays of the store, by patient and start, and sentences on their times.

    Columns: stay, subject_id, split, hours, start, until (before the patient's next stay, or null),
    and those of `_STATIC` and deathtime, if the store has them.

    Raises:
        InputError: a patient is in several splits.
    """
    spec = store.spec
    known = known_stays(store).select(
        pl.col(spec.unit).alias("stay"), pl.col(spec.subject).alias("subject_id"), "split"
    )
    if several := known.group_by("subject_id").agg(pl.col("split").n_unique() > 1)["split"].sum():
        raise InputError(
            f"{several:,} patients of {store.folder} are in several splits, as different tasks may "
            "have it. MEDS has one split per patient."
        )
    hours = store.scan("hourly.parquet").group_by(pl.col(spec.unit).alias("stay"))
    stays = known.join(hours.len("hours").collect(), on="stay")
    notes, start = [], None
    if STAYS in store.manifest["files"]:
        more = store.read(STAYS)
        columns = [c for c in ("intime", "deathtime", *_STATIC) if c in more.columns]
        more = more.select(pl.col(spec.unit).alias("stay"), *columns)
        stays = stays.join(more, on="stay", how="left")
        if "intime" in columns and not stays["intime"].null_count():
            start = pl.col("intime")
    if start is None:
        notes.append(
            "Dates are artificial: the store has none. The first stay of each patient begins at "
            f"{ORIGIN:%Y-%m-%d}, the next ones a day after the one before, in the order of their "
            "keys."
        )
        before = pl.col("hours").cast(pl.Int64) + 24
        before = before.cum_sum().shift(fill_value=0).over("subject_id", order_by="stay")
        start = pl.lit(ORIGIN) + pl.duration(hours=before)
    stays = stays.with_columns(start.cast(pl.Datetime("us")).alias(_START))
    stays = stays.sort("subject_id", _START)
    following = pl.col(_START).shift(-1).over("subject_id")
    before = pl.max_horizontal(_START, following - pl.duration(microseconds=1))
    until = pl.when(following.is_not_null()).then(before).alias(_UNTIL)
    stays = stays.with_columns(until)
    if cut := stays.filter(pl.col(_UNTIL) < _at(pl.col("hours"))).height:
        notes.append(
            f"{cut:,} stays end in the hour in which the patient's next one begins, or later; the "
            "times of their last hours are moved before that."
        )
    return stays, notes


def _stay_column(spec: CohortSpec) -> str:
    """The events' column of stays: the store's name of it, unless MEDS or a store uses it."""
    return "stay_id" if spec.unit in (*layout.EVENTS, *RESERVED) else spec.unit


def _at(hours: pl.Expr) -> pl.Expr:
    return pl.col(_START) + pl.duration(hours=hours.cast(pl.Int64))


def _time(hours: pl.Expr) -> pl.Expr:
    """The time so many hours after the start of a stay, but before the patient's next stay."""
    return pl.min_horizontal(_at(hours), _UNTIL)


# --- events ---------------------------------------------------------------------------------------


def _write_events(
    store: Store,
    stays: pl.DataFrame,
    codes: list[Code],
    folder: Path,
    notes: list[str],
    progress: Progress,
) -> tuple[int, set[str]]:
    """Write data/; return the number of rows, and the codes in use."""
    unit, stay = store.spec.unit, _stay_column(store.spec)
    types = layout.EVENTS | {stay: pa.int64()}
    rows, found, moved = 0, set[str](), 0
    progress.stage("write", stays.height, "stays")
    for name, here in _shards(stays):
        hourly = store.scan("hourly.parquet").filter(pl.col(unit).is_in(here["stay"].implode()))
        place = here.select(pl.col("stay").alias(unit), _START, _UNTIL)
        hours = hourly.collect().join(place, on=unit, maintain_order="left")
        moved += sum(_left_out(code, hours, unit) for code in codes)
        measured = [_rows(code, hours, store.spec) for code in codes]
        parts = [*measured, *_frame_rows(here)]
        owner = here.select("subject_id", "stay")
        events = pl.concat([part.join(owner, on="stay") for part in parts], how="diagonal")
        events = events.rename({"stay": stay}).sort("subject_id", "time", "code", stay)
        _write(folder / layout.DATA / f"{name}.parquet", events, types)
        rows += events.height
        found |= set(events["code"].unique())
        progress.advance(here.height)
    if moved:
        notes.append(
            f"{moved:,} values that were neither measured in their hour nor carried forward are "
            "left out."
        )
    return rows, found


def _shards(stays: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield names and stays of the shards; a patient is in one of them."""
    for split, name in layout.SPLIT_NAMES.items():
        here = stays.filter(pl.col("split") == split)
        total = here.group_by("subject_id").agg(pl.col("hours").sum()).sort("subject_id")
        before = pl.col("hours").cast(pl.Int64).cum_sum().shift(fill_value=0)
        number = total.select("subject_id", number=before // _HOURS_AT_ONCE)
        numbered = here.join(number, on="subject_id", maintain_order="left")
        parts = numbered.partition_by("number", maintain_order=True, include_key=False)
        yield from ((f"{name}/{index}", part) for index, part in enumerate(parts))


def _rows(code: Code, hours: pl.DataFrame, spec: CohortSpec) -> pl.DataFrame:
    """The rows of a code: stay, time, code, and a number or a text."""
    time = pl.col(_START) if code.static else _time(pl.col(str(spec.time)) + 1)
    value = code.value.alias(layout.TEXT if code.texts else layout.NUMBER)
    return hours.filter(code.measured(spec.unit)).select(
        pl.col(spec.unit).alias("stay"), time.alias("time"), pl.lit(code.name).alias("code"), value
    )


def _left_out(code: Code, hours: pl.DataFrame, unit: str) -> int:
    """How many values after a first measurement were not measured and differ from the last."""
    if code.mark is None:
        return 0
    measured = code.measured(unit)
    known = measured.cum_max().over(unit)
    return hours.filter(known & ~measured & code.changed(unit)).height


def _frame_rows(stays: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield the rows that say when stays begin and end, of static columns, and of deaths."""
    yield stays.select("stay", time=_START, code=pl.lit(layout.STAY_START))
    yield stays.select("stay", time=_time(pl.col("hours")), code=pl.lit(layout.STAY_END))
    for name in (n for n in _STATIC if n in stays.columns):
        if stays[name].dtype.is_numeric():
            value = pl.col(name).cast(pl.Float32).alias(layout.NUMBER)
        else:
            value = pl.col(name).alias(layout.TEXT)
        yield stays.drop_nulls(name).select("stay", value, time=_START, code=pl.lit(name))
    if "deathtime" in stays.columns:
        died = stays.drop_nulls("deathtime").unique("subject_id", keep="first", maintain_order=True)
        yield died.select("stay", time="deathtime", code=pl.lit(layout.DEATH))


# --- labels and metadata --------------------------------------------------------------------------


def _write_labels(
    store: Store, task: Task, stays: pl.DataFrame, codes: list[Code], folder: Path
) -> int:
    """Write the labels of a task, and the settings that import them; return their number."""
    spec = store.spec
    samples = store.read(f"tasks/{task.name}.parquet")
    place = stays.select(pl.col("stay").alias(spec.unit), _START, _UNTIL)
    samples = samples.join(place, on=spec.unit)
    time = _time(num_hours(pl.col(str(spec.end)))).alias("prediction_time")
    names = _file_names(task.labels) if len(task.labels) > 1 else ("",)
    column = layout.LABELS[task.target]
    for label, name in zip(task.labels, names, strict=True):
        value = pl.col(label)
        if task.classes:
            value = pl.lit(pl.Series(task.classes)).gather(value.cast(pl.UInt32))
        elif task.target != "regression":
            value = value == 1
        subject = pl.col(spec.subject).alias("subject_id")
        table = samples.select(subject, time, value.alias(column))
        table = table.sort("subject_id", "prediction_time")
        types = {key: layout.LABEL_COLUMNS[key] for key in table.columns}
        _write(folder / layout.TASKS / task.name / name / "labels.parquet", table, types)
    settings = _settings(store, task, codes, names)
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    (folder / layout.TASKS / f"{task.name}.yaml").write_text(text, "utf-8")
    return samples.height * len(names)


def _settings(
    store: Store, task: Task, codes: list[Code], names: tuple[str, ...]
) -> dict[str, Any]:
    """The settings with which an import gives the store's hourly arrays."""
    spec = store.spec
    dynamic = [code for code in codes if not code.static]
    static = [code for code in codes if code.static]
    marks = {channel.kind for channel in spec.channels} & {"observed", "missing"}
    settings: dict[str, Any] = {
        "name": spec.name,
        "task": task.name,
        "stay": _stay_column(spec),
        "start": layout.STAY_START,
        "target": task.target,
        "score": task.score,
        "aggregate": "last",
        "indicators": marks.pop() if marks else "none",
    }
    if task.classes:
        settings["classes"] = list(task.classes)
    if len(names) > 1:
        settings["labels"] = list(names)
    for setting, kind, chosen in (
        ("codes", "dynamic", dynamic),
        ("static_codes", "static", static),
    ):
        settings[setting] = {code.name: code.name for code in chosen}
        settings[kind] = {
            "continuous": [code.name for code in chosen if code.continuous],
            "categorical": [code.name for code in chosen if not code.continuous],
        }
    settings["normal_values"] = {c.name: c.normal for c in dynamic if c.normal is not None}
    return settings


def _file_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Names of folders for labels, all different."""
    plain = [re.sub(r"\W+", "_", label.lower())[:_LONGEST_NAME].strip("_") for label in labels]
    return tuple(n if plain.count(n) == 1 else f"{n}_{place}" for place, n in enumerate(plain))


def _descriptions(codes: list[Code]) -> dict[str, str]:
    return {
        layout.STAY_START: "A stay begins.",
        layout.STAY_END: "The last hour of a stay ends.",
        layout.DEATH: "The patient dies.",
        **_STATIC,
        **{code.name: code.description for code in codes},
    }


def _write_metadata(store: Store, folder: Path, notes: list[str]) -> None:
    spec = store.spec
    said = [
        "A store holds whole hours. A measurement has the time at which its hour ends; the minute "
        "of the measurement, and other measurements of that hour, are not known.",
        *notes,
    ]
    content = {
        "dataset_name": spec.name,
        "dataset_version": store.manifest.get("fingerprint", ""),
        "etl_name": "mimic-reg export-meds",
        "etl_version": __version__,
        "meds_version": layout.VERSION,
        "raw_source_id_columns": [_stay_column(spec)],
        "notes": said,
        "splits": spec.splits,
    }
    path = folder / layout.DATASET
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write(path: Path, frame: pl.DataFrame, types: Mapping[str, pa.DataType]) -> None:
    """Write a table with exactly these columns and types."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = frame.select(types.keys()).to_arrow().cast(pa.schema(types.items()))
    pq.write_table(table, path, compression="zstd")
