"""The whole job on images: from pictures in folders to a registered model that is served."""

import json

import mlflow
import numpy as np
import polars as pl
import pytest

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.samples.images import read_pixels
from mimic_reg.serving import ServedModel, export
from mimic_reg.store import Store
from mimic_reg_pipelines.flows import run as whole
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client
from tests.pipelines.conftest import predict
from tests.sources.images import write_pictures

GRID = {
    "tasks": ["image_classification"],
    "data": "images",
    "models": [{"cnn": {"filters": [4, 8], "dense": 8}}],
    "methods": ["none", {"itps": {"tau": 0.001}}],
    "training": {"max_epochs": 8, "learning_rate": 0.02, "batch_size": 4},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    experiment = experiments.parse({"name": "pictures", "title": "Cats, dogs", "grids": [GRID]})
    return whole.run(
        experiment,
        folder / "work",
        source=write_pictures(folder / "source"),
        running=Running(runner="in_process"),
    )


@pytest.fixture(scope="module")
def store(done):
    return Store.open(Work(done.result.work).folder / "images")


def test_pictures_become_a_store_trials_and_a_champion(done, store):
    assert [t.status for t in done.result.trials] == ["finished", "finished"]
    assert store.spec.tasks[0].classes == ("cat", "dog")
    (champion,) = done.concluded.registered
    assert champion.name == "mimic-reg-images-image_classification-cnn"
    assert champion.champion


def test_a_second_run_does_nothing(done, tmp_path):
    experiment = experiments.parse({"name": "pictures", "title": "Cats, dogs", "grids": [GRID]})
    again = whole.run(experiment, done.result.work, running=Running(runner="in_process"))
    assert [t.status for t in again.result.trials] == ["skipped", "skipped"]


def test_the_champion_predicts_as_the_engine(done, store, tmp_path):
    (champion,) = done.concluded.registered
    uri = client.database(done.result.work)
    count = predict(champion.uri, store.folder, tmp_path / "p.parquet", uri=uri)
    predicted = pl.read_parquet(tmp_path / "p.parquet")
    assert count == predicted.height == 48
    assert predicted.columns == ["row", "image", "split", "cat", "dog"]
    (trial,) = (t for t in done.result.trials if _identity(done, t) == champion.trial_id)
    engine = pl.read_parquet(done.result.run_folder(trial) / "predictions_test.parquet")
    both = predicted.join(engine, on="row")
    assert both.height == 24
    assert np.allclose(both["dog"], both["p1"], atol=1e-6)
    with client.default(uri):
        served = mlflow.pyfunc.load_model(champion.uri)
    answer = served.predict(read_pixels(store).numpy())
    assert list(answer.columns) == ["cat", "dog"]
    assert np.allclose(answer["dog"], predicted.sort("image")["dog"], atol=1e-6)


def _identity(done, trial):
    return json.loads((done.result.run_folder(trial) / "trial.json").read_text())["id"]


def test_what_is_wrong_with_a_request_is_said(done, tmp_path):
    trial = done.result.trials[0]
    export(done.result.run_folder(trial), tmp_path)
    predictor = ServedModel.load(tmp_path)
    with pytest.raises(InputError, match=r"must have the shape \(-1, 3, 6, 6\), these have"):
        predictor.predict_pixels(np.zeros((1, 3, 7, 6), np.uint8))
    with pytest.raises(InputError, match="numbers from 0 to 255"):
        predictor.predict_pixels(np.full((1, 3, 6, 6), 256.0))


def test_images_for_a_model_of_stays_and_the_other_way_round(done, store, tmp_path):
    from tests.stores import write_store

    cohort = write_store(tmp_path / "cohort", num_subjects=10)
    run = done.result.run_folder(done.result.trials[0])
    with pytest.raises(InputError, match="features differ from those of 'images'"):
        predict(str(run), cohort, tmp_path / "p.parquet")
    experiment = experiments.parse(
        {"name": "x", "title": "x", "grids": [GRID | {"data": "cifar10"}]}
    )
    with pytest.raises(InputError, match=r"needs the cohort 'cifar10', but .* holds"):
        whole.run(experiment, tmp_path / "work", store=store.folder)
