"""External validation: scores on another cohort, and what is refused."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

import mimic_reg as mr
from mimic_reg import tasks
from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import score
from mimic_reg.progress import Progress
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.serving import export
from mimic_reg.serving.predicting import predict
from mimic_reg.store import Store, read_json, write_json
from tests.cli.called import mimic_reg, words
from tests.serving.fits import fit
from tests.stores import write_manifest, write_store

TASK = "in_hospital_mortality"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    work = tmp_path_factory.mktemp("trained")
    return fit(write_store(work / "store", num_subjects=50), TASK, work / "run")


@pytest.fixture
def other(tmp_path):
    """Write another hospital's store, without some channels: its folder."""

    def make(without=(), **changes):
        folder = write_store(tmp_path / "other", num_subjects=40, seed=5)
        spec = tasks.cohort([TASK]).model_copy(update={"name": "hospital-b", **changes})
        kept = tuple(c for c in spec.channels if c.name not in without)
        path = folder / "hourly.parquet"
        pl.read_parquet(path).drop(without).write_parquet(path)
        for name in ("decompensation", "phenotyping", "length_of_stay"):
            (folder / "tasks" / f"{name}.parquet").unlink()
        write_manifest(folder, spec.model_copy(update={"channels": kept}))
        return folder

    return make


class Notes(Progress):
    text = ""

    def note(self, text):
        self.text += text


def test_scores_on_another_cohort_are_named_external(run, other):
    store = other()
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    told = mimic_reg("evaluate", run, "--store", store, "--device", "cpu")
    assert told.returncode == 0, told.stderr
    assert "external: hospital-b" in words(told.stdout)
    assert "Trained on mimic-iii-benchmark" in words(told.stdout)
    assert "24 subject ids are also those of training patients" in words(told.stdout)
    told = mimic_reg("evaluate", run, "--store", store, "--device", "cpu", "--json")
    found = json.loads(told.stdout)
    assert found["name"] == "external: hospital-b"
    labels = pl.read_parquet(store / "tasks" / f"{TASK}.parquet")
    told = Notes()
    predict(run, store, store.parent / "p.parquet", device="cpu", progress=told)
    assert "24 subject ids are also those of training patients" in told.text
    p = pl.read_parquet(store.parent / "p.parquet")["probability"].to_numpy()[:, None]
    expected = score("binary", labels.select("y").to_numpy(), p)
    auroc = found["scores"]["all"]["auroc"]
    assert auroc["value"] == pytest.approx(expected["auroc"].value)
    assert auroc["low"] < auroc["value"] < auroc["high"]
    assert found["num_samples"]["all"] == labels.height
    assert found["num_samples"]["test"] == labels.filter(pl.col("split") == "test").height
    external = mr.open_run(run).evaluate(store, device="cpu")
    assert external.scores["all"]["auroc"].value == auroc["value"]
    assert before == {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    page = write_report(collect([run]), store.parent / "report.html", title="T").read_text("utf-8")
    assert "Does it hold on other patients?" in page
    assert f"{found['scores']['all']['auroc']['value']:.4f}" in page
    assert "hospital-b: 24 subject ids are also those of training patients" in page


def test_an_exported_model_is_validated_without_its_training_data(run, other, tmp_path):
    (tmp_path / "sent").mkdir()
    export(run, tmp_path / "sent")
    told = mimic_reg("evaluate", tmp_path / "sent", "--store", other(), "--json")
    assert json.loads(told.stdout)["trained_on"] == "mimic-iii-benchmark"


LACKING = ("Glucose", "mask->Glucose", "Glascow coma scale total->15")


def test_missing_channels_are_refused_or_filled_as_in_training(run, other, tmp_path):
    store = other(without=LACKING)
    told = mimic_reg("evaluate", run, "--store", store)
    assert told.returncode == 2
    assert "'Glucose', 'mask->Glucose'" in words(told.stderr)
    assert "--allow-missing" in told.stderr
    with pytest.raises(InputError, match="3 of 76 channels are missing"):
        mr.open_run(run).predict(store)
    found = mr.open_run(run).predict(store, allow_missing=True)
    full = shutil.copytree(store, tmp_path / "full")
    hourly = pl.read_parquet(full / "hourly.parquet")
    filled = {"Glucose": 128.0, "mask->Glucose": 0.0, "Glascow coma scale total->15": 1.0}
    hourly = hourly.with_columns(pl.lit(v, pl.Float32).alias(n) for n, v in filled.items())
    hourly.write_parquet(full / "hourly.parquet")
    write_manifest(full, tasks.cohort([TASK]))
    np.testing.assert_allclose(found, mr.open_run(run).predict(full), atol=1e-6)
    assert set(mr.open_run(run).evaluate(store, allow_missing=True).missing) == set(LACKING)


def test_what_is_no_external_validation_is_refused(run, other):
    own = Store.open(read_json(run / "trial.json")["store"]["path"])
    with pytest.raises(InputError, match="its scores there are those of the run"):
        mr.open_run(run).evaluate(own.folder)
    (task,) = tasks.cohort([TASK]).tasks
    store = other(tasks=(task.model_copy(update={"labels": ("split_",)}),))
    told = mimic_reg("evaluate", run, "--store", store, "--overwrite")
    assert "Leave --overwrite out" in words(told.stderr)
    with pytest.raises(InputError, match=r"its labels is \('split_',\)"):
        mr.open_run(run).evaluate(store)
    manifest = read_json(store / "manifest.json")
    manifest["cohort"]["tasks"][0]["labels"] = ["y"]
    manifest["cohort"]["channels"][-1]["kind"] = "missing"
    write_json(store / "manifest.json", manifest)
    with pytest.raises(InputError, match="'mask->pH' is missing, not observed"):
        mr.open_run(run).evaluate(store, allow_missing=True)
