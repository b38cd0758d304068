"""Stores at URLs: copied once, verified, copied again where damaged; other URLs are refused."""

import errno
import fcntl
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

import mimic_reg as mr
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg.runs.description import open_store
from mimic_reg.settings import load_yaml
from mimic_reg.store import (
    Store,
    check_target,
    forget_hashes,
    make_folder,
    origin,
    read_json,
    remote,
    write_json,
)
from mimic_reg.store.remote import find_recorded, locate, recorded
from mimic_reg.urls import as_url
from tests.cli.called import mimic_reg, words
from tests.stores import write_manifest, write_store


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("built"), num_subjects=10)


@pytest.fixture
def there(built, tmp_path, monkeypatch):
    """A store at a URL, and an empty cache."""
    monkeypatch.setenv("MIMIC_REG_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(built, tmp_path / "there")


class Notes(Progress):
    def __init__(self):
        self.notes, self.copied = [], 0

    def note(self, text):
        self.notes.append(text)

    def advance(self, amount, rows=0):
        self.copied += amount


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_store_is_copied_once_and_its_records_have_the_url(there):
    url, notes = there.as_uri(), Notes()
    copy = locate(url, notes)
    assert content(copy) == content(there)
    assert notes.copied == sum(e["bytes"] for e in Store.open(there).manifest["files"].values())
    assert {p.stat().st_mode & 0o77 for p in (*copy.rglob("*.*"), *copy.parents[:2])} == {0}
    assert locate(Path(url), again := Notes()) == copy  # a Path has one slash of the URL
    assert not again.copied
    assert not again.notes
    assert mr.open_store(url).folder == copy

    fingerprint = Store.open(there).manifest["fingerprint"]
    assert recorded(copy) == url
    assert find_recorded(url, fingerprint) == copy
    assert as_url(find_recorded(url, "another")) == url
    assert (origin(there), recorded(there)) == (None, str(there))
    assert recorded(Path("s3://bucket/store")) == "s3://bucket/store"  # without a copy
    with pytest.raises(InputError, match="is the copy of the store at file:"):
        check_target(copy)


def test_a_damaged_copy_is_healed(there):
    copy = locate(there.as_uri())
    path = copy / "hourly.parquet"
    right = path.read_bytes()
    path.write_bytes(bytes(len(right)))
    with pytest.raises(InputError, match=r"hourly.parquet is damaged.* give the store as file:///"):
        Store.open(copy).path("hourly.parquet")
    (copy / "tasks" / "phenotyping.parquet").unlink()
    copy.with_name(".copy-of.json").write_text("{")
    forget_hashes()
    assert locate(there.as_uri()) == copy
    assert content(copy) == content(there)

    (copy / "manifest.json").write_text("{")  # it alone
    assert content(locate(there.as_uri())) == content(there)
    (copy / "manifest.json").unlink()
    assert content(locate(there.as_uri())) == content(there)


def test_a_cache_that_cannot_be_used_is_said_with_its_variable(there, monkeypatch):
    copy = locate(there.as_uri())
    (copy / "hourly.parquet").unlink()
    (copy / "hourly.parquet").mkdir()
    with pytest.raises(MimicRegError, match=r"hourly.parquet.*: Is a directory.*MIMIC_REG_CACHE"):
        locate(there.as_uri())

    def of_another(store):
        raise PermissionError(errno.EACCES, "Permission denied", str(store))

    monkeypatch.setattr(remote, "origin", of_another)
    with pytest.raises(MimicRegError, match=r"A copy is for one user: set MIMIC_REG_CACHE"):
        locate(there.as_uri())
    monkeypatch.setenv("HOME", str(there))
    monkeypatch.setenv("MIMIC_REG_CACHE", "~/copies")
    assert remote.cache_folder() == there / "copies"


def test_a_run_whose_store_has_no_copy_here_is_said(there):
    run = {"store": {"path": there.as_uri(), "fingerprint": "x"}, "trial": {}}
    with pytest.raises(InputError, match=r"r was trained on the store at file:///.* has no copy"):
        open_store(Path("r"), run, None)


def test_a_replaced_store_has_another_copy_and_the_old_one_stays(there, monkeypatch):
    first = locate(there.as_uri())
    before = content(first)
    replace(there)
    second = locate(there.as_uri())
    assert second != first
    assert (content(first), content(second)) == (before, content(there))

    copy_file = remote._Remote._copy_file

    def replaced_meanwhile(*given):
        copy_file(*given)
        replace(there)

    replace(there)
    monkeypatch.setattr(remote._Remote, "_copy_file", replaced_meanwhile)
    with pytest.raises(MimicRegError, match="was replaced while it was copied"):
        locate(there.as_uri())


def replace(store):
    with (store / "notes").open("a") as file:
        file.write("more")
    write_manifest(store)


def test_an_interrupted_copy_goes_on(there, monkeypatch):
    copy_file, done = remote._Remote._copy_file, []

    def interrupted(*given):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(given[1])
        copy_file(*given)

    with monkeypatch.context() as patch:
        patch.setattr(remote._Remote, "_copy_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            locate(there.as_uri())
    (unfinished,) = (Path(os.environ["MIMIC_REG_CACHE"])).glob("*/store")
    with pytest.raises(InputError, match="is not a store"):
        Store.open(unfinished)
    first = Store.open(there).manifest["files"]
    notes = Notes()
    assert content(locate(there.as_uri(), notes)) == content(there)
    assert notes.copied == sum(e["bytes"] for n, e in first.items() if n not in done)


def test_of_many_processes_one_copies(there):
    notes = [Notes() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:  # locks of one process exclude each other as well
        copies = set(pool.map(lambda each: locate(there.as_uri(), each), notes))
    assert len(copies) == 1
    assert sum(each.copied > 0 for each in notes) == 1

    shutil.rmtree(copies.pop().parent / "store")
    (lock,) = Path(os.environ["MIMIC_REG_CACHE"]).glob("*/.lock")
    waits = threading.Event()
    other = SimpleNamespace(note=lambda text: waits.set(), stage=lambda *a: 0, advance=lambda n: 0)
    with lock.open("a") as held, ThreadPoolExecutor() as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        copying = pool.submit(locate, there.as_uri(), other)
        assert waits.wait(60)
        assert not copying.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        assert content(copying.result()) == content(there)


def test_a_disk_without_room_is_said(there, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
        with pytest.raises(MimicRegError, match=r"There is no room .* MIMIC_REG_CACHE names"):
            locate(there.as_uri())

    def full(*given):
        raise OSError(errno.ENOSPC, "No space left")

    with monkeypatch.context() as patch:
        patch.setattr(remote._Remote, "_copy_file", full)
        with pytest.raises(MimicRegError, match=r"disk is full: .* MIMIC_REG_CACHE names"):
            locate(there.as_uri())
    assert content(locate(there.as_uri())) == content(there)


DAMAGES = {
    "no manifest": (lambda s: (s / "manifest.json").unlink(), "is not a store"),
    "a pipe": (lambda s: os.mkfifo(emptied(s / "manifest.json")), "is not a store"),
    "no JSON": (lambda s: (s / "manifest.json").write_text("{"), "is damaged, or is not"),
    "another JSON": (lambda s: (s / "manifest.json").write_text("[]"), "is damaged, or is not"),
    "a missing file": (lambda s: (s / "hourly.parquet").unlink(), "still being uploaded"),
    "a flipped bit": (lambda s: flip(s / "hourly.parquet"), "still being uploaded"),
    "a shorter file": (lambda s: (s / "hourly.parquet").write_bytes(b"x"), "still being uploaded"),
    "half published": (lambda s: (s / ".publish.json").touch(), "publication was interrupted"),
    "a file outside": (lambda s: listed(s, "../x"), "is not the name of a file within"),
    "a size of words": (lambda s: listed(s, "x", bytes="many"), "is damaged, or is not"),
    "a negative size": (lambda s: listed(s, "x", bytes=-1), "still being uploaded"),
}


def emptied(path):
    path.unlink()
    return path


def flip(path):
    data = bytearray(path.read_bytes())
    data[100] ^= 4
    path.write_bytes(data)


def listed(store, name, **changes):
    """Name another file in the manifest."""
    manifest = read_json(store / "manifest.json")
    manifest["files"][name] = {"bytes": 0, "xxh3": "0", **changes}
    write_json(store / "manifest.json", manifest)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_source_gives_no_store(there, tmp_path, damage):
    harm, message = DAMAGES[damage]
    harm(there)
    with pytest.raises(InputError, match=message):
        locate(there.as_uri())
    assert not list((tmp_path / "cache").glob("*/.copy-of.json"))
    assert not list((tmp_path / "cache").glob("*/store/manifest.json"))


SECRET = "p1anted/secret"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"s3://KEY:{SECRET}@bucket/x", "has a user, a password or an option"),
        ("s3://p1anted@bucket/x", "has a user, a password or an option"),
        (f"abfs://account:{SECRET}@c/x", "has a user, a password or an option"),
        (f"s3://bucket/x?secret_key={SECRET}", "has a user, a password or an option"),
        (f"s3://bucket/x?endpoint_override=http://a:{SECRET}@h", "has a user, a password or an"),
        (f"ftp://bucket/x?{SECRET}", "has a user, a password or an option"),
        ("ftp://bucket/x", "begins with s3://, gs://"),
        ("s3://", "begins with s3://, gs://"),
        ("s3://bucket/x#y", "has no #"),
        (f"s3://p1anted:{SECRET}?x@bucket/x", "has a user, a password or an option"),
        ("s3://[bucket/x", "cannot be used: Invalid IPv6 URL"),
        ("s3://a bucket/x", "cannot be used: Cannot parse URI"),
    ],
)
def test_urls_that_are_not_read_are_refused_without_their_secrets(there, url, message):
    with pytest.raises(InputError, match=message) as refused:
        mr.open_store(url)
    assert "p1anted" not in str(refused.value)


@pytest.mark.parametrize(
    "command",
    [
        "synthesize --out {}",
        "extract --source {} --out o",
        "extract --source o --out {}",
        "train --store {file} --task in_hospital_mortality --model lstm --method none --out {}",
        "evaluate {}",
        "report . {} --out o",
        "prune {}",
    ],
)
def test_a_url_is_refused_before_anything_is_made(there, tmp_path, monkeypatch, command):
    made = tmp_path / "made"
    made.mkdir()
    monkeypatch.chdir(made)
    url = f"s3://KEY:{SECRET}@bucket/x"
    ended = mimic_reg(*command.format(url, file=there.as_uri()).split())
    assert ended.returncode == 2
    assert "s3://…@bucket/x" in words(ended.stderr)
    assert "is a URL, but a path on this machine is needed" in words(ended.stderr)
    assert "p1anted" not in ended.stdout + ended.stderr
    assert not list(made.iterdir())


def test_python_refuses_urls_where_a_path_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: mr.synthesize("s3://b/x"),
        lambda: mr.extract(tmp_path, "s3://b/x"),
        lambda: Store.open("s3://b/x"),
        lambda: load_yaml(Path("s3://b/x.yaml")),
    ]
    for call in calls:
        with pytest.raises(InputError, match="is a URL, but a path on this machine is needed"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_folder_whose_name_looks_like_a_url_is_named_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = f"give its whole path: {tmp_path}"
    with pytest.raises(InputError, match=f"exp://run is a URL, but a path.*{whole}/exp:/run$"):
        Store.open(Path("exp:/run"))
    with pytest.raises(InputError, match=r"Only a store.*in Python\.$"):
        Store.open(Path("s3:"))
    (tmp_path / "s3:").mkdir()
    for read in (Store.open, lambda path: locate(path)):
        with pytest.raises(InputError, match=f"{whole}/s3:/$"):
            read(Path("s3:"))
    with pytest.raises(InputError, match="whole path") as told:
        Store.open(Path(f"exp://KEY:{SECRET}@bucket/x"))
    assert SECRET not in str(told.value)
    for path in ("C:/work", "d:\\work"):
        with pytest.raises(InputError, match=r"names a drive of Windows.*/mnt/c.*give its whole"):
            mr.synthesize(path)
    for options in (("runs", "C:/work"), ("synthesize", "--out", "C:/work")):
        ended = mimic_reg(*options)
        assert ended.returncode == 2
        assert "C:/work names a drive of Windows" in words(ended.stderr)
    assert [p.name for p in tmp_path.iterdir()] == ["s3:"]
    make_folder(tmp_path / "C:" / "work")
    make_folder(Path("exp:name"))


def test_commands_read_a_store_at_a_url(there):
    ended = mimic_reg("list", "tasks", "--store", there.as_uri(), "--json")
    assert ended.returncode == 0, ended.stderr
    assert "Copying the store file:///" in words(ended.stderr)
    assert mimic_reg("verify", there.as_uri()).returncode == 0
