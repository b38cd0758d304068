"""The cohort store on disk: a folder of files with a lock, and a manifest with their hashes.

`stages` writes the files and moves them into place, so no file is ever incomplete.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Self

import polars as pl

from mimic_reg.errors import BusyError, InputError, MimicRegError
from mimic_reg.store import atomic
from mimic_reg.store.hashes import file_hash, known_hash
from mimic_reg.store.indicators import STORED, with_indicators
from mimic_reg.store.seals import sealed, unsealed
from mimic_reg.store.spec import IMAGES, SCHEMA_VERSION, CohortSpec, split_in_fold
from mimic_reg.urls import refuse_url

# The errors that interpreting a malformed file may raise.
MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
    *(pl.exceptions.PolarsError, pl.exceptions.PanicException),
)

MANIFEST = "manifest.json"
WORK = ".work"
JOURNAL = ".publish.json"
SHARED = ".shared"  # arrays that processes share; see `samples.shared`
ORIGIN = ".copy-of.json"  # beside a copy of a store; see `remote`
_LOCK = ".lock"


def write_json(path: Path, content: Any, *, sync: bool = True) -> None:
    """Write `content` as JSON, atomically: a reader sees the old file or the new one.

    A record (a dict) is sealed, so that `read_json` detects damage.

    sync: sync the file; files of a stage are synced together later
    """
    content = sealed(content) if isinstance(content, dict) else content
    text = json.dumps(content, indent=1) + "\n"
    if sync:
        atomic.write_text(path, text)
    else:
        path.write_text(text, "utf-8")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        InputError: it is not valid JSON, or does not match its seal.
    """
    try:
        return unsealed(json.loads(atomic.read_text(path)), path)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). Restore it from a backup, or remove "
            f"{path.parent} and create it again."
        ) from error


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn errors of interpreting a file into an InputError.

    Raises:
        InputError: the block raised one of `MALFORMED`; the text never quotes the content.
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


@contextlib.contextmanager
def locked(store: Path) -> Iterator[None]:
    """Hold a folder's lock while the block runs, without waiting for it.

    Raises:
        InputError: the folder contains a symbolic link.
        BusyError: another process holds the lock.
        MimicRegError: the disk is full.
    """
    make_folder(store)
    atomic.refuse_links(store)
    with disk_errors(store), atomic.open_lock(store / _LOCK) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(
                f"Another run is writing to {store}. Wait until it ends, or choose another --out."
            ) from error
        yield


def make_folder(folder: Path) -> None:
    """Create a folder for this user only, unless it exists.

    Raises:
        InputError: the folder or one of its parents is a file; it is a URL.
        MimicRegError: the disk is full, or permissions are missing.
    """
    refuse_url(folder)
    with disk_errors(folder):
        try:
            atomic.make_folders(folder, 0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(
                f"{folder} cannot be created: it, or one of its parents, is a file. "
                "Choose another --out."
            ) from error


@contextlib.contextmanager
def disk_errors(store: Path) -> Iterator[None]:
    """Turn errors of a full disk or of missing permissions into a MimicRegError."""
    try:
        yield
    except OSError as error:
        said = re.search(r"\(os error (\d+)\)", str(error))  # Polars sets no errno
        number = error.errno or (int(said[1]) if said else 0)
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


def _disk_full(store: Path) -> MimicRegError:
    return MimicRegError(
        f"The disk is full: could not write to {store}. What was finished there before is "
        "unchanged. Free some space, then run the same command again to continue."
    )


def changed_files(
    folder: Path, files: dict[str, dict[str, Any]], hash_of: Callable[[Path], str] = file_hash
) -> list[str]:
    """Return the names of the files that are missing, or whose length or hash is another."""

    def same(name: str) -> bool:
        path = folder / name
        return (
            path.is_file()
            and path.stat().st_size == files[name]["bytes"]
            and hash_of(path) == files[name]["xxh3"]
        )

    return [name for name in files if not same(name)]


def check_cohort(store: "Store") -> None:
    """Refuse a store that does not hold a cohort of MIMIC.

    Raises:
        InputError: it holds another cohort.
    """
    if "mode" not in store.manifest:
        raise InputError(
            f"{store.folder} holds the cohort {store.spec.name!r}; this command is for stores that "
            "`mimic-reg extract` writes."
        )


def check_target(store: Path) -> None:
    """Refuse a folder that holds something other than a store, or a copy of one at a URL."""
    refuse_url(store)
    if url := origin(store):
        raise InputError(
            f"{store} is the copy of the store at {url}; a new one cannot be written there. Give a "
            "folder of your own."
        )
    if store.exists() and not store.is_dir():
        raise InputError(f"{store} is a file. Give a folder for --out.")
    if store.is_dir() and not (store / MANIFEST).exists() and not (store / WORK).exists():
        foreign = [p.name for p in store.iterdir() if p.name not in (_LOCK, JOURNAL, SHARED)]
        if foreign:
            raise InputError(
                f"{store} is not empty and is not a store (it has no {MANIFEST}). "
                "Choose an empty or new folder for --out."
            )


def kind_at(store: Path) -> str | None:
    """Return what kind of source the store at a path has, "" for MIMIC's tables; None without one.

    Raises:
        InputError: its manifest is damaged.
    """
    path = store / MANIFEST
    if not path.exists():
        return None
    with reading(path, "the manifest of a store"):
        return str(read_json(path).get("source", {}).get("kind", ""))


def check_files(files: dict[str, Any]) -> None:
    """Raise an error for `reading`, unless these are sizes and hashes of files by name."""
    for name, entry in files.items():
        check_inside(name)
        if not isinstance(entry["bytes"], int) or not isinstance(entry["xxh3"], str):
            raise TypeError("files")


def check_inside(name: str) -> str:
    """Return a file's name, if it stays within the store.

    Raises:
        InputError: it leads out of the store, as only an edited manifest does.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InputError(f"{name!r} is not the name of a file within a store.")
    return name


def origin(store: Path) -> str | None:
    """Return the URL of which a folder is a complete copy; None: it is not a copy.

    Raises:
        InputError: its record is damaged.
    """
    path = store.parent / ORIGIN
    if store.name != "store" or not path.is_file():
        return None
    with reading(path, "the record of a copy"):
        return str(read_json(path)["url"])


_NORMALIZERS = "normalizers/"


def normalizer_name(file: str, fold: int | None = None) -> str:
    """Return the name of a normaliser's file in a store: of the whole cohort, or of a fold."""
    return (_NORMALIZERS if fold is None else f"normalizers_fold{fold}/") + file


@dataclass(frozen=True)
class Store:
    """An open cohort store. Reading a file checks it against the manifest.

    fold: the fold to test on, of a store with folds: its sample tables then have a `split`
    indicators: the kind of the channels that say what was measured; None: that of the files
    """

    folder: Path
    manifest: dict[str, Any]
    fold: int | None = None
    indicators: str | None = None

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a store.

        Raises:
            InputError: this is not a store, has another schema version, was interrupted while it
                was published, or contains a symbolic link.
        """
        if not isinstance(folder, str | os.PathLike):
            raise InputError(f"The folder of a store is needed, got {folder!r}.")
        refuse_url(folder)
        folder = Path(folder)
        if (folder / JOURNAL).exists():
            raise InputError(
                f"{folder} is incomplete: its publication was interrupted. "
                "Run the same `mimic-reg extract` again to finish it; that takes a moment."
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
                check_files(manifest["files"])
                if not isinstance(manifest.get("fingerprint", ""), str):
                    raise TypeError("fingerprint")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{folder} has schema version {version}, but this program reads "
                f"version {SCHEMA_VERSION}. Extract it again."
            )
        return cls(folder, manifest)

    @cached_property
    def spec(self) -> CohortSpec:
        """Return the specification of the cohort in the store.

        Raises:
            InputError: the manifest has no valid specification.
        """
        spec = CohortSpec.read(self.manifest.get("cohort"))
        return with_indicators(spec, self.indicators) if self.indicators else spec

    def in_fold(self, fold: int | None) -> Self:
        """Return the same store, divided to test on a fold; None for a store without folds.

        Raises:
            InputError: the store has no such fold, or it has folds and none is given.
        """
        self.spec.check_fold(fold)
        return replace(self, fold=fold)

    def with_indicators(self, kind: str) -> Self:
        """Return the same store as a trial with this `training.indicators` reads it."""
        return replace(self, indicators=None if kind == STORED else kind)

    def path(self, name: str) -> Path:
        """Return the path of the file `name`, after checking it against the manifest.

        In a fold, a normaliser is the one that was fitted to the fold's training part.

        Raises:
            InputError: the store has no such file, or its length or hash differs.
        """
        if self.fold is not None and name.startswith(_NORMALIZERS):
            name = normalizer_name(name.removeprefix(_NORMALIZERS), self.fold)
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
                f"{path} is damaged, or was changed since it was written: its content does not "
                f"match the hash in {MANIFEST}. {self._again()}"
            )
        return path

    def _again(self) -> str:
        if url := origin(self.folder):
            return f"It is a copy: give the store as {url}, and the file is copied again."
        if IMAGES in self.manifest["files"]:
            return "Run the same `mimic-reg import-images` again to rewrite the store."
        return "Extract the store again with --force."

    def scan(self, name: str) -> pl.LazyFrame:
        """Return a Parquet table of the store, lazily; in a fold, `split` replaces `fold`."""
        return self._divided(name, pl.scan_parquet(self.path(name), glob=False))

    def _divided(self, name: str, table: pl.LazyFrame) -> pl.LazyFrame:
        if self.fold is None or self.spec.folds is None or not name.startswith("tasks/"):
            return table
        return table.with_columns(split_in_fold(self.fold, self.spec.folds)).drop(
            self.spec.divisions
        )

    def read(self, name: str) -> pl.DataFrame:
        """Return a Parquet table of the store; in a fold, `split` replaces `fold`."""
        path = self.path(name)
        with reading(path, "a table"):
            return self._divided(name, pl.read_parquet(path, glob=False).lazy()).collect()

    def signature(self) -> tuple[object, ...]:
        """Return a value that changes with the store or any of its files, as a key for caches."""
        stats = [path.stat() for n in self.manifest["files"] if (path := self.folder / n).exists()]
        times = [(s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in stats]
        view = self.fold, self.indicators
        return (str(self.folder.resolve()), self.manifest["fingerprint"], *view, *times)

    def changed_files(self) -> list[str]:
        """Return the names of the files whose length or hash is not the manifest's."""
        return changed_files(self.folder, self.manifest["files"])
