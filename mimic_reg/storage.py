"""The cohort store on disk: atomic writes, a lock, a manifest that proves what is there.

A store is a folder. Nothing in it is ever half written: files are built under `.work/`, and
`publish` moves them into place behind a journal, so that a publication cut off in the middle is
completed by the next run and refused by readers until then.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import polars as pl
import pyarrow.parquet as pq
import xxhash

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.schema import IMAGES, SCHEMA_VERSION
from mimic_reg.seals import sealed, unsealed

# What interpreting a file may raise if it is not what it seems to be.
_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)

MANIFEST = "manifest.json"
_WORK = ".work"
_JOURNAL = ".publish.json"
_LOCK = ".lock"
_HASH_BLOCK = 1 << 22


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, atomically: a reader sees the old file or the new one.

    A record (a dict) is sealed, so that `read_json` finds damage.
    """
    content = sealed(content) if isinstance(content, dict) else content
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file; a broken one is the user's to know about.

    Raises:
        InputError: it is no JSON, or not what its seal says.
    """
    try:
        return unsealed(json.loads(path.read_text("utf-8")), path)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); write the store again.") from error


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Say plainly that the content of a file is not what it should be.

    Raises:
        InputError: whatever the block stumbles over; the text never quotes the content.
    """
    try:
        yield
    except MimicRegError:
        raise
    except _MALFORMED as error:
        kind = type(error).__name__
        raise InputError(
            f"{path} is damaged, or is not {what} of this program ({kind}). Write it again."
        ) from error


def file_hash(path: Path) -> str:
    """XXH3-128 of a file's bytes, in hexadecimal."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


_SETTLED = 2_000_000_000  # ns; a file's times may stay the same for as long as a tick of the clock
_known: dict[tuple[int, ...], str] = {}


def known_hash(path: Path) -> str:
    """`file_hash`, computed once in a process for a file that stays as it is."""
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key in _known:
        return _known[key]
    digest = file_hash(path)
    if time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) > _SETTLED:
        _known[key] = digest
    return digest


def forget_hashes() -> None:
    """Compute every hash anew."""
    _known.clear()


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold a folder's lock; a second writer is told so at once, and a full disk is said plainly."""
    with disk_errors(store), _lock_file(store) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise MimicRegError(
                f"Another run is writing to {store}. Wait until it ends, or choose another --out."
            ) from error
        yield


def make_folder(folder: Path) -> None:
    """Make a folder for this user only, if it is not there.

    Raises:
        InputError: it, or what it lies in, is a file.
        MimicRegError: the disk is full, or it may not be made.
    """
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"{folder} cannot be a folder: it, or what it lies in, is a file. "
                "Choose another --out."
            ) from error


def _lock_file(folder: Path) -> IO[str]:
    make_folder(folder)
    return (folder / _LOCK).open("w")


@contextlib.contextmanager
def disk_errors(store: Path) -> Iterator[None]:
    """Say plainly when the disk is full or the folder cannot be written."""
    try:
        yield
    except OSError as error:
        number = _error_number(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise _disk_full(store) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
            raise MimicRegError(
                f"Cannot write to {error.filename or store}: {os.strerror(number)}. "
                "Choose another --out, or change its permissions."
            ) from error
        raise
    except pl.exceptions.ComputeError as error:
        if any(text in str(error) for text in ("No space left", "File too large", "quota")):
            raise _disk_full(store) from error
        raise


def _error_number(error: OSError) -> int:
    """`errno`; Polars, which sets none, has it in its text."""
    said = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno or (int(said[1]) if said else 0)


def _disk_full(store: Path) -> MimicRegError:
    return MimicRegError(
        f"The disk is full: could not write to {store}. What was finished there before is "
        "unchanged. Free some space and run the same command again: it goes on from there."
    )


class Workspace:
    """The store's `.work` folder: stages that are each either finished or absent.

    A stage is a folder; it is built under a temporary name and renamed when complete, with
    `done.json` inside: the key it was built for, and the facts the next stages need.
    """

    def __init__(self, store: Path, key: str) -> None:
        self.folder = store / _WORK
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.key = key
        for path in self.folder.iterdir():
            if path.is_file():
                path.unlink()
            elif not self._is_done(path):
                shutil.rmtree(path)

    def _is_done(self, path: Path) -> bool:
        done = path / "done.json"
        return path.suffix != ".tmp" and done.is_file() and read_json(done)["key"] == self.key

    def stage(self, name: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, Any, bool]:
        """Run `build(folder)` unless the stage is there: (folder, its facts, whether it ran)."""
        final = self.folder / name
        if final.exists():
            return final, read_json(final / "done.json")["facts"], False
        temporary = self.folder / f"{name}.tmp"
        temporary.mkdir()
        facts = build(temporary)
        write_json(temporary / "done.json", {"key": self.key, "facts": facts})
        temporary.rename(final)
        return final, facts, True

    def clear(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder)


class _Table(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow has no types
    """A table under way; one that is given up stays unfinished, for the disk may be full."""

    def __del__(self) -> None:
        """Close nothing: that would write."""


class TableWriter:
    """Parquet tables of a folder that grow by a row group with every `write`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writers: dict[str, _Table] = {}

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Append `frame` to the table `name`."""
        table = frame.to_arrow()
        if name not in self.writers:
            self.writers[name] = _Table(
                self.folder / name, table.schema, compression="zstd", compression_level=1
            )
        self.writers[name].write_table(table)

    def close(self) -> None:
        """Complete all tables."""
        for writer in self.writers.values():
            writer.close()


def publish(store: Path, files: dict[str, Path], manifest: dict[str, Any]) -> None:
    """Move `files` (name in the store → where it was built) into the store, manifest last.

    All files are complete before the journal is written; from then on the move can be finished by
    anyone (`recover`), so the store is the old one or the new one, never a mixture.
    """
    work = store / _WORK
    entries = {
        name: {"bytes": path.stat().st_size, "xxh3": file_hash(path)}
        for name, path in files.items()
    }
    built = work / "manifest.json"
    write_json(built, {"schema": SCHEMA_VERSION, **manifest, "files": entries})
    moves = {name: str(path.relative_to(work)) for name, path in files.items()}
    obsolete = [name for name in _published_files(store) if name not in files]
    write_json(
        store / _JOURNAL, {"moves": {**moves, MANIFEST: "manifest.json"}, "obsolete": obsolete}
    )
    recover(store)


def recover(store: Path) -> None:
    """Finish a publication that was cut off. Call under the lock."""
    journal = store / _JOURNAL
    if not journal.exists():
        return
    plan = read_json(journal)
    with reading(journal, "the journal of a publication"):
        moves = {check_inside(n): check_inside(source) for n, source in plan["moves"].items()}
        obsolete = [check_inside(name) for name in plan["obsolete"]]
    for name, source in moves.items():
        built = store / _WORK / source
        if built.exists():  # else it was moved before the cut
            target = store / name
            target.parent.mkdir(mode=0o700, exist_ok=True)
            built.chmod(0o600)
            built.replace(target)
    for name in obsolete:
        (store / name).unlink(missing_ok=True)
    journal.unlink()
    shutil.rmtree(store / _WORK)


def _published_files(store: Path) -> list[str]:
    path = store / MANIFEST
    if not path.exists():
        return []
    with reading(path, "the manifest of a cohort store"):
        return [check_inside(name) for name in read_json(path)["files"]]


def check_cohort(store: "Store") -> None:
    """Refuse a store of images where a cohort is needed.

    Raises:
        InputError: it holds images.
    """
    if "mode" not in store.manifest:
        raise InputError(
            f"{store.folder} holds {store.manifest.get('dataset', 'no cohort')}; this is for "
            "cohort stores, which `mimic-reg extract` makes."
        )


def check_target(store: Path) -> None:
    """Refuse a folder that holds something else than a store."""
    if store.exists() and not store.is_dir():
        raise InputError(f"{store} is a file; --out names a folder.")
    if store.is_dir() and not (store / MANIFEST).exists() and not (store / _WORK).exists():
        foreign = [p.name for p in store.iterdir() if p.name not in (_LOCK, _JOURNAL)]
        if foreign:
            raise InputError(
                f"{store} is not empty and is not a store (it has no {MANIFEST}). "
                "Choose an empty or new folder for --out."
            )


def _check_entries(manifest: dict[str, Any]) -> None:
    """Raise what `reading` explains, unless the manifest names files within the store."""
    if not isinstance(manifest.get("fingerprint", ""), str):
        raise TypeError("fingerprint")
    for name, entry in manifest["files"].items():
        check_inside(name)
        if not isinstance(entry["bytes"], int) or not isinstance(entry["xxh3"], str):
            raise TypeError("files")


def check_inside(name: str) -> str:
    """A file's name in a store, if it does not lead out of it.

    Raises:
        InputError: it does; somebody wrote the manifest by hand.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InputError(f"{name!r} is no name of a file within a store.")
    return name


@dataclass(frozen=True)
class Store:
    """An open cohort store; reading a table checks that it is the one the manifest names."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a store.

        Raises:
            InputError: not a store, one of another schema version, or one cut off in publication.
        """
        if (folder / _JOURNAL).exists():
            raise InputError(
                f"{folder} was cut off while its files were put in place. "
                "Run the same `mimic-reg extract` again: it finishes that in a moment."
            )
        path = folder / MANIFEST
        if not path.is_file():
            raise InputError(
                f"{folder} is not a store: it has no {MANIFEST}. Write one with `mimic-reg "
                "extract` (ICU stays) or `mimic-reg import-images` (images), or name another."
            )
        manifest = read_json(path)
        with reading(path, "the manifest of a cohort store"):
            version = manifest.get("schema")
            if version == SCHEMA_VERSION:
                _check_entries(manifest)
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{folder} has schema version {version}, this program reads "
                f"version {SCHEMA_VERSION}. Extract it again."
            )
        return cls(folder, manifest)

    def path(self, name: str) -> Path:
        """Return where the file `name` lies, once its content is what the manifest says.

        Raises:
            InputError: the store has no such file, or its length or hash is another one.
        """
        if name not in self.manifest["files"]:
            present = ", ".join(sorted(self.manifest["files"]))
            raise InputError(f"{self.folder} has no {name}. It holds: {present}.")
        path = self.folder / name
        expected = self.manifest["files"][name]
        if not path.is_file() or path.stat().st_size != expected["bytes"]:
            raise InputError(
                f"{path} is missing or was changed since it was written "
                f"({expected['bytes']:,} bytes expected). {self._again()}"
            )
        if known_hash(path) != expected["xxh3"]:
            raise InputError(
                f"{path} is damaged, or was changed since it was written: its content is not what "
                f"the hash in {MANIFEST} says. {self._again()}"
            )
        return path

    def _again(self) -> str:
        if IMAGES in self.manifest["files"]:
            return "Run the same `mimic-reg import-images` again: it writes the store anew."
        return "Extract the store again with --force."

    def scan(self, name: str) -> pl.LazyFrame:
        """A Parquet table of the store, lazily."""
        return pl.scan_parquet(self.path(name))

    def read(self, name: str) -> pl.DataFrame:
        """A Parquet table of the store."""
        path = self.path(name)
        with reading(path, "a table"):
            return pl.read_parquet(path)

    def changed_files(self) -> list[str]:
        """Names of the files whose content is not what the manifest says: length, then hash."""
        files = self.manifest["files"]

        def same(name: str) -> bool:
            path = self.folder / name
            return (
                path.is_file()
                and path.stat().st_size == files[name]["bytes"]
                and file_hash(path) == files[name]["xxh3"]
            )

        return [name for name in files if not same(name)]
