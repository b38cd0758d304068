"""Logistic regression beside the networks: its own numbers, and every room behind a learner."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from mimic_reg import tasks
from mimic_reg.errors import InputError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.logistic_regression import build
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.windows import STATISTICS, WINDOWS, features
from mimic_reg.progress import Progress
from mimic_reg.report.results import collect
from mimic_reg.runs.record import read_scores
from mimic_reg.samples import from_rows, load
from mimic_reg.serving import ServedModel, export, predict_store
from mimic_reg.store import Store
from tests.stores import write_store

SETTINGS = {
    "task": "in_hospital_mortality",
    "model": "logistic_regression",
    "training": {"normalizer": "fitted"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=90)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "linear"
    train(resolve(SETTINGS), store, folder)
    return folder


def _fitted(settings, task, train):
    data = SimpleNamespace(task=task, train=train)
    return settings.fit(data, np.random.default_rng(0))[0]


def test_windows_by_hand():
    """Three hours of one channel: 1, 5, 3; the second half begins with the second hour."""
    spec_constants = (np.zeros(1), np.ones(1))
    task = tasks.get("in_hospital_mortality")
    values = np.array([[1.0], [5.0], [3.0], [7.0]], np.float32)
    samples = from_rows(task, values, np.array([0, 3]), np.array([3, 1]), constants=spec_constants)
    found = features(samples)
    assert found.shape == (2, len(STATISTICS) * len(WINDOWS))
    deviation = np.sqrt(8 / 3)
    assert found[0] == pytest.approx([3, deviation, 1, 5, 3, 4, 1, 3, 5, 3], rel=1e-6)
    assert found[1] == pytest.approx([7, 0, 7, 7, 7, 7, 0, 7, 7, 7])


def test_predictions_are_scikit_learns(store):
    opened = Store.open(store)
    task = opened.spec.task("in_hospital_mortality")
    splits = load(opened, task, normalizer="fitted")
    ours = _fitted(build(C=0.5), task, splits["train"])
    x = features(splits["train"]).astype(np.float64)
    mean, std = x.mean(0), x.std(0)
    std[std < 1e-6] = 1
    theirs = LogisticRegression(C=0.5, max_iter=1000).fit(
        (x - mean) / std, splits["train"].label[:, 0].numpy()
    )
    expected = theirs.predict_proba((features(splits["test"]) - mean) / std)[:, 1]
    assert np.abs(ours.predict(splits["test"])[:, 0] - expected).max() < 1e-6


def test_a_label_that_never_varies_gets_its_share(store):
    opened = Store.open(store)
    task = opened.spec.task("phenotyping")
    splits = load(opened, task, normalizer="fitted")
    train = replace(splits["train"], label=splits["train"].label.clone())
    train.label[:, 0] = 0
    found = _fitted(build(), task, train).predict(splits["test"])
    assert found.shape[1] == 25
    assert found[:, 0] == pytest.approx(0.5 / (len(splits["train"]) + 1))


def test_it_learns_and_is_a_run_like_any_other(run, store):
    scores = read_scores(run)
    assert scores["test"]["auroc"].value > 0.8
    assert evaluate(run) == scores
    (result,) = collect([run]).trials
    assert (result.model, result.method, result.best_epoch) == ("logistic_regression", "none", 1)
    assert [row["epoch"] for row in result.epochs()] == [1]


def test_the_same_seed_gives_the_same_bits(run, store, tmp_path):
    train(resolve(SETTINGS), store, tmp_path / "again")
    for name in ("scores.json", "predictions_test.parquet", "best.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_it_is_served_from_two_files(run, store, tmp_path):
    export(run, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".yaml"}
    found = predict_store(ServedModel.load(tmp_path), Store.open(store), Progress())
    engine = pl.read_parquet(run / "predictions_test.parquet").join(found, on="row")
    assert (engine["probability"] - engine["p0"]).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regularisers": [{"dropout": {"rate": 0.5}}]}, "'dropout' acts on networks"),
        ({"model": {"logistic_regression": {"c": 1.0}}}, "no option 'c'. Did you mean 'C'|Allowed"),
        ({"model": {"logistic_regression": {"C": 0.0}}}, "must be above 0"),
        ({"model": {"logistic_regression": {"penalty": "l3"}}}, "one of 'l2', 'l1', got 'l3'"),
        ({"model": "windows"}, "Unknown model 'windows'"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        resolve({**SETTINGS, **changes})


def test_real_labels_are_refused(store, tmp_path):
    with pytest.raises(InputError, match="got real-valued labels"):
        train(resolve({**SETTINGS, "task": "length_of_stay"}), store, tmp_path / "run")


def test_a_sparse_fit_has_fewer_features(store):
    opened = Store.open(store)
    task = opened.spec.task("in_hospital_mortality")
    samples = load(opened, task, normalizer="fitted")["train"]
    dense, sparse = (_fitted(build(penalty=p, C=0.1), task, samples) for p in ("l2", "l1"))
    assert (sparse.weight == 0).mean() > 0.5 > (dense.weight == 0).mean()
    assert torch.equal(torch.from_numpy(sparse.mean), torch.from_numpy(dense.mean))
