"""Files are complete or absent, and no symbolic link is followed."""

import os
from pathlib import Path

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.store import atomic, locked


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    with atomic.writing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(TypeError), atomic.writing(path) as file:
        file.writelines([b"half", None])
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_the_rest_of_a_killed_process_is_replaced(tmp_path):
    (tmp_path / "a.tmp").write_text("half of it, and longer")
    atomic.write_text(tmp_path / "a", "whole")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "whole"}


def test_of_two_writers_of_one_file_one_is_refused(tmp_path):
    path = tmp_path / "a"
    with pytest.raises(MimicRegError, match="Another process is writing"), atomic.writing(path):
        atomic.write_text(path, "second")
    assert path.read_text() == "second"


def test_order_of_syncs(tmp_path, monkeypatch):
    """The content is synced before the rename, and the folder after it."""
    seen = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(descriptor):
        seen.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        real_sync(descriptor)

    def replace(path, target):
        seen.append("renamed")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    atomic.write_text(tmp_path / "a", "x")
    assert seen == ["a.tmp", "renamed", "."]
    seen.clear()
    atomic.make_folders(tmp_path / "b" / "c")
    assert seen == ["b", "."]
    (tmp_path / "b" / "c" / "d").touch()
    seen.clear()
    atomic.sync_tree(tmp_path / "b")
    assert seen == ["b/c/d", "b/c", "b"]


def test_a_large_folder_is_synced_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_MANY", 2)
    synced = []
    monkeypatch.setattr(atomic, "sync_file", synced.append)
    for name in "abc":
        (tmp_path / name).touch()
    atomic.sync_tree(tmp_path)
    assert synced == []


def test_links_are_not_followed(tmp_path):
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("keep me")
    folder.mkdir()
    for name in ("a", "a.tmp"):
        (folder / name).symlink_to(victim)
    for refused in (atomic.append, atomic.open_lock, atomic.read_text, atomic.refuse_link):
        with pytest.raises(InputError, match="folder/a is a symbolic link"):
            refused(folder / "a")
    for refused in (atomic.refuse_links, atomic.sync_tree):
        with pytest.raises(InputError, match="is a symbolic link"):
            refused(tmp_path)
    atomic.write_text(folder / "a", "x")  # takes the place of the links
    assert victim.read_text() == "keep me"
    assert (folder / "a").read_text() == "x"
    assert not (folder / "a").is_symlink()


@pytest.mark.parametrize("use", [atomic.append, atomic.open_lock, atomic.read_text])
def test_a_pipe_is_no_file(tmp_path, use):
    """It would wait for its other end, or a record would vanish in it."""
    os.mkfifo(path := tmp_path / "a")
    with pytest.raises(InputError, match="a is not a file: a pipe"):
        use(path)


def test_a_pipe_in_a_run_folder_is_refused(tmp_path):
    for path in (tmp_path / ".lock", tmp_path / "deep" / "history.jsonl"):
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        with pytest.raises(InputError, match=f"{path.name} is not a file"), locked(tmp_path):
            pass
        path.unlink()


def test_the_folder_that_the_user_names_may_be_a_link(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    atomic.write_text(tmp_path / "link" / "a", "x")
    atomic.refuse_links(tmp_path / "link")
    assert (tmp_path / "folder" / "a").read_text() == "x"


def test_locks_and_histories_keep_their_content(tmp_path):
    (tmp_path / "a").write_text("x")
    for opened in (atomic.append, atomic.open_lock):
        opened(tmp_path / "a").close()
    assert (tmp_path / "a").read_text() == "x"
