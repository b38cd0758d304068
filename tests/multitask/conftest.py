import pytest
import torch

from mimic_reg import fitting
from tests.stores import write_store


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="package")
def _few_replicates():
    """Intervals are not what these tests are about, and take most of the time of small fits."""
    before, fitting.NUM_REPLICATES = fitting.NUM_REPLICATES, 20
    yield
    fitting.NUM_REPLICATES = before


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    """A store whose tasks can be learned, with short stays."""
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=60, hours=(48, 52))
