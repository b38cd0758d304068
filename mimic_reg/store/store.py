"""The cohort store on disk: JSON, hashes, a lock, a manifest that proves what is there.

A store is a folder. Nothing in it is ever half written: `stages` builds its files and puts them in
place.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import polars as pl
import xxhash

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.store import atomic
from mimic_reg.store.seals import sealed, unsealed
from mimic_reg.store.spec import IMAGES, SCHEMA_VERSION, CohortSpec

# What interpreting a file may raise if it is not what it seems to be.
MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)

MANIFEST = "manifest.json"
WORK = ".work"
JOURNAL = ".publish.json"
_LOCK = ".lock"
_HASH_BLOCK = 1 << 22


def write_json(path: Path, content: Any, *, sync: bool = True) -> None:
    """Write `content` as JSON, atomically: a reader sees the old file or the new one.

    A record (a dict) is sealed, so that `read_json` finds damage.

    sync: bring it to the disk; a file of a stage is brought there with the others
    """
    content = sealed(content) if isinstance(content, dict) else content
    text = json.dumps(content, indent=1) + "\n"
    if sync:
        atomic.write_text(path, text)
    else:
        path.write_text(text, "utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; a broken one is the user's to know about.

    Raises:
        InputError: it is no JSON, or not what its seal says.
    """
    try:
        return unsealed(json.loads(atomic.read_text(path)), path)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Bring it back from a backup, or remove "
            f"{path.parent} and make it again."
        ) from error


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
    except MALFORMED as error:
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
    """Hold a folder's lock; a second writer is told so at once, and a full disk is said plainly.

    Raises:
        InputError: something in the folder is a symbolic link.
        MimicRegError: another process holds the lock; the disk is full.
    """
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
            atomic.make_folders(folder, 0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"{folder} cannot be a folder: it, or what it lies in, is a file. "
                "Choose another --out."
            ) from error


def _lock_file(folder: Path) -> IO[str]:
    make_folder(folder)
    atomic.refuse_links(folder)
    return atomic.open_lock(folder / _LOCK)


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


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return name → size and hash of every file in a folder and the folders in it."""
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "xxh3": file_hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def changed_files(folder: Path, files: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the files whose content is not as described: length, then hash."""

    def same(name: str) -> bool:
        path = folder / name
        return (
            path.is_file()
            and path.stat().st_size == files[name]["bytes"]
            and file_hash(path) == files[name]["xxh3"]
        )

    return [name for name in files if not same(name)]


def check_cohort(store: "Store") -> None:
    """Refuse a store of another cohort where one of MIMIC-III's tables is needed.

    Raises:
        InputError: it holds another one.
    """
    if "mode" not in store.manifest:
        raise InputError(
            f"{store.folder} holds the cohort {store.spec.name!r}; this command is for stores that "
            "`mimic-reg extract` writes."
        )


def check_target(store: Path) -> None:
    """Refuse a folder that holds something else than a store."""
    if store.exists() and not store.is_dir():
        raise InputError(f"{store} is a file; --out names a folder.")
    if store.is_dir() and not (store / MANIFEST).exists() and not (store / WORK).exists():
        foreign = [p.name for p in store.iterdir() if p.name not in (_LOCK, JOURNAL)]
        if foreign:
            raise InputError(
                f"{store} is not empty and is not a store (it has no {MANIFEST}). "
                "Choose an empty or new folder for --out."
            )


def _check_entries(manifest: dict[str, Any]) -> None:
    """Raise what `reading` explains, unless the manifest names files within the store."""
    if not isinstance(manifest.get("fingerprint", ""), str):
        raise TypeError("fingerprint")
    check_files(manifest["files"])


def check_files(files: dict[str, Any]) -> None:
    """Raise what `reading` explains, unless these are sizes and hashes of files by name."""
    for name, entry in files.items():
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
    def open(cls, folder: Path | str) -> Self:
        """Open a store.

        Raises:
            InputError: not a path, not a store, one of another schema version, one cut off in
                publication, or one in which something is a symbolic link.
        """
        if not isinstance(folder, str | os.PathLike):
            raise InputError(f"The folder of a store is needed, got {folder!r}.")
        folder = Path(folder)
        if (folder / JOURNAL).exists():
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
        atomic.refuse_links(folder)
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

    @cached_property
    def spec(self) -> CohortSpec:
        """What the store holds.

        Raises:
            InputError: the manifest has no specification, or a wrong one.
        """
        return CohortSpec.read(self.manifest.get("cohort"))

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

    def signature(self) -> tuple[object, ...]:
        """Return what changes whenever the store or a file of it does: for caches in a process."""
        stats = [path.stat() for n in self.manifest["files"] if (path := self.folder / n).exists()]
        times = [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]
        return (str(self.folder.resolve()), self.manifest["fingerprint"], *times)

    def changed_files(self) -> list[str]:
        """Names of the files whose content is not what the manifest says: length, then hash."""
        return changed_files(self.folder, self.manifest["files"])
