"""Files that must be at rest while they are read.

A file is known by its length, the times of its content and of its entry, and its inode. Whoever
writes, replaces, restores or touches it changes one of them: a copy that keeps length and time
(`cp -p`, `rsync`) is another inode or has another change time, which no program can set.
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
    """What the file system says of a file's content.

    bytes:    its length
    mtime_ns: when its content changed last, in nanoseconds; programs can set it
    ctime_ns: when content, name or rights changed last; programs cannot set it
    inode:    which file it is, whatever its name
    """

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path | IO[Any]) -> "Stamp":
        """The stamp of what lies at a path, or of an open file."""
        state = os.stat(file if isinstance(file, Path) else file.fileno())
        return cls(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


def check_at_rest(path: Path, before: Stamp, file: IO[Any] | None = None) -> None:
    """Refuse a file that is not the one it was.

    path:   where it lies
    before: its stamp when it was first looked at
    file:   the open file that is read, if there is one

    Raises:
        MimicRegError: it was written, replaced, moved or touched since.
    """
    try:
        same = Stamp.of(path) == before and (file is None or Stamp.of(file) == before)
        what = "changed while it was read"
    except OSError as error:
        same, what = False, f"went away while it was read ({error.strerror or error})"
    if not same:
        raise MimicRegError(
            f"{path} {what}: nothing was published. Run the same command again when nothing writes "
            f"to {path.parent} any more. If nothing does, copy its files to a local disk first."
        )


@contextmanager
def at_rest(paths: Iterable[Path]) -> Iterator[None]:
    """Run a block that reads files; afterwards they must be what they were before it.

    Raises:
        MimicRegError: one of them is not; whatever the block stumbled over is of less interest.
    """
    with staying(stamps(paths)):
        yield


def stamps(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """The stamp of each file.

    Raises:
        InputError: one of them cannot be looked at.
    """
    try:
        return {path: Stamp.of(path) for path in paths}
    except OSError as error:
        raise InputError(f"Cannot read {error.filename}: {error.strerror}.") from error


@contextmanager
def staying(before: Mapping[Path, Stamp]) -> Iterator[None]:
    """As `at_rest`, for files whose stamps were taken before.

    Raises:
        MimicRegError: one of them is another file by now.
    """
    try:
        yield
    except InputError:
        check_all(before)
        raise
    check_all(before)


def check_all(before: Mapping[Path, Stamp]) -> None:
    """`check_at_rest` of each file."""
    for path, stamp in before.items():
        check_at_rest(path, stamp)
