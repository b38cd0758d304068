"""Finished runs on a tiny store whose ids are easy to find again, and prepared databases."""

import json
import shutil
import socket
import warnings
from pathlib import Path

import polars as pl
import pytest
import torch

with warnings.catch_warnings():
    # mlflow annotates classes of its own with Any and warns of that when it is imported
    warnings.simplefilter("ignore", UserWarning)
    from mimic_reg_pipelines.tracking import serving

from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.serving import predicting
from mimic_reg.store import read_json, write_json
from mimic_reg_pipelines.tracking import client
from tests.stores import write_manifest, write_store

# warnings of libraries about themselves, and about one another
IGNORED = [
    "ignore:Operation with range is deprecated",  # mlflow compares a pandas index with a range
]

SHIFT = 731_000_000  # added to every id: nine digits that nothing else has
METHODS = {
    "none": [{"none": {}}, {"early_stopping": {"patience": 9}}],
    "itps": [{"itps": {"tau": 1e-4}}, {"early_stopping": {"patience": 9}}],
}


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            for text in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(text))


def settings(task, method="none", **training):
    return {
        "task": task,
        "model": {"lstm": {"units": 4}},
        "regularisers": METHODS[method],
        "training": {"learning_rate": 0.01, "max_epochs": 3, "batch_size": 16} | training,
    }


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """These models are too small for two, and test machines are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, num_subjects=80, hours=(48, 50), num_phenotypes=25)
    for path in (folder / "hourly.parquet", *(folder / "tasks").iterdir()):
        table = pl.read_parquet(path)
        ids = [c for c in ("subject_id", "icustay_id") if c in table.columns]
        table.with_columns(pl.col(ids) + SHIFT).write_parquet(path)
    write_manifest(folder)
    return folder


@pytest.fixture(scope="package")
def ids(store):
    """All ids of the store."""
    table = pl.read_parquet(store / "tasks" / "decompensation.parquet")
    return set(table["subject_id"]) | set(table["icustay_id"])


@pytest.fixture(scope="package")
def trained(store, tmp_path_factory):
    """(task, method) → finished run folder, trained when it is first asked for."""
    root, done = tmp_path_factory.mktemp("runs"), {}

    def get(task="in_hospital_mortality", method="none", **training):
        key = json.dumps([task, method, training])
        if key not in done:
            done[key] = root / str(len(done))
            train(resolve(settings(task, method, **training)), store, done[key], device="cpu")
        return done[key]

    return get


@pytest.fixture(scope="package")
def run(trained):
    """A finished ITPS run on mortality, with the store's own normaliser."""
    return trained(method="itps", normalizer="fitted")


@pytest.fixture
def variant(run, tmp_path):
    """A copy of `run` that looks like another trial: (seed, validation AUROC) → folder."""

    def make(seed, validation=None, fingerprint=None):
        folder = tmp_path / f"variant{seed}"
        shutil.copytree(run, folder, ignore=shutil.ignore_patterns("*.lock"))
        described, scores = read_json(folder / "trial.json"), read_json(folder / "scores.json")
        described["trial"]["seed"] = seed
        described["store"]["fingerprint"] = fingerprint or described["store"]["fingerprint"]
        described["id"] = resolve(described["trial"]).id(described["store"]["fingerprint"])
        scores["trial"] = described["id"]
        if validation is not None:
            scores["scores"]["validation"]["auroc"]["value"] = validation
        write_json(folder / "trial.json", described)
        write_json(folder / "scores.json", scores)
        write_json(folder / "done.json", {"trial": described["id"]})
        return folder

    return make


@pytest.fixture(scope="package")
def empty(tmp_path_factory):
    """A prepared database, to copy: making one takes seconds."""
    uri = client.database(tmp_path_factory.mktemp("empty"))
    client.prepare(uri)
    return client.sqlite_path(uri)


@pytest.fixture(scope="module")
def shared_uri(empty, tmp_path_factory):
    """A database that the tests of a module share."""
    return copy_of(empty, tmp_path_factory.mktemp("tracking"))


@pytest.fixture
def uri(empty, tmp_path):
    """A database of the test's own."""
    return copy_of(empty, tmp_path / "tracking")


def copy_of(database, folder: Path):
    folder.mkdir(exist_ok=True)
    shutil.copy(database, folder)
    return client.database(folder)


def predict(model, store, out, *, uri=None, **how):
    """What `mimic-reg predict` does, also with a model in MLflow."""
    with serving.located(model, uri) as folder:
        return predicting.predict(folder, store, out, **how)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
