"""The power is cut as soon as a command says that it is done: all of it is on the disk.

`benchmarks/faults.py` also cuts it at random moments.
"""

import shutil

import pytest

from mimic_reg.extraction import extract
from mimic_reg.store import Store, atomic
from tests.faults.kills import of_run, of_tree
from tests.faults.power import UnavailableError, Volume
from tests.raw import small_source

pytestmark = pytest.mark.slow


@pytest.fixture
def volume(tmp_path):
    try:
        made = Volume(tmp_path / "disk")
    except UnavailableError as reason:
        pytest.skip(str(reason))
    yield made
    made.close()


def cut(volume):
    """What was there, and what is."""
    before = of_tree(volume.place)
    volume.cut()
    volume.restore()
    return before, of_tree(volume.place)


def test_what_is_not_synced_is_lost(volume):
    """Else the tests below would prove nothing."""
    (volume.place / "lost").write_text("lost")
    atomic.write_text(volume.place / "kept", "kept")
    before, after = cut(volume)
    assert before.keys() == {"lost", "kept"}
    assert {n: h for n, h in after.items() if n == "kept"} == {"kept": before["kept"]}
    assert after.get("lost") != before["lost"]


def test_a_store(volume, tmp_path):
    """An extracted one; one that was begun goes on from the stages that are on the disk."""
    raw, store = small_source().write(tmp_path / "raw"), volume.place / "deep" / "store"
    result = extract(raw, store)
    before, after = cut(volume)
    assert after == before
    assert Store.open(store).changed_files() == []
    assert extract(raw, store).status == "unchanged"
    assert result.store.manifest == Store.open(store).manifest


def test_a_run_and_its_report(run, volume, training, undisturbed):
    place = volume.place / "runs" / "one"
    assert run(*training, "--out", place).returncode == 0
    before, after = cut(volume)
    assert after == before
    assert of_run(place) == of_run(undisturbed)
    page = volume.place / "pages" / "report.html"
    assert run("report", place, "--out", page).returncode == 0
    before, after = cut(volume)
    assert "pages/report.html" in before
    assert after == before


def _register(work):
    from mimic_reg_pipelines.tracking import client, registry

    registry.register(work / "runs" / "one", uri=client.database(work))


def test_what_mlflow_keeps(run, volume, undisturbed):
    """A logged run and a registered model: database and artifacts."""
    work = volume.place / "work"
    shutil.copytree(undisturbed, work / "runs" / "one")
    atomic.sync_tree(work)
    assert run(work, function=_register).returncode == 0
    before, after = cut(volume)
    assert {"scores.json", "history.jsonl", "MLmodel"} <= {n.split("/")[-1] for n in before}
    assert after == before
