"""Refuse files that change while they are read.

A file is identified by its length, its modification and change times, and its inode. Writing,
replacing, restoring or touching it changes one of them. A copy that keeps length and modification
time (`cp -p`, `rsync`) has another inode or change time, which no program can set.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mimic_reg.errors import InputError, MimicRegError


@dataclass(frozen=True)
class Stamp:
    """The state of a file, from the file system.

    bytes:    its length
    mtime_ns: when its content last changed, in nanoseconds; programs can set it
    ctime_ns: when its content, name or permissions last changed; programs cannot set it
    inode:    the file's number, whatever its name
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | IO[Any]) -> "Stamp":
        """Return the stamp of the file at a path, or of an open file."""
        state = os.stat(file if isinstance(file, Path) else file.fileno())
        return cls(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def check_at_rest(path: Path, before: Stamp, file: IO[Any] | None = None) -> None:
    """Refuse a file that changed.

    before: its stamp when it was first seen
    file:   the open file that is being read, if any

    Raises:
        MimicRegError: it was written, replaced, moved or touched since then.
    """
    try:
        same = Stamp.of(path) == before and (file is None or Stamp.of(file) == before)
        what = "changed while it was read"
    except OSError as error:
        same, what = False, f"disappeared while it was read ({error.strerror or error})"
    if not same:
        raise MimicRegError(
            f"{path} {what}: nothing was published. Run the same command again when no program "
            f"writes to {path.parent}. If none does, copy its files to a local disk first."
        )


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """Return the stamp of each file.

    Raises:
        InputError: a file cannot be accessed.
    """
    try:
        return {path: Stamp.of(path) for path in paths}
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror}.") from error


@contextmanager
def staying(before: Mapping[Path, Stamp]) -> Iterator[None]:
    """Refuse files that change while the block reads them, by their stamps from before.

    Raises:
        MimicRegError: a file changed. It replaces an InputError of the block.
    """
    wrong = None
    try:
        yield
    except InputError as error:
        wrong = error
    for path, stamp in before.items():
        check_at_rest(path, stamp)
    if wrong:
        raise wrong
