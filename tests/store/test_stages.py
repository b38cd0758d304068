import os

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg.store import MANIFEST, Store, disk_errors, stages, write_json
from mimic_reg.store.stages import Workspace, recover
from tests.stores import published


class Noting(Progress):
    """Keeps the notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def writing(text, calls=None):
    def build(folder):
        if calls is not None:
            calls.append(folder.name.removesuffix(".tmp"))
        (folder / "deep").mkdir()
        (folder / "deep" / "x").write_text(text)
        return {"text": text}

    return build


def test_stages_of_another_key_are_built_again(tmp_path):
    calls = []

    def build(folder):
        calls.append(folder.name)
        (folder / "x").write_text("x")
        return {"n": len(calls)}

    work = Workspace(tmp_path, "one")
    assert work.stage("s", build)[1:] == ({"n": 1}, True)
    work.finish()
    assert Workspace(tmp_path, "one").stage("s", build)[1:] == ({"n": 1}, False)
    assert Workspace(tmp_path, "two").stage("s", build)[1:] == ({"n": 2}, True)


def test_a_failed_stage_is_built_again(tmp_path):
    work = Workspace(tmp_path, "key")
    with pytest.raises(ZeroDivisionError):
        work.stage("s", lambda folder: {"x": 1 / 0})
    assert Workspace(tmp_path, "key").stage("s", lambda folder: {"x": 2})[1] == {"x": 2}


def test_a_damaged_stage_and_later_ones_are_built_again(tmp_path):
    calls = []
    for _ in range(2):
        work = Workspace(tmp_path, "key")
        for name in ("one", "two", "three"):
            work.stage(name, writing(name, calls))
        work.finish()
    assert calls == ["one", "two", "three"]
    with (work.folder / "two" / "deep" / "x").open("r+b") as file:
        file.truncate(0)  # as after a power cut
    work = Workspace(tmp_path, "key")
    for name in ("one", "two", "three"):
        work.stage(name, writing(name, calls))
    assert calls == ["one", "two", "three", "two", "three"]
    assert (work.folder / "two" / "deep" / "x").read_text() == "two"


def test_a_stage_is_finished_when_it_is_on_the_disk(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(stages.atomic, "sync_tree", order.append)
    monkeypatch.setattr(stages, "write_json", lambda path, _: order.append(path))
    work = Workspace(tmp_path, "key")
    stage, _, _ = work.stage("s", writing("x"))
    work.finish()
    own = [path for path in order if tmp_path in path.parents]
    assert own == [stage, stage / "done.json"]
    assert Workspace(tmp_path, "key").stage("s", writing("y"))[2], "no done.json: it is built again"


def test_a_stage_that_cannot_be_synced_is_not_published(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stages.atomic, "sync_tree", full)
    with pytest.raises(MimicRegError, match="The disk is full"), disk_errors(tmp_path):
        published(tmp_path, a=[1])
    assert not (tmp_path / MANIFEST).exists()


@pytest.mark.parametrize("done", ["[]", "{}", "{", '{"key": "key", "facts": {}, "files": [1]}'])
def test_a_stage_with_a_malformed_done_json_is_built_again(tmp_path, done):
    work = Workspace(tmp_path, "key")
    work.stage("s", writing("x"))
    work.finish()
    (work.folder / "s" / "done.json").write_text(done)
    assert Workspace(tmp_path, "key").stage("s", writing("y"))[1:] == ({"text": "y"}, True)


def test_a_new_publication_replaces_every_file(tmp_path):
    published(tmp_path, a=[1], b=[2])
    store = published(tmp_path, a=[5])
    assert store.read("a.parquet")["x"].to_list() == [5]
    assert not (tmp_path / "b.parquet").exists()


def cut(store, monkeypatch, after):
    """Publish a = 5, b = 6 over the store, interrupted after so many files."""
    moved = []

    def replace(path, target):
        if path.suffix != ".tmp":
            if len(moved) == after:
                raise KeyboardInterrupt
            moved.append(path)
        os.replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", replace)
        with pytest.raises(KeyboardInterrupt):
            published(store, a=[5], b=[6])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_publication_is_finished(tmp_path, monkeypatch, after):
    published(tmp_path, a=[1], c=[3])
    cut(tmp_path, monkeypatch, after)
    with pytest.raises(InputError, match="its publication was interrupted"):
        Store.open(tmp_path)
    recover(tmp_path)
    store = Store.open(tmp_path)
    assert store.changed_files() == []
    assert [store.read(f"{n}.parquet")["x"].to_list() for n in "ab"] == [[5], [6]]
    assert {p.name for p in tmp_path.iterdir()} == {"a.parquet", "b.parquet", MANIFEST}


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("damage", ["a.parquet", "b.parquet", MANIFEST])
def test_a_publication_of_damaged_files_is_not_finished(tmp_path, monkeypatch, after, damage):
    """The old store stays if no file was replaced yet; otherwise it is removed."""
    published(tmp_path, a=[1], c=[3])
    cut(tmp_path, monkeypatch, after)
    places = [tmp_path / ".work" / "stage" / damage, tmp_path / ".work" / damage, tmp_path / damage]
    place = next(p for p in places if p.exists())
    with place.open("r+b") as file:
        file.truncate(0)
    told = Noting()
    recover(tmp_path, told)
    assert damage in told.notes[0]
    if after == 0:
        assert Store.open(tmp_path).read("a.parquet")["x"].to_list() == [1]
        assert Store.open(tmp_path).changed_files() == []
    else:
        with pytest.raises(InputError, match="is not a store"):
            Store.open(tmp_path)
    assert published(tmp_path, a=[7]).read("a.parquet")["x"].to_list() == [7]


def test_a_publication_outside_the_store_is_not_finished(tmp_path):
    write_json(tmp_path / ".publish.json", {"moves": {"a": "s/a"}, "obsolete": ["../victim"]})
    with pytest.raises(InputError, match="not the name of a file"):
        recover(tmp_path)
