"""Tables that change while they are read, or between runs, are refused or read again."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.extraction import extract, run, seems_up_to_date
from mimic_reg.extraction.memory import Plan
from mimic_reg.progress import Progress
from mimic_reg.sources.mimic3 import find_tables
from mimic_reg.sources.rows import Reading, read_table
from mimic_reg.store import file_hash
from tests.faults import changes
from tests.raw import small_source


def varied_source():
    """Return a source that changes when `changes.other` reverses its column."""
    source = small_source()
    source.tables["PATIENTS"][0]["gender"] = "M"
    source.tables["LABEVENTS"][0]["value"] = "150"
    return source


@pytest.fixture(scope="module")
def underneath(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changes")
    return changes.Underneath(varied_source().write(folder / "raw"), folder / "work")


@pytest.fixture
def raw(tmp_path):
    return varied_source().write(tmp_path / "raw")


@pytest.mark.parametrize("kind", changes.CHANGES)
@pytest.mark.parametrize(
    ("table", "stage"),
    [("PATIENTS", "cohort"), ("LABEVENTS", "labevents"), ("LABEVENTS", "tasks")],
)
def test_a_table_that_changes_during_a_run(underneath, table, stage, kind):
    assert underneath.fall(table, stage, kind) == "refused"


@pytest.mark.parametrize("kind", ["restore", "overwrite"])
def test_a_table_that_changes_after_a_kill(underneath, kind):
    assert underneath.between("LABEVENTS", "episodes", kind) == "redone"


@pytest.mark.parametrize("kind", ["restore", "overwrite"])
def test_a_changed_table_with_the_same_length_and_time_is_detected(tmp_path, raw, kind):
    first = extract(raw, tmp_path / "store")
    changes.CHANGES[kind](raw / "LABEVENTS.csv")
    assert not seems_up_to_date(tmp_path / "store", find_tables(raw))
    assert changes.content(extract(raw, tmp_path / "store")) != changes.content(first)


class Advancing(Progress):
    """Runs `change` after the first block of a stage, and counts the later blocks."""

    def __init__(self, stage, change):
        self.wanted, self.change, self.now, self.blocks = stage, change, "", 0

    def stage(self, name, total, unit):
        self.now = name

    def advance(self, amount, rows=0):
        if self.now == self.wanted:
            self.blocks += 1
            if self.blocks == 1:
                self.change()


def grow_in_the_middle_of_a_row(path):
    with path.open("ab") as file:
        file.write(b"1,2,3")


def cut(path):
    os.truncate(path, path.stat().st_size // 2 + 3)


@pytest.mark.parametrize("change", [grow_in_the_middle_of_a_row, cut])
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_is_refused_as_soon_as_it_changes(tmp_path, monkeypatch, packed, change):
    """The error names the change, even if the table now looks damaged."""
    monkeypatch.setattr(run.Plan, "within", lambda memory: Plan(1_000, 100, 800))
    raw = small_source().write(tmp_path / "raw", packed=packed)
    path = raw / f"CHARTEVENTS.csv{'.gz' if packed else ''}"
    progress = Advancing("chartevents", lambda: change(path))
    with pytest.raises(MimicRegError, match=rf"{path.name} changed while .*nothing was pub") as e:
        extract(raw, tmp_path / "store", progress=progress)
    assert not isinstance(e.value, InputError)
    assert progress.blocks < 10  # of about 100
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_a_table_or_folder_that_disappears(tmp_path, raw):
    away = changes.Disturbed("labevents", 0, lambda: (raw / "PATIENTS.csv").unlink())
    with pytest.raises(MimicRegError, match=r"PATIENTS\.csv disappeared while it was read \(No"):
        extract(raw, tmp_path / "store", progress=away)
    raw = small_source().write(tmp_path / "again")
    twin = small_source().write(tmp_path / "twin")

    def swap():
        raw.rename(tmp_path / "old")
        twin.rename(raw)

    swapped = changes.Disturbed("chartevents", 0, swap)
    with pytest.raises(MimicRegError, match=r"CHARTEVENTS\.csv changed while it was read"):
        extract(raw, tmp_path / "store", progress=swapped)


def test_a_file_replaced_while_it_is_opened_is_not_read(raw, monkeypatch):
    """The open file counts, whatever file has the path before and after."""
    found = find_tables(raw)["LABEVENTS"]
    shutil.copy2(found.path, raw / "twin")
    opening = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: opening(raw / "twin", mode))
    with pytest.raises(MimicRegError, match="changed while it was read"):
        read_table(found, Reading())


def test_after_a_kill_other_tasks_are_built_again(tmp_path, raw, monkeypatch):
    """The stage "tasks" was finished for other tasks."""

    def die(*arguments):
        raise changes.Killed

    with monkeypatch.context() as patch:
        patch.setattr(run, "publish", die)
        with pytest.raises(changes.Killed):
            extract(raw, tmp_path / "store", task_names=["phenotyping"])
    result = extract(raw, tmp_path / "store")
    assert len(result.store.manifest["tasks"]) == 4
    assert set(result.seconds) == {"tasks"}


def test_the_manifest_names_the_file_that_was_hashed(tmp_path, raw):
    (raw / "LABEVENTS.csv.gz").write_bytes(gzip.compress((raw / "LABEVENTS.csv").read_bytes()))
    (raw / "LABEVENTS.csv").unlink()
    tables = extract(raw, tmp_path / "store").store.manifest["source"]["tables"]
    for entry in tables.values():
        path = raw / entry["file"]
        state = path.stat()
        assert entry["xxh3"] == file_hash(path)
        assert (entry["bytes"], entry["inode"]) == (state.st_size, state.st_ino)
        assert (entry["mtime_ns"], entry["ctime_ns"]) == (state.st_mtime_ns, state.st_ctime_ns)
