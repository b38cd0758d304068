"""Write a store: build stages under `.work/`, then publish all files or none.

A stage counts as finished when its files, with sizes and hashes, are on the disk. `publish` writes
a journal before it moves files into place. If a publication is interrupted, the next run completes
it, and readers refuse the store until then.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from mimic_reg.errors import InputError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.store import atomic
from mimic_reg.store.hashes import file_hash
from mimic_reg.store.spec import SCHEMA_VERSION
from mimic_reg.store.store import (
    JOURNAL,
    MALFORMED,
    MANIFEST,
    SHARED,
    WORK,
    changed_files,
    check_files,
    check_inside,
    disk_errors,
    locked,
    read_json,
    reading,
    write_json,
)

_DONE = "done.json"


class Workspace:
    """The store's `.work` folder, in which every stage is finished or absent.

    A stage is a folder. It is built under a temporary name and renamed when complete. Its files are
    synced while the next stage is built. Then `done.json` marks it as finished, with the key it was
    built for, the facts that later stages need, and the sizes and hashes of its files. Call the
    stages in their order, and `finish` after the last one.
    """

    def __init__(self, store: Path, key: str) -> None:
        self.folder = store / WORK
        atomic.refuse_link(self.folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        atomic.sync_folder(store)
        self.key = key
        self._asked_for: set[str] = set()
        self._pool = ThreadPoolExecutor(1)
        self._syncs: list[Future[None]] = []
        for path in self.folder.iterdir():
            if not self._is_done(path):
                _remove(path)

    def _is_done(self, path: Path) -> bool:
        """Return whether this is a finished stage of this key; its files are not checked."""
        done = path / _DONE
        if path.suffix == ".tmp" or not done.is_file():
            return False
        try:
            content = read_json(done)
            check_files(content["files"])
            return bool(content["key"] == self.key and "facts" in content)
        except MALFORMED:  # written by an earlier version, or damaged
            return False

    def stage(self, name: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, Any, bool]:
        """Run `build(folder)` unless the stage is finished.

        A stage whose files changed is built again, and so are the stages after it.

        Returns:
            The folder, its facts, and whether `build` ran.
        """
        final = self.folder / name
        self._asked_for.add(name)
        if final.exists():
            done = read_json(final / _DONE)
            if not changed_files(final, done["files"]):
                return final, done["facts"], False
        self._forget_later(name)
        temporary = self.folder / f"{name}.tmp"
        temporary.mkdir()
        try:
            facts = build(temporary)
            done = {"key": self.key, "facts": facts, "files": _describe_files(temporary)}
        except BaseException:
            wait(self._syncs)  # after a failure nothing may be written here
            raise
        temporary.rename(final)
        self._syncs.append(self._pool.submit(self._bring_to_disk, final, done))
        return final, facts, True

    def _bring_to_disk(self, stage: Path, done: dict[str, Any]) -> None:
        atomic.sync_tree(stage)
        atomic.sync_folder(self.folder)
        write_json(stage / _DONE, done)

    def wait(self) -> None:
        """Wait until nothing is written here any more, without raising errors."""
        wait(self._syncs)

    def finish(self) -> None:
        """Wait until all stages are on the disk.

        Raises:
            OSError: a stage could not be written.
        """
        while self._syncs:
            self._syncs.pop(0).result()

    def files(self, stage: Path) -> dict[str, Path]:
        """Return {name: file} of a stage, once all stages are on the disk.

        Raises:
            OSError: a stage could not be written.
        """
        self.finish()
        return {name: stage / name for name in sorted(read_json(stage / _DONE)["files"])}

    def _forget_later(self, name: str) -> None:
        for path in self.folder.iterdir():
            if path.name == name or path.name not in self._asked_for:
                _remove(path)

    def clear(self) -> None:
        """Remove everything."""
        self.finish()
        shutil.rmtree(self.folder)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


class _Table(pq.ParquetWriter):  # type: ignore[misc]  # pyarrow has no types
    """A table that stays unfinished when it is abandoned, since the disk may be full."""

    def __del__(self) -> None:
        """Do not close the file: that would write."""


class TableWriter:
    """Parquet tables of a folder; every `write` adds a row group."""

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


class GroupedWriter(TableWriter):
    """Parquet tables whose row groups do not depend on how the rows came.

    rows: of a row group
    """

    def __init__(self, folder: Path, rows: int = 50_000) -> None:
        super().__init__(folder)
        self.rows = rows
        self._waiting: dict[str, pl.DataFrame] = {}

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Append `frame` to the table `name`."""
        if name in self._waiting:
            frame = pl.concat([self._waiting[name], frame])
        whole = frame.height // self.rows * self.rows
        for start in range(0, whole, self.rows):
            super().write(name, frame[start : start + self.rows].rechunk())
        self._waiting[name] = frame[whole:]

    def close(self) -> None:
        """Complete all tables."""
        for name, frame in self._waiting.items():
            if frame.height or name not in self.writers:
                super().write(name, frame.rechunk())
        super().close()


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder that takes the place of `out`, synced, when the block ends.

    If the block raises, `out` stays as it was. What a killed run left beside it is removed.

    Raises:
        InputError: the folder beside `out` is a symbolic link.
        MimicRegError: the disk is full or cannot be written, or another run writes there.
    """
    out = out.resolve()
    with _beside(out, "partial") as new:
        replaced = new.with_name("replaced")
        try:
            yield new
            atomic.sync_tree(new)
            if out.exists():
                out.rename(replaced)
            new.rename(out)
        except BaseException:
            if replaced.exists():
                replaced.rename(out)
            raise
        atomic.sync_folder(out.parent)


@contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, for this user only, which is removed in the end.

    What a killed run left there is removed first.

    Raises:
        InputError: the folder beside `out` is a symbolic link.
        MimicRegError: the disk is full or cannot be written, or another run uses it.
    """
    with _beside(out.resolve(), "scratch") as folder:
        yield folder


@contextmanager
def _beside(out: Path, what: str) -> Iterator[Path]:
    """Yield an empty folder in a locked one beside `out`, which is removed in the end."""
    beside = out.with_name(f".{out.name}.{what}")
    atomic.refuse_link(beside)
    with disk_errors(out), locked(beside):
        try:
            for old in beside.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            folder = beside / "files"
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(beside)


def publish(store: Path, files: dict[str, Path], manifest: dict[str, Any]) -> None:
    """Move `files` (name in the store -> where a stage built it) into the store, manifest last.

    All files are on the disk before the journal is written. From then on any run can finish the
    move (`recover`), so a reader sees the old store or the new one, never a mixture. Sizes and
    hashes come from the stages; call `Workspace.finish` first.
    """
    work = store / WORK
    places = {name: path.relative_to(work) for name, path in files.items()}
    stages = {place.parts[0] for place in places.values()}
    built = {stage: read_json(work / stage / _DONE)["files"] for stage in stages}
    entries = {
        name: built[place.parts[0]][str(Path(*place.parts[1:]))] for name, place in places.items()
    }
    write_json(work / MANIFEST, {"schema": SCHEMA_VERSION, **manifest, "files": entries})
    moves = {name: str(place) for name, place in places.items()}
    obsolete = [name for name in _published_files(store) if name not in files]
    plan = {"moves": {**moves, MANIFEST: MANIFEST}, "obsolete": obsolete}
    write_json(store / JOURNAL, plan)
    _finish(store, plan)


def recover(store: Path, progress: Progress = SILENT) -> None:
    """Finish an interrupted publication, or drop it if its files are damaged.

    Call it under the lock. If the dropped publication had replaced some files already, the whole
    store is removed, and the caller must write it again.
    """
    journal = store / JOURNAL
    if not journal.exists():
        return
    plan = _read_plan(journal)
    damaged = _damaged(store, plan["moves"])
    if not damaged:
        _finish(store, plan)
        return
    progress.note(
        f"{store}: a publication was interrupted, and some of its files are damaged "
        f"({', '.join(damaged)}). They are written again."
    )
    if not all((store / WORK / source).exists() for source in plan["moves"].values()):
        for name in (MANIFEST, *plan["moves"], *plan["obsolete"]):
            (store / name).unlink(missing_ok=True)
            atomic.sync_folder(store)
    journal.unlink()
    atomic.sync_folder(store)


def _read_plan(journal: Path) -> dict[str, Any]:
    try:
        plan = read_json(journal)
        with reading(journal, "the journal of a publication"):
            moves = {check_inside(n): check_inside(source) for n, source in plan["moves"].items()}
            return {"moves": moves, "obsolete": [check_inside(name) for name in plan["obsolete"]]}
    except InputError as error:
        raise InputError(
            f"{journal} cannot be used: {error} Remove the folder {journal.parent}, or choose "
            "another --out, and run the same command again."
        ) from error


def _damaged(store: Path, moves: dict[str, str]) -> list[str]:
    """Return the names of the files to publish that do not match their manifest."""
    work = store / WORK
    place = work / MANIFEST if (work / MANIFEST).exists() else store / MANIFEST
    try:
        files = read_json(place)["files"]
        check_files(files)
        if {*files, MANIFEST} != moves.keys():
            return [MANIFEST]
    except (OSError, *MALFORMED):
        return [MANIFEST]

    def changed(name: str) -> list[str]:
        source = moves[name]
        if (work / source).exists():
            return changed_files(work, {source: files[name]})
        return changed_files(store, {name: files[name]})  # it was moved already

    return [name for name in files if changed(name)]


def _finish(store: Path, plan: dict[str, Any]) -> None:
    """Move the files into place as planned, sync, and remove the plan."""
    folders = {store}
    for name, source in plan["moves"].items():
        built = store / WORK / source
        target = store / name
        if built.exists():  # otherwise it was moved already
            target.parent.mkdir(mode=0o700, exist_ok=True)
            built.chmod(0o600)
            built.replace(target)
        folders.add(target.parent)
    for name in plan["obsolete"]:
        (store / name).unlink(missing_ok=True)
    for folder in sorted(folders, reverse=True):  # subfolders first
        atomic.sync_folder(folder)
    for folder in (store / WORK, store / SHARED):  # shared arrays are those of the old files
        if folder.exists():
            shutil.rmtree(folder)
    (store / JOURNAL).unlink()
    atomic.sync_folder(store)


def _published_files(store: Path) -> list[str]:
    path = store / MANIFEST
    if not path.exists():
        return []
    with reading(path, "the manifest of a cohort store"):
        return [check_inside(name) for name in read_json(path)["files"]]


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {name: size and hash} of every file in a folder, recursively."""
    return {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "xxh3": file_hash(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
