"""kill -9 at random moments; `benchmarks/faults.py` does it far more often, and to servers."""

import pytest

from mimic_reg.sources.synthetic import synthesize
from tests.faults.kills import Case, Extraction, Sweep, Training
from tests.stores import write_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "s", num_subjects=60, hours=(48, 50))


def test_extraction(tmp_path):
    synthesize(tmp_path / "raw", patients=300)
    fell = Case(Extraction(tmp_path / "raw", tmp_path / "cases")).fall(0)
    assert fell.kills >= 1
    assert fell.same


def test_training(store, tmp_path):
    fell = Case(Training(store, tmp_path / "cases")).fall(1)
    assert fell.kills >= 1
    assert fell.same


def test_a_sweep(store, tmp_path):
    fell = Case(Sweep(store, tmp_path / "cases")).fall(0, number=2)
    assert fell.kills >= 1
    assert fell.same
