import pytest

from mimic_reg.extraction import extract
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.store import Store


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mimic")
    synthesize(folder / "raw", patients=300)
    extract(folder / "raw", folder / "store")
    return Store.open(folder / "store")
