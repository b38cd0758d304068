"""Shared arrays: equal to those in memory, written once, never used when damaged."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from mimic_reg import samples, tasks
from mimic_reg.samples import load, shared
from mimic_reg.store import Store
from tests.cli.called import mimic_reg
from tests.stores import published, write_store

TASK = tasks.get("decompensation")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("built"), num_subjects=10)


@pytest.fixture
def store(built, tmp_path, monkeypatch):
    """A store whose arrays are shared although they are small."""
    monkeypatch.setattr(shared, "MIN_BYTES", 0)
    return Store.open(shutil.copytree(built, tmp_path / "store"))


def hours(store, note=None, normalizer="fitted") -> np.ndarray:
    """The hours of a process that has nothing in memory."""
    samples._last.clear()
    return load(store, TASK, normalizer=normalizer, note=note)["train"].units.values.numpy()


def only(folder, suffix=".f32"):
    (path,) = (folder / ".shared").glob(f"*{suffix}")
    return path


def test_shared_hours_equal_those_in_memory_and_each_normalizer_has_its_own(store, monkeypatch):
    found, published_ones = hours(store), hours(store, normalizer="published")
    monkeypatch.setattr(shared, "MIN_BYTES", 1 << 40)
    assert found.tobytes() == hours(store).tobytes()
    assert published_ones.tobytes() == hours(store, normalizer="published").tobytes()
    assert len(list((store.folder / ".shared").glob("*.f32"))) == 2
    modes = {path.stat().st_mode & 0o777 for path in (store.folder / ".shared").glob("*.f32")}
    assert modes == {0o600}


def test_of_many_processes_one_writes_and_the_others_map(store):
    made = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(12, dtype=np.float32).reshape(4, 3)

    def one(_: int) -> np.ndarray:  # locks of one process exclude each other as well
        return shared.shared_array(store, {"a": 1}, (4, 3), make)

    with ThreadPoolExecutor(4) as pool:
        arrays = list(pool.map(one, range(8)))
    assert len(made) == 1
    assert all((array == arrays[0]).all() for array in arrays)
    arrays[0][0, 0] = 99  # a private page: it reaches neither the file nor the others
    assert one(0)[0, 0] == arrays[1][0, 0] == 0


def flip(array, record):
    content = bytearray(array.read_bytes())
    content[1000] ^= 4
    array.write_bytes(content)


def in_the_place_of(path):
    """Put a folder with something in it where a file was."""
    path.unlink()
    (path / "deep").mkdir(parents=True)


DAMAGES: dict[str, Callable[..., object]] = {
    "a flipped bit": flip,
    "half of it": lambda array, record: array.write_bytes(array.read_bytes()[: 1 << 12]),
    "zeros": lambda array, record: array.write_bytes(bytes(array.stat().st_size)),
    "no array": lambda array, record: array.unlink(),
    "a folder": lambda array, record: (array.unlink(), array.mkdir()),
    "a pipe": lambda array, record: (array.unlink(), os.mkfifo(array)),
    "a folder as its record": lambda array, record: in_the_place_of(record),
    "a folder as its lock": lambda array, record: (
        array.write_bytes(b""),
        in_the_place_of(record.with_suffix(".lock")),
    ),
    "a link": lambda array, record: (array.rename(array.with_suffix(".x")), array.symlink_to("x")),
    "a changed record": lambda array, record: record.write_text(
        record.read_text().replace('"hash": "', '"hash": "0')
    ),
    "a record of another kind": lambda array, record: record.write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_array_is_not_used_and_the_user_is_told(store, damage):
    right, told = hours(store).tobytes(), []
    DAMAGES[damage](only(store.folder), only(store.folder, ".json"))
    assert hours(store, told.append).tobytes() == right
    assert "damaged" in told[0]
    told.clear()
    assert hours(store, told.append).tobytes() == right
    assert not told  # it is healed


def test_without_its_record_an_array_was_never_finished(store):
    right, told = hours(store).tobytes(), []
    only(store.folder, ".json").unlink()
    assert hours(store, told.append).tobytes() == right
    assert only(store.folder, ".json").exists()
    assert not told


def test_without_room_each_process_has_its_own_copy_and_says_so(store, monkeypatch):
    told = []
    with monkeypatch.context() as patched:
        patched.setattr(shared.shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
        right = hours(store, told.append).tobytes()
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patched:
        patched.setattr(shared, "_bytes", lambda values: (_ for _ in ()).throw(full))
        assert hours(store, told.append).tobytes() == right
    assert "must be free" in told[0]
    assert "No space left" in told[1]
    assert not list((store.folder / ".shared").glob("*.f32*"))


def test_beside_a_store_that_cannot_be_written_the_work_folder_is_used(store, tmp_path):
    (store.folder / ".shared").write_text("in its way")
    told, work = [], tmp_path / "work"
    with shared.sharing(work, told.append):
        hours(store)
        assert not told
        shutil.rmtree(work)
        work.write_text("in its way")
        hours(store)
    assert "not shared" in told[0]
    assert "file" in told[0]


def test_prune_removes_them_and_a_new_store_has_none_of_the_old(store, tmp_path):
    hours(store)
    of_others = tmp_path / ".shared"
    of_others.mkdir()
    (of_others / "notes.txt").touch()
    size = only(store.folder).stat().st_size
    found = mimic_reg("prune", tmp_path, "--json")
    assert json.loads(found.stdout)["bytes"] >= size
    assert not (store.folder / ".shared").exists()
    assert (of_others / "notes.txt").exists()
    assert mimic_reg("prune", tmp_path / "none").returncode == 2
    hours(store)
    published(store.folder)
    assert not (store.folder / ".shared").exists()
