"""A run of decompensation on small tables of MIMIC-III, which the tests of predictions share."""

from types import SimpleNamespace

import pytest

from mimic_reg.extraction import extract
from tests.raw import at, small_source
from tests.serving.fits import fit


@pytest.fixture(scope="package")
def mimic(tmp_path_factory):
    """The run, its store, and the tables."""
    work = tmp_path_factory.mktemp("mimic")
    source = small_source()
    for row in source.tables["ADMISSIONS"]:  # so every split has both labels
        row["deathtime"] = at(45)
    raw = source.write(work / "raw")
    extract(raw, work / "store", task_names=["decompensation"])
    run = fit(work / "store", "decompensation", work / "run")
    return SimpleNamespace(run=run, store=work / "store", raw=raw, source=source)
