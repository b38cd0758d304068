"""A served model predicts what the engine predicts, and says what is wrong with a request."""

import contextlib
import importlib
import inspect
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from mlflow.pyfunc.scoring_server import infer_and_parse_data, predictions_to_json

from mimic_reg import methods, probes, tasks
from mimic_reg.clinical.schema import CHANNELS
from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.methods.base import Fit
from mimic_reg.serving import ServedModel, events, export, output_names
from mimic_reg.serving.tables import answer, example
from mimic_reg.settings import find_module
from mimic_reg.store import Store, read_json, write_json
from mimic_reg_pipelines.tracking import client, registry, serving
from tests.networks import create
from tests.pipelines.conftest import predict
from tests.stores import write_manifest, write_store


@pytest.fixture(scope="module")
def registered(run, shared_uri):
    (found,) = registry.register_best([run], uri=shared_uri)
    return found


@pytest.fixture(scope="module")
def pyfunc(registered, shared_uri):
    with client.default(shared_uri):
        return mlflow.pyfunc.load_model("models:/mimic-reg-in_hospital_mortality-lstm@champion")


@pytest.fixture(scope="module")
def predictor(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export(run, folder)
    return ServedModel.load(folder)


@pytest.fixture(scope="module")
def request_table(store, run):
    """Raw hours of the mortality task's test samples, with the engine's probabilities by stay."""
    table = pl.read_parquet(store / "tasks" / "in_hospital_mortality.parquet").with_row_index("row")
    engine = pl.read_parquet(run / "predictions_test.parquet").join(table, on="row")
    hourly = pl.read_parquet(store / "hourly.parquet").filter(
        pl.col("hour") < 48, pl.col("icustay_id").is_in(engine["icustay_id"].to_list())
    )
    frame = hourly.rename({"icustay_id": "stay"}).to_pandas()
    return frame, dict(zip(engine["icustay_id"], engine["p0"], strict=True))


def largest_difference(answer, expected):
    assert set(answer["stay"]) == set(expected)
    return max(
        abs(p - expected[s]) for s, p in zip(answer["stay"], answer["probability"], strict=True)
    )


def test_a_work_folder_may_be_moved(run, store, uri, tmp_path):
    """MLflow keeps absolute paths: of experiments, runs, logged models and versions."""
    found = registry.register(run, uri=uri)
    old = client.sqlite_path(uri).parent
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    shutil.copytree(old, copied)
    shutil.move(old, moved)
    for folder in (copied, moved):
        there = client.database(folder)
        predict(found.uri, store, folder / "p.parquet", uri=there, device="cpu")
        assert str(old) not in "".join(_dump(folder / client.DATABASE))
    assert not old.exists()
    shutil.rmtree(moved / client.ARTIFACTS)
    with pytest.raises(InputError, match="its files are not in the artifact folder"):
        predict(found.uri, store, tmp_path / "p.parquet", uri=client.database(moved))


def test_artifacts_that_are_still_elsewhere_are_not_lost(run, store, uri, tmp_path):
    """A copy of the database alone."""
    found = registry.register(run, uri=uri)
    shutil.copy(client.sqlite_path(uri), tmp_path / client.DATABASE)
    alone = client.database(tmp_path)
    assert predict(found.uri, store, tmp_path / "p.parquet", uri=alone, device="cpu")


def _dump(path):
    with contextlib.closing(sqlite3.connect(path)) as database:
        yield from database.iterdump()


def test_the_champion_predicts_as_the_engine(pyfunc, request_table):
    frame, expected = request_table
    answer = pyfunc.predict(frame)
    assert list(answer.columns) == ["stay", "hours", "probability"]
    assert (answer["hours"] == 48).all()
    assert largest_difference(answer, expected) < 1e-6


def test_rows_may_come_in_any_order(predictor, request_table):
    frame, expected = request_table
    found = answer(predictor, frame.sample(frac=1, random_state=0))
    assert largest_difference(found, expected) < 1e-6


def test_stays_may_have_different_lengths(predictor, request_table):
    frame, _ = request_table
    one, two = frame["stay"].unique()[:2]
    parts = [frame[frame["stay"] == one].head(5), frame[frame["stay"] == two].head(30)]
    together = answer(predictor, pd.concat(parts).assign(stay=["a"] * 5 + ["b"] * 30))
    assert together["hours"].tolist() == [5, 30]
    for part, probability in zip(parts, together["probability"], strict=True):
        alone = answer(predictor, part.drop(columns=["stay", "hour"]))
        assert list(alone.columns) == ["hours", "probability"]
        assert alone["probability"][0] == pytest.approx(probability, abs=1e-6)


def request(num_hours):
    """Hours of a stay in which nothing was observed."""
    numbers = {"Heart Rate": 86.0}
    means = np.array([numbers.get(c, 0.0 if c.startswith("mask->") else 0.5) for c in CHANNELS])
    return example(tasks.cohort(["phenotyping"]), means, num_hours)


def edit(column, row, value):
    def change(frame):
        changed = frame.astype({column: object}) if isinstance(value, str) else frame.copy()
        changed.loc[row, column] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: f.rename(columns={"Heart Rate": "Hart Rate"}),
            r"^A channel is missing: 'Heart Rate'\. Is it 'Hart Rate'\? A row is an hour",
        ),
        (
            lambda f: f[["stay", "hour"]],
            r"^76 channels are missing: 'Capillary refill rate->0\.0', …",
        ),
        (lambda f: f.head(0), "no rows"),
        (edit("Glucose", 1, np.nan), "'Glucose' has empty or infinite cells"),
        (edit("Glucose", 1, np.inf), "'Glucose' has empty or infinite cells"),
        (edit("Glucose", 1, "high"), "not a number"),
        (edit("stay", 1, np.nan), "'stay' has empty cells"),
        (edit("hour", 1, 2.0), r"must be 0, 1, 2, .* there is 2 where 1 should be"),
        (edit("hour", 0, 1.0), r"there is 1 where 0 should be"),
    ],
)
def test_a_wrong_request_gets_an_explanation(predictor, pyfunc, change, message):
    wrong = change(request(3))
    with pytest.raises(InputError, match=message):
        answer(predictor, wrong)
    with pytest.raises(mlflow.MlflowException) as caught:  # MLflow checks types before we do
        pyfunc.predict(wrong)
    assert caught.value.get_http_status_code() == 400


def test_raw_events_are_answered_by_the_served_model(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mimic_reg.serving.model.recipe_of", lambda store: {"kind": "extract"})
    serving.save_mlflow_model(run, tmp_path / "model")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    event = {"stay": "bed 3", "time": 1.5, "item": 211, "value": 80, "unit": "bpm"}
    coma = {"stay": 4, "time": "2.5", "item": 184, "value": "4 Spontaneously"}
    body = {"dataframe_records": [event, event | {"item": 1}, coma]}
    frame = infer_and_parse_data(body, served.metadata.get_input_schema())
    predictions_to_json(served.predict(frame), text := StringIO())
    found = json.loads(text.getvalue())["predictions"]
    assert [row["stay"] for row in found] == ["bed 3", 4]
    assert [row["hours"] for row in found] == [2, 3]
    assert found[0]["ignored"] == {"item 1 is not one of the model's": 1}
    assert "Glucose" in found[1]["never_observed"]
    assert all(0 < row["probability"] < 1 for row in found)
    with pytest.raises(mlflow.MlflowException, match="'time' is missing"):
        served.predict(pd.DataFrame([{"item": 211, "value": 80}]))


def test_the_example_is_an_unobserved_stay():
    frame = request(2)
    assert list(frame.columns) == ["stay", "hour", *CHANNELS]
    assert frame["Heart Rate"].tolist() == [86, 86]
    assert frame.filter(like="mask->").to_numpy().sum() == 0


def test_no_pickle_in_the_model(registered, shared_uri, tmp_path):
    with client.default(shared_uri):
        folder = mlflow.artifacts.download_artifacts(registered.uri, dst_path=str(tmp_path))
    names = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert {"MLmodel", "model.py", "model.safetensors", "model.yaml"} <= names
    assert not [n for n in names if n.endswith((".pkl", ".pth", ".pt", ".bin"))]
    meta = mlflow.models.Model.load(folder)
    names = meta.get_input_schema().input_names()
    assert names == ["stay", "hour", *CHANNELS, *events.COLUMNS[1:]]
    answers = ["stay", "hours", "probability", "never_observed", "ignored"]
    assert meta.get_output_schema().input_names() == answers
    assert meta.metadata["trial_id"] == registered.trial_id


def test_the_normalizer_goes_into_the_model(run, tmp_path):
    other = write_store(tmp_path / "other", num_subjects=20)
    with pytest.raises(InputError, match="fingerprints differ"):
        export(run, tmp_path, store=other)
    (tmp_path / "model.yaml").write_text("format: 1")
    with pytest.raises(InputError, match="another version"):
        ServedModel.load(tmp_path)


FOR_AN_LSTM = [  # the tests of others name the model that they are for
    name
    for name in methods.names()
    if not hasattr(importlib.import_module(f"tests.methods.test_{name}"), "MODEL")
]


@pytest.mark.parametrize("name", [*FOR_AN_LSTM, *probes.names()])
def test_every_method_predicts_as_it_was_trained_to(name, store, tmp_path):
    """Its modules, its state and its way of predicting come back from the two files."""
    build = inspect.signature(find_module(methods.package_of(name), name).build)
    needed = {n: 0.1 for n, p in build.parameters.items() if p.default is p.empty}
    trial = resolve(
        {"task": "phenotyping", "model": {"lstm": {"units": 4}}, "regularisers": [{name: needed}]}
    )
    task = tasks.get(trial.task)
    generator = torch.Generator().manual_seed(1)
    model = create("lstm", task.num_outputs, generator=generator, units=4)
    method = methods.compose([r.entry() for r in trial.regularisers])
    fit = Fit(task.target, task.num_outputs, 9, 1, 1, generator, lambda name, value: None)
    model = method.prepare(model, fit)
    method.optimizer(make_optimizer(model, trial.training), fit)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    run = tmp_path / "run"
    run.mkdir()
    state = {"model": model.state_dict(), "method": method.state_dict()}
    save_state(run / "best.safetensors", state)
    opened = Store.open(store)
    described = {"id": "x", "trial": trial.model_dump(mode="json"), "device": "cpu"}
    described["cohort"] = opened.spec.model_dump(mode="json")
    described["store"] = {"path": str(store), "fingerprint": opened.manifest["fingerprint"]}
    write_json(run / "trial.json", described | {"versions": {"code": None, "mimic_reg": "0"}})
    export(run, tmp_path)
    loaded = ServedModel.load(tmp_path)
    values = torch.rand(12, len(CHANNELS), generator=generator).numpy()
    found = loaded.predict_rows(values, np.array([0, 7]), np.array([7, 5]))
    model.eval()
    x = torch.zeros(2, 7, len(CHANNELS))
    mean, std = loaded.constants
    normalised = torch.from_numpy(((values - mean) / std).astype(np.float32))
    x[0], x[1, :5] = normalised[:7], normalised[7:]
    with torch.no_grad():
        expected = method.predictor(model, model)(x, torch.tensor([7, 5])).sigmoid().numpy()
    assert found.shape == (2, 25)
    assert np.abs(found - expected).max() < 1e-6


@pytest.mark.parametrize("task", ["decompensation", "phenotyping", "length_of_stay"])
def test_predict_writes_what_the_engine_predicts(trained, store, tmp_path, task):
    run = trained(task, max_epochs=1, epoch_steps=3, normalizer="fitted")
    out = tmp_path / "new" / "predictions.parquet"
    count = predict(str(run), store, out, device="cpu")
    found = pl.read_parquet(out)
    table = pl.read_parquet(store / "tasks" / f"{task}.parquet").with_row_index("row")
    keys = ["row", "icustay_id", "period_length", "split"]
    assert count == table.height
    assert found.select(keys).equals(table.select(keys))
    outputs = list(output_names(tasks.get(task)))
    assert found.columns == [*keys, *outputs]
    for split, name in (("val", "validation"), ("test", "test")):
        engine = pl.read_parquet(run / f"predictions_{name}.parquet")
        ours = found.filter(pl.col("split") == split)
        assert ours["row"].to_list() == engine["row"].to_list()
        difference = ours.select(outputs).to_numpy() - engine.drop("row").to_numpy()
        assert np.abs(difference).max() < 1e-6
    assert out.stat().st_mode & 0o077 == 0


def test_predict_takes_what_is_registered_and_keeps_its_normaliser(
    registered, run, store, shared_uri, tmp_path
):
    other = write_store(tmp_path / "other", num_subjects=20)
    path = other / "normalizers" / "in_hospital_mortality.json"
    content = read_json(path)
    content["fitted"] = {"means": [0.0] * 76, "stds": [1.0] * 76}
    write_json(path, content)
    write_manifest(other)
    export(run, tmp_path)
    champion = f"models:/{registry.model_name('in_hospital_mortality', 'lstm')}@champion"
    frames = []
    for model in (champion, registered.uri, str(run), str(tmp_path)):
        predict(model, other, tmp_path / "p.parquet", uri=shared_uri, device="cpu")
        frames.append(pl.read_parquet(tmp_path / "p.parquet"))
    assert all(frame.equals(frames[0]) for frame in frames[1:])
    predict(champion, store, tmp_path / "p.parquet", uri=shared_uri, device="cpu")
    engine = pl.read_parquet(run / "predictions_test.parquet")
    both = pl.read_parquet(tmp_path / "p.parquet").join(engine, on="row")
    assert (both["probability"] - both["p0"]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/none@champion", "MLflow has no model models:/none@champion"),
        ("models:/none/1", "MLflow has no model"),
        ("nowhere", "holds no model"),
    ],
)
def test_a_missing_model_is_reported(model, message, store, shared_uri, registered, tmp_path):
    with pytest.raises(InputError, match=message):
        predict(model, store, tmp_path / "p.parquet", uri=shared_uri)
    with pytest.raises(InputError, match="Where is models:/a/1 registered"):
        predict("models:/a/1", store, tmp_path / "p.parquet")


def post(url, body):
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.fixture
def served(registered, shared_uri, free_port, tmp_path):
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
        *("-m", "models:/mimic-reg-in_hospital_mortality-lstm@champion"),
        *("-h", "127.0.0.1", "-p", str(free_port)),
    ]
    environment = os.environ | {"MLFLOW_TRACKING_URI": shared_uri, "OMP_NUM_THREADS": "1"}
    # MLflow starts `uvicorn` by its name, which an environment that is not activated lacks
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url, end = f"http://127.0.0.1:{free_port}", time.monotonic() + 120
    try:
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_mlflow_serves_it(served, predictor):
    frame = request(48)
    split = json.loads(frame.to_json(orient="split", index=False))
    expected = answer(predictor, frame)["probability"][0]
    code, reply = post(served, {"dataframe_split": split})
    assert code == 200
    (row,) = reply["predictions"]
    assert (row["stay"], row["hours"]) == ("a", 48)
    assert row["probability"] == pytest.approx(expected, abs=1e-6)
    records = json.loads(frame.assign(stay=7).to_json(orient="records"))
    assert post(served, {"dataframe_records": records})[1]["predictions"][0]["stay"] == 7
    split["columns"][2:4] = ["a", "b"]
    code, reply = post(served, {"dataframe_split": split})
    assert code == 400
    assert "2 channels are missing: 'Capillary refill rate->0.0'" in reply["message"]
    code, reply = post(served, {"inputs": [[[0.0] * 75]]})
    assert code == 400
    assert "76 channels are missing" in reply["message"]


def test_a_run_without_a_model_is_refused(run, tmp_path):
    (tmp_path / "trial.json").write_text((run / "trial.json").read_text())
    with pytest.raises(InputError, match="no trained model yet"):
        export(tmp_path, tmp_path)


def test_the_weights_are_those_of_the_best_epoch(run, tmp_path):
    export(run, tmp_path)
    best = load_state(run / "best.safetensors")["model"]
    exported = load_state(tmp_path / "model.safetensors")["model"]
    assert best.keys() == exported.keys()
    assert all(torch.equal(best[name], exported[name]) for name in best)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("store", "is a folder; --out names the Parquet file"),
        ("p.csv", r"predictions are a Parquet file. Name it ….parquet"),
        ("store/tasks/phenotyping.parquet", "is in the store, whose files are hashed"),
    ],
)
def test_predictions_are_not_written_into_a_store_or_over_a_folder(
    run, store, tmp_path, out, message
):
    shutil.copytree(store, tmp_path / "store")
    with pytest.raises(InputError, match=message):
        predict(str(run), tmp_path / "store", tmp_path / out)
    assert not Store.open(tmp_path / "store").changed_files()
    assert not list(tmp_path.rglob("*.tmp"))
