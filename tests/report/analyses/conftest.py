"""A small sweep, really trained: without a method, and ITPS with two thresholds."""

import pytest
import torch

from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from tests.stores import write_store

PROBE = {"hessian_probe": {"every": 2, "vectors": 3, "samples": 20}}
SIMILARITY = {"mgs_probe": {"every": 2, "samples": 4}}
METHODS = {
    "none": [PROBE, SIMILARITY],
    "itps": [{"itps": {"tau": 0.002}}, PROBE, SIMILARITY],
    "strict": [{"itps": {"tau": 0.01}}, PROBE],
    "unprobed": [{"dropout": {"rate": 0.5}}],
}


def settings(method, seed=0, supervision=1.0):
    return {
        "task": "in_hospital_mortality",
        "model": {"lstm": {"units": 4}},
        "regularisers": METHODS[method],
        "seed": seed,
        "supervision": supervision,
        "training": {"normalizer": "fitted", "learning_rate": 0.01, "max_epochs": 4},
    }


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=60, hours=(48, 49))


@pytest.fixture(scope="package")
def runs(store, tmp_path_factory):
    """Folder → a folder a run, called method-supervision-seed."""
    root = tmp_path_factory.mktemp("runs")
    cells = [(m, s, seed) for m in METHODS for s in (0.5, 1.0) for seed in (0, 1)]
    for method, supervision, seed in cells:
        if method != "unprobed" or (supervision, seed) == (1, 0):
            trial = resolve(settings(method, seed, supervision))
            train(trial, store, root / f"{method}-{100 * supervision:g}-{seed}")
    return root
