"""A MIMIC store as dyn, sta and outc, imported again: the same stays, labels and splits."""

import polars as pl
import pytest
from typer.testing import CliRunner

from mimic_reg.cli import app
from mimic_reg.cohorts import export_cohort
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress
from mimic_reg.serving import ServedModel, export, predict_store
from mimic_reg.serving.tables import answer
from mimic_reg.store import Store


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize("task", ["in_hospital_mortality", "decompensation", "phenotyping"])
def test_what_was_exported_is_imported_with_the_same_samples(store, tmp_path, task):
    written = export_cohort(store, task, tmp_path / "files")
    run("import-cohort", tmp_path / "files", "--out", tmp_path / "store",
        "--config", tmp_path / "files" / "cohort.yaml")  # fmt: skip
    imported = Store.open(tmp_path / "store")
    before, after = (s.read(f"tasks/{task}.parquet") for s in (store, imported))
    assert written["outc"] == before.height == after.height
    keys = ["icustay_id", "split"]
    counts = before.group_by(keys).agg(pl.len(), pl.col(store.spec.task(task).labels[0]).sum())
    again = after.rename({"stay_id": "icustay_id"})
    found = again.group_by(keys).agg(pl.len(), pl.col(imported.spec.tasks[0].labels[0]).sum())
    assert counts.sort(keys).rows() == found.sort(keys).rows()


def test_the_heart_rate_is_the_last_one_of_the_hour(store, tmp_path):
    export_cohort(store, "in_hospital_mortality", tmp_path)
    dyn = pl.read_parquet(tmp_path / "dyn.parquet")
    events = store.read("episodes.parquet").drop_nulls("Heart Rate")
    stay, time, value = dyn.drop_nulls("heart_rate").select("stay_id", "time", "heart_rate").row(3)
    hour = time.total_seconds() // 3600
    here = events.filter(icustay_id=stay).filter(pl.col("hours").floor() == hour)
    assert here.sort("hours")["Heart Rate"][-1] == value
    assert dyn["time"].dt.total_hours().max() <= 47


def test_an_example_goes_from_simulation_to_predictions(tmp_path):
    files, store, fitted = tmp_path / "ricu", tmp_path / "store", tmp_path / "run"
    said = run("synthesize", "--as", "ricu", "--out", files, "--patients", 150)
    assert f"import-cohort {files} --out STORE --config {files}/cohort.yaml" in said
    said = run("import-cohort", files, "--out", store, "--config", files / "cohort.yaml")
    assert "--model lstm --out RUN --set training.normalizer=fitted --fold 1" in said
    run("train", "--store", store, "--task", "in_hospital_mortality", "--out", fitted,
        "--model", "logistic_regression", "--set", "training.normalizer=fitted",
        "--fold", 1)  # fmt: skip
    opened = Store.open(store)
    export(fitted, tmp_path)
    model = ServedModel.load(tmp_path)
    predicted = predict_store(model, opened, Progress())
    assert predicted.height == opened.read("tasks/in_hospital_mortality.parquet").height
    stay = predicted["stay_id"][0]
    hours = opened.read("hourly.parquet").filter(stay_id=stay).drop("stay_id").to_pandas()
    assert hours.isna().any(axis=None), "a request may have empty cells, as the store has"
    (probability,) = answer(model, hours)["probability"]
    assert probability == pytest.approx(predicted["probability"][0], abs=1e-6)


def test_a_store_that_was_not_extracted_and_a_used_folder_are_refused(store, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        export_cohort(store, "in_hospital_mortality", tmp_path)
