"""The whole extraction of real data (MIMIC-III demo), compared with the reference's outputs."""

import json

import numpy as np
import polars as pl
import pytest

from mimic_reg.clinical.schema import CHANNELS, HOURLY, STAYS, TEXT_VARIABLES, VARIABLES
from mimic_reg.extraction import extract
from tests.shared import shared

DEMO, GOLDEN = "data/mimic-iii-demo", "golden/mimic-iii-demo"
TASKS = {
    "in_hospital_mortality": "in-hospital-mortality",
    "decompensation": "decompensation",
    "phenotyping": "phenotyping",
    "length_of_stay": "length-of-stay",
}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return extract(shared(DEMO), tmp_path_factory.mktemp("golden") / "store")


@pytest.fixture(scope="module")
def store(result):
    return result.store


def golden(name):
    return pl.read_parquet(shared(f"{GOLDEN}/{name}.parquet"))


def golden_text(name):
    return pl.read_parquet(shared(f"{GOLDEN}-text/{name}.parquet"))


def test_stays(store):
    ours = store.read("stays.parquet")
    assert ours.schema == STAYS
    theirs = golden_text("stays").filter(reason="kept")
    both = ours.join(theirs, left_on="icustay_id", right_on="ICUSTAY_ID", suffix=" theirs")
    assert both.height == ours.height == theirs.height == 114
    for mine, its in (
        ("episode", "episode theirs"),
        ("split", "split theirs"),
        ("mortality", "MORTALITY"),
        ("mortality_inunit", "MORTALITY_INUNIT"),
        ("hadm_id", "HADM_ID"),
    ):
        assert (both[mine] == both[its]).all(), mine
    assert (both["los_hours"] == 24.0 * both["LOS"]).all()
    texts = golden("all_stays").with_columns(pl.col("ICUSTAY_ID").cast(pl.Int64))
    ages = ours.join(texts, left_on="icustay_id", right_on="ICUSTAY_ID")
    assert [repr(age) for age in ages["age"]] == ages["AGE"].to_list()  # to the last bit


def test_every_cell_of_every_episode(store):
    ours = store.read("episodes.parquet")
    theirs = golden_text("timeseries").sort("icustay_id", "hours", maintain_order=True)
    assert ours.height == theirs.height == 17_663
    assert ours["icustay_id"].to_list() == theirs["icustay_id"].to_list()
    assert ours["hours"].to_list() == theirs["hours"].to_list()
    cells = 0
    for name in VARIABLES:
        expected = theirs[name]
        if name not in TEXT_VARIABLES:
            expected = pl.Series([None if t is None else float(t) for t in expected])
        assert ours[name].equals(expected.alias(name)), name
        cells += expected.len() - expected.null_count()
    assert cells == 94_022


@pytest.mark.parametrize("task", TASKS)
def test_samples(store, task):
    ours, theirs = store.read(f"tasks/{task}.parquet"), golden(TASKS[task])
    labels = [c for c in ours.columns if c == "y" or c in theirs.columns[1:-4]]
    labels = [c for c in labels if c not in ("subject_id", "icustay_id", "split", "period_length")]
    theirs = theirs.rename({"y_true": "y"}, strict=False)
    if "period_length" not in theirs.columns:
        theirs = theirs.with_columns(period_length=pl.lit(48.0))
    keys = ["icustay_id", "subject_id", "split", pl.col("period_length").round(6)]
    a = ours.select(*keys, pl.col(labels).round(6)).sort("icustay_id", "period_length")
    b = theirs.select(*keys, pl.col(labels).round(6)).sort("icustay_id", "period_length")
    assert len(labels) == (25 if task == "phenotyping" else 1)
    assert a.rows() == b.rows()


@pytest.mark.parametrize("task", ["in_hospital_mortality", "decompensation", "phenotyping"])
def test_hourly_arrays_and_their_prefixes(store, task):
    ours, theirs = store.read("hourly.parquet"), golden(f"hourly_{TASKS[task]}")
    assert ours.schema == HOURLY
    assert ours.equals(ours.sort("icustay_id", "hour"))
    both = theirs.select("icustay_id", pl.col("hour").cast(pl.Int32), *CHANNELS).join(
        ours, on=["icustay_id", "hour"], suffix=" ours"
    )
    assert both.height == theirs.height
    difference = (
        both.select(CHANNELS).to_numpy() - both.select(f"{c} ours" for c in CHANNELS).to_numpy()
    )
    assert np.abs(difference).max() <= 1e-6


def test_counts(result):
    counts = json.loads(shared(f"{GOLDEN}/counts.json").read_text())
    audit = result.audit
    for mine, theirs in zip(audit["cohort_flow"], counts["cohort_flow"], strict=True):
        assert (mine["stays"], mine["admissions"], mine["subjects"]) == (
            theirs["icustays"],
            theirs["admissions"],
            theirs["subjects"],
        )
    total, validate = audit["events"]["total"], counts["validate"]
    assert total["of_kept_subjects"] == validate["n_events"]
    assert total["kept_recovered"] == validate["recovered"] == validate["no_icustay"]
    for reason in ("empty_hadm", "no_hadm_in_stay", "icustay_missing_in_stays"):
        assert total[reason] == validate[reason]
    for task, folder in TASKS.items():
        for split, size in counts["samples"][folder].items():
            assert audit["samples"][task][split]["samples"] == size
    assert audit["published"] is None  # the demo is not the full MIMIC-III
    variables = json.loads(shared(f"{GOLDEN}-text/cohort.json").read_text())["variables"]
    for name, expected in variables.items():
        assert audit["variables"][name]["kept"] == expected["after_clean"]


@pytest.mark.parametrize("task", ["in_hospital_mortality", "decompensation", "phenotyping"])
def test_published_normalizers(store, task):
    theirs = json.loads(shared(f"{GOLDEN}/normalizer_{TASKS[task]}.json").read_text())
    ours = json.loads(store.path(f"normalizers/{task}.json").read_text())
    assert ours["channels"] == theirs["columns"] == list(CHANNELS)
    assert ours["published"] == {"means": theirs["means"], "stds": theirs["stds"]}


def test_fitted_normalizer_is_mean_and_deviation_of_the_training_hours(store):
    ours = json.loads(store.path("normalizers/in_hospital_mortality.json").read_text())["fitted"]
    train = store.read("tasks/in_hospital_mortality.parquet").filter(split="train")
    hours = store.read("hourly.parquet").filter(
        pl.col("hour") < 48, pl.col("icustay_id").is_in(train["icustay_id"].implode())
    )
    array = hours.select(CHANNELS).to_numpy().astype(np.float64)
    assert ours["hours"] == len(array) == 48 * train.height
    np.testing.assert_allclose(ours["means"], array.mean(0), rtol=1e-9)
    constant = (array == array[0]).all(0)
    stds = np.where(constant, 1.0, array.std(0, ddof=1))
    np.testing.assert_allclose(ours["stds"], stds, atol=1e-9)
    named = [c for c, is_so in zip(CHANNELS, constant, strict=True) if is_so and "->" not in c]
    assert ours["constant"] == named
