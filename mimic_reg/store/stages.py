"""How a store comes about: stages under `.work/`, then a publication that is whole or absent.

What a stage writes is on the disk, with sizes and hashes, before the stage counts as finished.
`publish` moves files into place behind a journal: a publication cut off in the middle is completed
by the next run and refused by readers until then.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from mimic_reg.errors import InputError
from mimic_reg.progress import Progress, Silent
from mimic_reg.store import atomic
from mimic_reg.store.spec import SCHEMA_VERSION
from mimic_reg.store.store import (
    JOURNAL,
    MALFORMED,
    MANIFEST,
    WORK,
    changed_files,
    check_files,
    check_inside,
    describe_files,
    read_json,
    reading,
    write_json,
)

_DONE = "done.json"


class Workspace:
    """The store's `.work` folder: stages that are each either finished or absent.

    A stage is a folder; it is built under a temporary name and renamed when complete. While the
    next one is built, its files are brought to the disk; then `done.json` in it says that it is
    finished: the key it was built for, the facts the next stages need, and size and hash of its
    files. Stages are asked for in their order; call `finish` after the last one.
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
        """Whether it is a finished stage of this key; its files are not looked at."""
        done = path / _DONE
        if path.suffix == ".tmp" or not done.is_file():
            return False
        try:
            content = read_json(done)
            check_files(content["files"])
            return bool(content["key"] == self.key and "facts" in content)
        except MALFORMED:  # of an earlier version, or damaged
            return False

    def stage(self, name: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, Any, bool]:
        """Run `build(folder)` unless the stage is there: (folder, its facts, whether it ran).

        A stage whose files are not those that were written is built again, and so is what came
        after it.
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
            done = {"key": self.key, "facts": facts, "files": describe_files(temporary)}
        except BaseException:
            wait(self._syncs)  # nothing is written here once this has failed
            raise
        temporary.rename(final)
        self._syncs.append(self._pool.submit(self._bring_to_disk, final, done))
        return final, facts, True

    def _bring_to_disk(self, stage: Path, done: dict[str, Any]) -> None:
        atomic.sync_tree(stage)
        atomic.sync_folder(self.folder)
        write_json(stage / _DONE, done)

    def wait(self) -> None:
        """Wait until nothing is written here any more, whether it could be or not."""
        wait(self._syncs)

    def finish(self) -> None:
        """Wait until all stages are on the disk.

        Raises:
            OSError: one could not be written.
        """
        while self._syncs:
            self._syncs.pop(0).result()

    def files(self, stage: Path) -> dict[str, Path]:
        """Return name → file of a stage, once all stages are on the disk.

        Raises:
            OSError: one could not be written.
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
    """Move `files` (name in the store → where a stage built it) into the store, manifest last.

    All files are complete and on the disk before the journal is; from then on the move can be
    finished by anyone (`recover`), so the store is the old one or the new one, never a mixture.
    Sizes and hashes are those that the stages recorded; call `Workspace.finish` before.
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


def recover(store: Path, progress: Progress | None = None) -> None:
    """Finish a publication that was cut off, or drop it if its files are damaged.

    Call under the lock. Of a store of which parts were replaced already, nothing stays then; what
    calls this makes it anew.
    """
    journal = store / JOURNAL
    if not journal.exists():
        return
    plan = _read_plan(journal)
    damaged = _damaged(store, plan["moves"])
    if not damaged:
        _finish(store, plan)
        return
    (progress or Silent()).note(
        f"{store}: a publication was cut off, and its files are damaged ({', '.join(damaged)}): "
        "they are made again."
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
    """Names of files to be published that are not what their manifest says."""
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
        return changed_files(store, {name: files[name]})  # it was moved before the cut

    return [name for name in files if changed(name)]


def _finish(store: Path, plan: dict[str, Any]) -> None:
    """Put files in place, as planned; the plan is dropped when that is on the disk."""
    folders = {store}
    for name, source in plan["moves"].items():
        built = store / WORK / source
        target = store / name
        if built.exists():  # else it was moved before the cut
            target.parent.mkdir(mode=0o700, exist_ok=True)
            built.chmod(0o600)
            built.replace(target)
        folders.add(target.parent)
    for name in plan["obsolete"]:
        (store / name).unlink(missing_ok=True)
    for folder in sorted(folders, reverse=True):  # those within the store first
        atomic.sync_folder(folder)
    if (store / WORK).exists():
        shutil.rmtree(store / WORK)
    (store / JOURNAL).unlink()
    atomic.sync_folder(store)


def _published_files(store: Path) -> list[str]:
    path = store / MANIFEST
    if not path.exists():
        return []
    with reading(path, "the manifest of a cohort store"):
        return [check_inside(name) for name in read_json(path)["files"]]
