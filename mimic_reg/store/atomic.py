"""Write files that are complete or absent, even after a power cut, and follow no symbolic link.

A file is written under another name in its own folder, synced and renamed; then the folder is
synced. A reader sees the old file or the new one. A file that a message calls written is on the
disk.

Links are refused within a store, a run or a work folder. The folder that the user names may be one.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, BinaryIO

from mimic_reg.errors import InputError, MimicRegError

TEMPORARY = ".tmp"
PRIVATE = 0o600

# The file system commits its journal once for syncs at the same time.
_SYNCS_AT_ONCE = 8
_MANY = 1000  # with more files, the whole file system is synced
# Errors of a folder that cannot be synced: the file system cannot, or the folder is not readable.
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)


@contextmanager
def writing(path: Path, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path`, synced, when the block ends.

    If the block raises, `path` stays as it was.

    mode: permissions of the file, before the umask

    Raises:
        MimicRegError: another process is writing the same file.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    temporary.unlink(missing_ok=True)  # a killed process left it
    try:
        file = open(temporary, "xb", opener=_opener(mode))  # noqa: SIM115
    except FileExistsError as error:
        raise _another(path) from error
    own = os.fstat(file.fileno())
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if not _is_at(own, temporary):
            raise _another(path)
        temporary.replace(path)
    except BaseException:
        if _is_at(own, temporary):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file as `writing` does."""
    with writing(path, mode=mode) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8, as `writing` does."""
    write_bytes(path, text.encode())


def append(path: Path) -> FileIO:
    """Open a file to append to it, unbuffered; create it if it is missing.

    Raises:
        InputError: it is a symbolic link, or no file.
    """
    with _only_file(path):
        return open(path, "ab", buffering=0, opener=_opener(0o666))


def open_lock(path: Path) -> IO[str]:
    """Open a file to lock it, without changing its content.

    Raises:
        InputError: it is a symbolic link, or no file.
    """
    with _only_file(path):
        return open(path, "a", encoding="utf-8", opener=_opener(0o666))


def read_text(path: Path) -> str:
    """Read a text file within a store, run or work folder.

    Raises:
        InputError: it is a symbolic link, or no file.
    """
    with _only_file(path), open(path, encoding="utf-8", opener=_opener(0)) as file:
        return file.read()


def _opener(mode: int) -> Callable[[str, int], int]:
    def opened(path: str, flags: int) -> int:
        # a pipe would wait for its other end
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):  # `open` itself refuses folders
            os.close(descriptor)
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)
        return descriptor

    return opened


@contextmanager
def _only_file(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise _is_link(path) from error
        if error.errno in (errno.ENXIO, errno.ENODEV) and path.exists():
            raise _is_no_file(path) from error
        raise


def _is_at(own: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(own, path.lstat())
    except FileNotFoundError:
        return False


def _another(path: Path) -> MimicRegError:
    return MimicRegError(
        f"Another process is writing {path}. Wait until it ends, then run the same command again."
    )


# --- syncing --------------------------------------------------------------------------------------


def sync_file(path: Path) -> None:
    """Sync a file that another library wrote."""
    _sync(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def sync_folder(folder: Path) -> None:
    """Sync the list of files in a folder, if its file system can."""
    try:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync a folder with all files and folders in it.

    Raises:
        InputError: it contains a symbolic link.
    """
    entries = list(_entries(folder))
    if len(entries) > _MANY:
        _sync_file_system(folder)
        return
    files = [Path(entry.path) for entry in entries if entry.is_file()]
    folders = [Path(entry.path) for entry in entries if entry.is_dir()]
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        list(pool.map(sync_file, files))
        list(pool.map(sync_folder, folders))
    sync_folder(folder)


def _sync_file_system(folder: Path) -> None:
    """Sync the whole file system that holds a folder."""
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if library.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)


def make_folders(folder: Path, mode: int = 0o777) -> None:
    """Create a folder and its missing parents, synced.

    mode: permissions of the folder itself, before the umask
    """
    above = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for place in above:
        sync_folder(place.parent)


# --- links ----------------------------------------------------------------------------------------


def refuse_links(folder: Path) -> None:
    """Refuse a folder that contains a symbolic link or a pipe; the folder itself may be a link.

    Raises:
        InputError: it contains one.
    """
    for _ in _entries(folder):
        pass


def refuse_link(*paths: Path) -> None:
    """Refuse symbolic links.

    Raises:
        InputError: one of the paths is a link.
    """
    for path in paths:
        if path.is_symlink():
            raise _is_link(path)


def _entries(folder: Path) -> Iterable["os.DirEntry[str]"]:
    """Yield all files and folders in a folder; entries that vanish meanwhile are left out.

    Raises:
        InputError: something is neither, such as a symbolic link or a pipe.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise _is_link(Path(entry.path))
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False) and Path(entry.path).exists():
                raise _is_no_file(Path(entry.path))


def _is_no_file(path: Path) -> InputError:
    return InputError(
        f"{path} is not a file: a pipe, a socket or a device is in its place. Remove it, then run "
        "the same command again."
    )


def _is_link(path: Path) -> InputError:
    return InputError(
        f"{path} is a symbolic link. Within a store, a run or a work folder links are not "
        "followed; only the folder that you name may be one. Replace the link by the file or "
        "folder itself, or remove it."
    )
