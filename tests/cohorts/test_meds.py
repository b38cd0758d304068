"""MEDS: what `export-meds` writes, what `import-meds` makes of it and of other people's files."""

import json
from datetime import datetime, timedelta

import meds
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from polars.testing import assert_frame_equal

from mimic_reg.cohorts.meds import MedsSettings, export_meds, import_meds
from mimic_reg.errors import InputError
from mimic_reg.settings.base import checked
from mimic_reg.store import Store
from tests.cohorts.tables import hourly_labels, imported, tables
from tests.cohorts.test_exporting import run
from tests.stores import write_store


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("meds") / "data"
    export_meds(store, folder)
    return folder


def again(folder, task, out):
    """Import a task of an exported data set."""
    given = yaml.safe_load((folder / "tasks" / f"{task}.yaml").read_text())
    return import_meds(folder, folder / "tasks" / task, out, checked(MedsSettings, given)).store


def seen(store, task):
    """The hours that samples see, with the channels of the values and of the measured hours."""
    spec, name = store.spec, f"tasks/{task}.parquet"
    end = pl.col(str(spec.end)).ceil()
    ends = store.read(name).group_by(pl.col(spec.unit).alias("unit")).agg(end.max().alias("end"))
    marks = {c.name: f"{c.kind}->{c.variable}" for c in spec.channels}
    kept = {c.name: c.name for c in spec.channels if c.kind not in ("observed", "missing")}
    hours = store.read("hourly.parquet").rename(marks | kept).rename({spec.unit: "unit"})
    return hours.join(ends, on="unit").filter(pl.col("hour") < pl.col("end")).drop("end")


def labels(store, task):
    spec = store.spec
    columns = [pl.col(spec.unit).alias("unit"), pl.col(str(spec.end)).ceil().alias("end"), "split"]
    values = zip("abcdefghijklmnopqrstuvwxyz", spec.task(task).labels, strict=False)
    values = [pl.col(label).cast(pl.Float32).alias(name) for name, label in values]
    return store.read(f"tasks/{task}.parquet").select(*columns, *values).sort("unit", "end")


def same(before, after, task):
    assert_frame_equal(labels(before, task), labels(after, task))
    wanted, found = seen(before, task), seen(after, task)
    lost = [c for c in wanted.columns if c not in found.columns]
    assert not any((wanted[c] != 0).any() for c in lost), "a category of no training stay"
    order = ["unit", "hour"]
    assert_frame_equal(wanted.drop(lost).sort(order), found.sort(order), check_column_order=False)


def test_the_files_fit_the_schemas_of_meds(exported, store):
    shards = sorted((exported / "data").rglob("*.parquet"))
    assert {p.parent.name for p in shards} == {"train", "tuning", "held_out"}
    codes = set()
    for shard in shards:
        table = pq.read_table(shard)
        meds.DataSchema.validate(table)
        codes |= set(table["code"].to_pylist())
    meds.CodeMetadataSchema.validate(known := pq.read_table(exported / meds.code_metadata_filepath))
    assert set(known["code"].to_pylist()) == codes
    assert "MEDS_DEATH" in codes
    splits = pq.read_table(exported / meds.subject_splits_filepath)
    meds.SubjectSplitSchema.validate(splits)
    assert set(splits["split"].to_pylist()) == {
        meds.train_split, meds.tuning_split, meds.held_out_split
    }  # fmt: skip
    content = json.loads((exported / meds.dataset_metadata_filepath).read_text())
    meds.DatasetMetadataSchema.validate(content)
    assert "whole hours" in content["notes"][0]
    assert content["dataset_name"] == store.spec.name
    for file in (exported / "tasks").rglob("*.parquet"):
        meds.LabelSchema.validate(pq.read_table(file))


@pytest.mark.parametrize(
    "task", ["in_hospital_mortality", "decompensation", "length_of_stay", "phenotyping"]
)
def test_an_extracted_store_comes_back_the_same(exported, store, tmp_path, task):
    same(store, again(exported, task, tmp_path / "store"), task)


def test_a_measurement_has_the_time_at_which_its_hour_ends(exported, store):
    stays = store.read("stays.parquet")
    rows = pl.read_parquet(exported / "data/train/0.parquet").filter(code="Heart Rate")
    row = rows.row(5, named=True)
    start = stays.filter(icustay_id=row["icustay_id"])["intime"].item()
    hour = (row["time"] - start) / timedelta(hours=1) - 1
    assert hour == round(hour)
    here = store.read("hourly.parquet").filter(icustay_id=row["icustay_id"], hour=round(hour))
    assert here["mask->Heart Rate"].item() == 1
    assert here["Heart Rate"].item() == pytest.approx(row["numeric_value"])


@pytest.mark.parametrize("indicators", ["missing", "none"])
def test_an_imported_cohort_comes_back_the_same(tmp_path, indicators):
    dyn, sta, _ = tables(num=40)
    dyn["mode"] = np.resize(["a", "b", None, None], len(dyn))
    outc = hourly_labels(dyn)
    held = sta["stay_id"] == sta["stay_id"].max()
    sta["unit"] = np.where(held, "new", "old")
    given = {"normal_values": {"temp": 36.5, "mode": "b", "vent": 0}, "indicators": indicators}
    before = imported(tmp_path, (dyn, sta, outc), **given).store
    export_meds(before, tmp_path / "meds")
    content = json.loads((tmp_path / "meds/metadata/dataset.json").read_text())
    assert "Dates are artificial" in content["notes"][1]
    after = again(tmp_path / "meds", "in", tmp_path / "again")
    assert after.spec.name == before.spec.name
    assert after.spec.subject == "subject_id"
    same(before, after, "in")
    wanted, found = (
        json.loads((s.folder / "normalizers/in.json").read_text())["fitted"]["means"]
        for s in (before, after)
    )
    if indicators == "missing":
        assert sorted(found) == pytest.approx(sorted(wanted), abs=1e-6)


def test_values_that_a_store_cannot_explain_are_counted(tmp_path):
    """Tables of one's own, imputed in another way, with masks at random."""
    store = Store.open(write_store(tmp_path / "store", num_subjects=15))
    export_meds(store, tmp_path / "meds")
    notes = json.loads((tmp_path / "meds/metadata/dataset.json").read_text())["notes"]
    assert any("neither measured in their hour nor carried forward" in note for note in notes)
    assert any("different values before a first measurement" in note for note in notes)


# --- other people's files -------------------------------------------------------------------------

START = datetime(2150, 3, 1, 12)


def events(num=40):
    """Events of patients: a birth, static codes, an admission, measurements, a discharge."""
    rows = []
    for subject in range(1, num + 1):
        start = START + timedelta(days=subject)
        rows += [
            (subject, None, f"GENDER//{'FM'[subject % 2]}", None, None),
            (subject, start - timedelta(days=365.25 * 60), "MEDS_BIRTH", None, None),
            (subject, start, "ICU_ADMISSION//MICU", None, None),
            (subject, start + timedelta(minutes=30), "HR", 80.0 + subject, None),
            (subject, start + timedelta(minutes=60), "HR", 82.0 + subject, None),
            (subject, start + timedelta(minutes=61), "HR", 100.0, None),
            (subject, start + timedelta(hours=2), "RHYTHM", None, "ab"[subject % 2]),
            (subject, start + timedelta(hours=5), "HR", 500.0, None),
        ]
    names = ["subject_id", "time", "code", "numeric_value", "text_value"]
    return pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("time").cast(pl.Datetime("us")), pl.col("numeric_value").cast(pl.Float32)
    )


def aces(num=40, hours=3.0):
    """Labels as ACES writes them: all columns of values, one of them filled."""
    subjects = list(range(1, num + 1))
    times = [START + timedelta(days=s, hours=hours) for s in subjects]
    return pl.DataFrame(
        {
            "subject_id": subjects,
            "prediction_time": times,
            "boolean_value": [s % 3 == 0 for s in subjects],
            "integer_value": pl.Series([None] * num, dtype=pl.Int64),
            "float_value": pl.Series([None] * num, dtype=pl.Float32),
            "categorical_value": pl.Series([None] * num, dtype=pl.String),
        }
    ).with_columns(pl.col("prediction_time").cast(pl.Datetime("us")))


def written(folder, rows, label, splits="default"):
    """A data set in two shards, and its labels."""
    (folder / "data").mkdir(parents=True)
    (folder / "metadata").mkdir()
    half = pl.col("subject_id") <= 20
    rows.filter(half).write_parquet(folder / "data/0.parquet")
    rows.filter(~half).write_parquet(folder / "data/1.parquet")
    if isinstance(splits, str):
        names = ["train", "train", "train", "tuning", "held_out"]
        subjects = sorted(set(rows["subject_id"].drop_nulls()))
        splits = {"subject_id": subjects, "split": [names[s % 7 % 5] for s in subjects]}
    if splits is not None:
        pl.DataFrame(splits).write_parquet(folder / "metadata/subject_splits.parquet")
    label.write_parquet(folder / "died.parquet")
    return folder, folder / "died.parquet"


def built(tmp_path, rows=None, label=None, splits="default", **given):
    rows, label = events() if rows is None else rows, aces() if label is None else label
    folder, path = written(tmp_path / "meds", rows, label, splits)
    given = {"start": "ICU_ADMISSION//*", "aggregate": "last"} | given
    settings = checked(MedsSettings, {k: v for k, v in given.items() if v is not None})
    return import_meds(folder, path, tmp_path / "store", settings)


def test_hours_count_from_the_start_and_end_at_the_prediction(tmp_path):
    store = built(tmp_path, label=aces(hours=3.9)).store
    assert store.spec.tasks[0].name == "died"
    hours = store.read("hourly.parquet").filter(stay_id=1)
    assert hours["HR"].to_list() == [83.0, 100.0, 100.0], "an event at 1 h belongs to the first"
    assert hours["RHYTHM->b"].to_list() == [0, 1, 1]
    assert hours["missing->HR"].to_list() == [0, 0, 1]
    assert hours["age"].to_list() == [60, 60, 60]
    assert hours["GENDER->M"].to_list() == [1, 1, 1]
    samples = store.read("tasks/died.parquet")
    assert samples["hours_seen"].unique().to_list() == [3], "3.9 h: three whole hours"
    assert samples.filter(pl.col("label") == 1)["subject_id"].sort().to_list() == list(
        range(3, 41, 3)
    )


def test_events_after_the_prediction_change_nothing(tmp_path):
    before = built(tmp_path / "a").store
    late = pl.col("time") > pl.col("time").filter(code="ICU_ADMISSION//MICU").first().over(
        "subject_id"
    ) + timedelta(hours=3)
    changed = events().with_columns(
        numeric_value=pl.when(late).then(-1.0).otherwise("numeric_value").cast(pl.Float32)
    )
    after = built(tmp_path / "b", rows=changed).store
    assert after.manifest["fingerprint"] == before.manifest["fingerprint"]


def test_a_window_before_each_label(tmp_path):
    label = pl.concat([aces(hours=2.5), aces(hours=5)])
    store = built(tmp_path, label=label, start=None, window=2, codes={"hr": "HR"}).store
    samples = store.read("tasks/died.parquet")
    assert samples.height == samples["stay_id"].n_unique() == 80
    assert store.spec.tasks[0].hours == 2
    hours = store.read("hourly.parquet").filter(stay_id=1)  # 0.5 to 2.5 h of the first patient
    assert hours["hr"].to_list() == [100.0, 100.0]


def test_the_command_says_what_it_made(tmp_path):
    folder, label = written(tmp_path / "meds", events(), aces())
    (tmp_path / "config.yaml").write_text("start: ICU_ADMISSION//*\nstatic_codes: {}\n")
    said = run("import-meds", folder, "--labels", label, "--out", tmp_path / "store",
               "--config", tmp_path / "config.yaml")  # fmt: skip
    assert "Wrote" in said
    assert "keyed by stay_id" in said
    said = run("export-meds", tmp_path / "store", "--out", tmp_path / "again")
    assert "Next: mimic-reg import-meds" in said


def refused(case):
    """Files with one fault, and settings."""
    rows, label, splits, given = events(), aces(), "default", {}
    first = pl.col("subject_id") == 1
    match case:
        case "no such code":
            given["codes"] = {"hr": "HRR"}
        case "no such start":
            given["start"] = "ICU"
        case "neither start nor window":
            given["start"] = None
        case "unsorted":
            rows = pl.concat([rows.filter(first).reverse(), rows.filter(~first)])
        case "scattered":
            rows = pl.concat([rows, rows.filter(subject_id=40).tail(1), rows.filter(subject_id=39)])
        case "no time":
            rows = rows.with_columns(
                time=pl.when((pl.col("code") == "HR") & first).then(None).otherwise("time")
            ).sort("subject_id", "time", nulls_last=False)
        case "no code":
            rows = rows.with_columns(code=pl.when(first).then(None).otherwise("code"))
        case "labels before the start":
            label = pl.concat([aces(hours=-1).head(2), label.tail(38)])
        case "label in the first hour":
            label = pl.concat([aces(hours=0.5).head(2), label.tail(38)])
        case "unknown subject":
            label = label.with_columns(pl.col("subject_id").replace(40, 99))
        case "two labels in an hour":
            label = pl.concat([label, aces(hours=3.5).head(1)])
        case "labels twice":
            label = pl.concat([label, label.head(3)])
        case "no prediction time":
            label = label.with_columns(
                prediction_time=pl.when(first).then(None).otherwise("prediction_time")
            )
        case "two values":
            label = label.with_columns(integer_value=pl.lit(1, pl.Int64))
        case "no value":
            label = label.drop("boolean_value")
        case "empty value":
            label = label.with_columns(
                boolean_value=pl.when(first).then(None).otherwise("boolean_value")
            )
        case "dates as text":
            label = label.with_columns(pl.col("prediction_time").cast(pl.String))
        case "no split file":
            splits = None
        case "two splits":
            splits = {"subject_id": [1, 1, 2], "split": ["train", "tuning", "train"]}
        case "subject without a split":
            splits = {"subject_id": [1, 2], "split": ["train", "tuning"]}
        case "unknown split":
            splits = {"subject_id": list(range(1, 41)), "split": ["fold 1"] * 40}
        case "window without events":
            label = pl.concat([label.head(39), aces(hours=900).tail(1)])
            given |= {"start": None, "window": 24}
        case "one code twice":
            given["codes"] = {"a": "HR", "b": ["HR"]}
        case "a code called hour":
            rows = rows.with_columns(pl.col("code").replace("HR", "hour"))
        case "all labels too late":
            given["hours"] = 2
        case "MEDS has its time":
            given["time"] = "charttime"
    return {"rows": rows, "label": label, "splits": splits} | given


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("no such code", "codes.hr: the data have no code 'HRR'.* 'HR'"),
        ("no such start", "start: the data have no code 'ICU'"),
        ("neither start nor window", "set either 'start'"),
        ("unsorted", "the times of 7 rows lie before the row above"),
        ("scattered", "do not follow each other"),
        ("no time", "3 rows of dynamic codes have no time|4 rows of dynamic codes have no time"),
        ("no code", "8 rows have no subject_id or no code"),
        ("labels before the start", "2 labels have no event 'ICU_ADMISSION//.' of their subject"),
        ("label in the first hour", "2 labels lie within the first hour"),
        ("unknown subject", "1 labels have no event"),
        ("two labels in an hour", "2 labels share their stay and hour"),
        ("labels twice", "6 rows share their subject_id and prediction_time"),
        ("no prediction time", "1 rows have no 'prediction_time'"),
        ("two values", "has values in boolean_value, integer_value"),
        ("no value", "has values in none of"),
        ("empty value", "1 rows have no 'boolean_value'"),
        ("dates as text", "'prediction_time' holds String"),
        ("no split file", "has no metadata/subject_splits.parquet"),
        ("two splits", "1 subjects are in several splits"),
        ("subject without a split", "38 subjects with labels have no split"),
        ("unknown split", "40 stays have another value in 'subject_splits'"),
        ("window without events", "1 labels have no event of their subject in the 24 hours"),
        ("one code twice", "'a' and 'b' both have the code 'HR'"),
        ("a code called hour", "cannot be called 'hour'"),
        ("all labels too late", "All labels lie after hour 2"),
        ("MEDS has its time", "MEDS fixes 'time'"),
    ],
)
def test_faults_are_refused_with_a_count(tmp_path, case, says):
    with pytest.raises(InputError, match=says):
        built(tmp_path, **refused(case))
    assert not (tmp_path / "store").exists()


def test_what_does_not_fit_may_be_dropped(tmp_path):
    label = pl.concat([aces(hours=-1).head(2), aces(hours=0.5).tail(38).head(1), aces().tail(37)])
    found = built(tmp_path, label=label, unmatched="drop")
    assert sum(split["samples"] for split in found.counts.values()) == 37
    assert "2 labels have no event" in found.notes[0]
    assert "1 labels lie within the first hour" in found.notes[1]


def test_a_used_folder_is_refused(store, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        export_meds(store, tmp_path)


def test_a_store_with_folds_is_exported_in_one_of_them(tmp_path):
    dyn, sta, outc = tables()
    dyn["never"] = np.nan
    given = {"splits": {"folds": 3}, "indicators": "none"}
    store = imported(tmp_path / "in", (dyn, sta, outc), **given).store
    with pytest.raises(InputError, match="Name the fold to test on: 1 to 3"):
        export_meds(store, tmp_path / "none")
    out = tmp_path / "out"
    said = run("export-meds", store.folder, "--out", out, "--fold", 2)
    assert "Never measured, so the settings leave them out: never." in said
    same(store.in_fold(2), again(out, "in", tmp_path / "again"), "in")
