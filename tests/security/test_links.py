"""Symbolic links within a store, a run or a work folder are refused, and what they lead to stays.

The folder that is named may be a link itself.
"""

import shutil

import pytest

from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.parity.export import export
from mimic_reg.report.results import collect
from mimic_reg.store import Store, locked
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.tracking import client
from mimic_reg_pipelines.tracking.tracked_run import read_tracked
from tests.raw import small_source
from tests.stores import write_store

REFUSED = "is a symbolic link. Within a store, a run or a work folder links are not followed"
TRIAL = resolve(
    {
        "task": "in_hospital_mortality",
        "model": {"lstm": {"units": 2}},
        "training": {"max_epochs": 1, "batch_size": 16, "normalizer": "fitted"},
    }
)


@pytest.fixture
def victims(tmp_path):
    """A folder and a file that links lead to; at the end they are as they were."""
    folder, file = tmp_path / "victims", tmp_path / "victim"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("keep me")
    (folder / "manifest.json").write_text("{}")
    file.write_text("keep me")

    def found():
        return sorted((p.relative_to(folder), p.read_bytes()) for p in folder.rglob("*.*")), [
            p.read_text() for p in (folder / "deep" / "file", file)
        ]

    before = found()
    yield {"folder": folder, "file": file}
    assert found() == before


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return small_source().write(tmp_path_factory.mktemp("raw") / "raw")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("cohort") / "store", num_subjects=30, hours=(48, 50))


@pytest.fixture(scope="module")
def extracted(raw, tmp_path_factory):
    return extract(raw, tmp_path_factory.mktemp("extracted") / "store").store


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(TRIAL, cohort, folder)
    return folder


def plant(place, victim):
    """A link in the place of what is there."""
    if place.exists():
        place.rename(place.parent.parent / f"moved {place.name}")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(victim)


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        (".work", "folder"),
        (".work/cohort", "folder"),
        (".work/cohort.tmp", "folder"),
        (".lock", "file"),
        (".publish.json", "file"),
        ("manifest.json", "file"),
        ("tasks", "folder"),
        ("tasks/phenotyping.parquet", "file"),
        ("hourly.parquet", "file"),
    ],
)
@pytest.mark.parametrize("dangling", [False, True])
def test_a_store(raw, extracted, tmp_path, victims, name, victim, dangling):
    store = tmp_path / "store"
    shutil.copytree(extracted.folder, store)
    (store / ".work").mkdir()
    plant(store / name, tmp_path / "nowhere" if dangling else victims[victim])
    for force in (False, True):
        with pytest.raises(InputError, match=rf"{name} {REFUSED}"):
            extract(raw, store, force=force)
    if not name.startswith(".work"):
        with pytest.raises(InputError):
            Store.open(store)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_is_named_may_be_a_link(raw, cohort, tmp_path):
    for name in ("store", "run"):
        (tmp_path / f"real {name}").mkdir()
        (tmp_path / name).symlink_to(tmp_path / f"real {name}")
    assert extract(raw, tmp_path / "store").status == "written"
    (tmp_path / "cohort").symlink_to(cohort)
    assert train(TRIAL, tmp_path / "cohort", tmp_path / "run").status == "finished"
    assert (tmp_path / "real run" / "done.json").is_file()


@pytest.mark.parametrize("name", [".lock", "history.jsonl", "best.safetensors", "scores.json"])
def test_a_run(cohort, trained, tmp_path, victims, name):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    plant(run / name, victims["file"])
    reading = [lambda: train(TRIAL, cohort, run), lambda: evaluate(run, store=cohort)]
    reading += [lambda: read_tracked(run), lambda: load_trunk(run)]
    for read in reading:
        with pytest.raises(InputError, match=rf"{name} {REFUSED}"):
            read()
    (unfinished,) = collect([run]).unfinished
    assert REFUSED in unfinished.why


@pytest.mark.parametrize("name", ["store", "runs", "sweeps", "tuned", "runs/a", "sweeps/a"])
def test_a_work_folder(tmp_path, victims, name):
    plant(tmp_path / "work" / name, victims["folder"])
    with pytest.raises(InputError, match=rf"{name} {REFUSED}"):
        Work(tmp_path / "work").create()


@pytest.mark.parametrize(
    ("name", "victim"),
    [
        ("mlflow.db", "file"),
        ("mlflow.db-journal", "file"),
        ("mlflow.db.lock", "file"),
        (".mlflow.db.making", "folder"),
        ("mlflow-artifacts", "folder"),
        ("mlflow-artifacts/mimic-reg-phenotyping", "folder"),
    ],
)
def test_where_mlflow_keeps_runs(tmp_path, victims, name, victim):
    plant(tmp_path / "work" / name, victims[victim])
    with pytest.raises(InputError, match=rf"{name} {REFUSED}"):
        client.prepare(client.database(tmp_path / "work"))


def test_what_is_beside_an_export(extracted, tmp_path, victims):
    plant(tmp_path / ".out.partial", victims["folder"])
    with pytest.raises(InputError, match=rf"\.out\.partial {REFUSED}"):
        export(extracted, tmp_path / "out")


def test_a_lock_in_a_folder_of_another_kind(tmp_path, victims):
    """Sweeps and fits of several tasks are locked as stores are."""
    plant(tmp_path / "sweep" / ".lock", victims["file"])
    with pytest.raises(InputError, match=REFUSED), locked(tmp_path / "sweep"):
        pass
