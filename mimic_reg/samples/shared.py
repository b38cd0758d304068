"""A large array that the processes of a machine share: a file that each maps into its memory.

The first process writes the array into the folder `.shared` of the store, or of the work folder
where the store cannot be written. Later ones map it: the machine holds it once, and nobody computes
it again. Its name is a hash of all that decides its content. Its record, written last, has its size
and hash; both are checked whenever it is mapped. A damaged file is made again.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.store import Store, make_folder, read_json, write_json
from mimic_reg.store.atomic import PRIVATE, TEMPORARY, open_lock, refuse_link, writing
from mimic_reg.store.store import SHARED

Note = Callable[[str], None]

MIN_BYTES = 64 << 20  # a smaller array is computed in less than a second
_TYPE = np.dtype("<f4")
_ARRAY, _RECORD, _LOCK = ".f32", ".json", ".lock"
_OURS = re.compile(r"[0-9a-f]{32}\.(f32|json|lock)(\.tmp)?")

_elsewhere: ContextVar[tuple[Path | None, Note | None]] = ContextVar(
    "_elsewhere", default=(None, None)
)


@contextmanager
def sharing(work: Path | None, note: Note) -> Iterator[None]:
    """Share arrays in a work folder inside the block, where the store's own cannot be written.

    note: is told why an array is not shared
    """
    before = _elsewhere.set((work and work / SHARED, note))
    try:
        yield
    finally:
        _elsewhere.reset(before)


def shared_array(
    store: Store,
    content: Mapping[str, Any],
    shape: tuple[int, ...],
    make: Callable[[], np.ndarray],
    note: Note | None = None,
) -> np.ndarray:
    """Return the float32 array that `make` returns; a large one is mapped from a shared file.

    Never change it in place.

    content: all that decides the array, but for the store's fingerprint; JSON
    note:    is told of damage, and why an array is not shared; that of `sharing` goes first
    """
    if prod(shape) * _TYPE.itemsize < MIN_BYTES:
        return make()
    folder, told = _elsewhere.get()
    file = _File(store, content, shape, told or note or (lambda text: None))
    problems = []
    for place in (store.folder / SHARED, folder):
        if place is not None:
            try:
                return file.obtain(place, make)
            except _NotSharedError as error:
                problems.append(str(error))
    file.tell_alone("; ".join(problems))
    return make()


class _NotSharedError(Exception):
    """A folder cannot have the array; the text says why."""


class _File:
    """The file of one shared array, and its record."""

    def __init__(
        self, store: Store, content: Mapping[str, Any], shape: tuple[int, ...], told: Note
    ) -> None:
        self.shape, self.told = shape, told
        self.size = prod(shape) * _TYPE.itemsize
        named = {"format": 1, "store": store.manifest["fingerprint"], "shape": shape, **content}
        self.name = xxhash.xxh3_128_hexdigest(json.dumps(named, sort_keys=True).encode())

    def obtain(self, place: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the mapped array, after writing it if nobody has.

        Raises:
            _NotSharedError: it cannot be written there.
        """
        if (found := self._map(place)) is not None:
            return found
        with self._locked(place):  # waits for the process that writes it
            if (found := self._map(place)) is not None:
                return found
            if (place / (self.name + _RECORD)).exists():
                self.told(f"An array in {place} is damaged. It is made again.")
            self._check_room(place)
            values = make()
            try:
                self._write(place, values)
            except (OSError, MimicRegError) as error:
                self.tell_alone(str(error))
                return values
            del values  # before it is mapped: two copies would need twice the memory
            found = self._map(place)
        return make() if found is None else found

    def _remove_folders(self, place: Path) -> None:
        """Remove what no file can take the place of, under names that only this array has."""
        for kind in (_ARRAY, _RECORD, _LOCK, _ARRAY + TEMPORARY, _RECORD + TEMPORARY):
            path = place / (self.name + kind)
            if path.is_dir() and not path.is_symlink():
                self.told(f"A shared array is damaged: {path} was a folder. It is removed.")
                shutil.rmtree(path, ignore_errors=True)

    def tell_alone(self, why: str) -> None:
        """Tell that each process has its own copy."""
        self.told(f"The hours are not shared; each process has its own copy: {why}")

    def _map(self, place: Path) -> np.ndarray | None:
        """Return the array if it is there and intact."""
        files = place / (self.name + _ARRAY), place / (self.name + _RECORD)
        try:
            refuse_link(place)
            if not all(path.is_file() for path in files):  # opening a pipe would wait for ever
                return None
            record = read_json(files[1])
            with open(files[0], "rb", opener=_no_link) as file:
                if os.fstat(file.fileno()).st_size != self.size:
                    return None
                # "c", copy on write: torch wants writable memory, and nothing reaches the file
                values = np.asarray(np.memmap(file, _TYPE, "c", shape=self.shape))
        except (OSError, MimicRegError):
            return None
        intact = isinstance(record, dict) and record.get("hash") == _hash(values)
        return values if intact else None

    def _write(self, place: Path, values: np.ndarray) -> None:
        assert values.shape == self.shape
        with writing(place / (self.name + _ARRAY), mode=PRIVATE) as file:
            file.write(_bytes(values))
        write_json(place / (self.name + _RECORD), {"hash": _hash(values), "bytes": self.size})

    def _check_room(self, place: Path) -> None:
        free = shutil.disk_usage(place).free
        if free < 2 * self.size:  # the other half is for run folders
            raise _NotSharedError(
                f"the array has {self.size / 1e9:,.1f} GB, and twice that must be free in {place}, "
                f"which has {free / 1e9:,.1f} GB."
            )

    @contextmanager
    def _locked(self, place: Path) -> Iterator[None]:
        try:
            refuse_link(place)
            make_folder(place)
            self._remove_folders(place)
            lock = open_lock(place / (self.name + _LOCK))
        except (OSError, MimicRegError) as error:
            raise _NotSharedError(str(error)) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:  # a file system without locks
                raise _NotSharedError(str(error)) from error
            yield


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values, _TYPE).data.cast("B")


def _hash(values: np.ndarray) -> str:
    return xxhash.xxh3_128_hexdigest(_bytes(values))


def prune(folder: Path) -> int:
    """Remove the shared arrays of a store, or of a work folder and its stores; return their bytes.

    Processes that use them keep them until they end.

    Raises:
        InputError: there is no such folder, or a symbolic link is in the place of one.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    removed = 0
    for place in (folder / SHARED, *sorted(folder.glob(f"*/{SHARED}"))):
        refuse_link(place.parent, place)
        for path in place.iterdir() if place.is_dir() else ():
            if _OURS.fullmatch(path.name) and not path.is_dir():
                removed += path.lstat().st_size
                path.unlink()
        with suppress(OSError):  # it is not there, or has files of others
            place.rmdir()
    return removed
