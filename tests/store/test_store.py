import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.store import (
    MANIFEST,
    Store,
    disk_errors,
    file_hash,
    locked,
    make_folder,
    read_json,
    write_json,
)
from tests.stores import published


def test_published_files_are_read_and_verified(tmp_path):
    store = published(tmp_path, a=[1, 2], b=[3])
    assert store.read("a.parquet")["x"].to_list() == [1, 2]
    assert store.scan("b.parquet").collect().height == 1
    assert store.manifest["files"]["a.parquet"]["xxh3"] == file_hash(tmp_path / "a.parquet")
    assert store.changed_files() == []
    with pytest.raises(InputError, match=r"has no c\.parquet. It holds: a\.parquet, b\.parquet"):
        store.read("c.parquet")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OSError("No space left on device (os error 28)"), "The disk is full: could not write"),
        (OSError(28, "No space left on device"), "The disk is full: could not write"),
        (OSError("Read-only file system (os error 30): a.arrow"), "Cannot write to .*: Read-only"),
        (PermissionError(13, "Permission denied", "b"), "Cannot write to b: Permission denied"),
        (NotADirectoryError(20, "", "c/d"), "Cannot write to c/d: Not a directory. Choose another"),
    ],
)
def test_disk_errors_of_python_and_polars_are_explained(tmp_path, error, text):
    """Errors from Polars have their number only in the text."""
    with pytest.raises(MimicRegError, match=text), disk_errors(tmp_path):
        raise error


def test_other_system_errors_are_not_hidden(tmp_path):
    with pytest.raises(OSError, match="Bad file descriptor"), disk_errors(tmp_path):
        raise OSError(9, "Bad file descriptor")


def test_changed_and_missing_files_are_found(tmp_path):
    store = published(tmp_path, a=[1], b=[2])
    (tmp_path / "b.parquet").unlink()
    path = tmp_path / "a.parquet"
    path.write_bytes(path.read_bytes()[::-1])
    assert store.changed_files() == ["a.parquet", "b.parquet"]
    with pytest.raises(InputError, match=r"b\.parquet is missing or was changed"):
        store.path("b.parquet")


def test_a_flipped_bit_is_found_when_a_table_is_read(tmp_path):
    """Even in a process that read the undamaged file before."""
    store = published(tmp_path, a=list(range(1000)))
    path = tmp_path / "a.parquet"
    os.utime(path, (1, 1))
    assert store.read("a.parquet").height == 1000
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    for read in (store.read, store.scan, store.path):
        with pytest.raises(InputError, match=r"a\.parquet is damaged, or was changed .* --force"):
            read("a.parquet")


def test_an_edited_record_is_found(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1.5, "b": {1: [None, "ä"]}})
    text = (tmp_path / "x.json").read_text()
    (tmp_path / "x.json").write_text(text.replace("\n", "\n\n"))  # white space does not count
    assert read_json(tmp_path / "x.json") == {"a": 1.5, "b": {"1": [None, "ä"]}}
    (tmp_path / "x.json").write_text(text.replace("1.5", "1.7"))
    with pytest.raises(InputError, match=r"x\.json is damaged or was edited"):
        read_json(tmp_path / "x.json")


def test_no_manifest_another_version_and_broken_json_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no manifest\.json\. Write one with"):
        Store.open(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(InputError, match=r"is not valid JSON .* or remove .* and create it again"):
        Store.open(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"schema": 0}))
    with pytest.raises(InputError, match="has schema version 0, but this program reads"):
        Store.open(tmp_path)


def test_json_is_replaced_as_a_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, None]})
    write_json(tmp_path / "x.json", {"b": 2})
    assert read_json(tmp_path / "x.json") == {"b": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_in_place_of_a_folder_is_an_input_error(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"), locked(tmp_path / name):
        pass


def test_an_object_store_is_refused_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="s3://bucket/work is a URL, but a path on"):
        make_folder(Path("s3://bucket/work"))
    make_folder(Path("c:d/e"))
    assert [p.name for p in tmp_path.iterdir()] == ["c:d"]


def test_ctrl_c_ends_a_wait():
    """Polars alone would have the wait go on."""
    code = (
        "import os, signal, threading\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import mimic_reg.store\n"
        "threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "threading.Event().wait(60)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr
