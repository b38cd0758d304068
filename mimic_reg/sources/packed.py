"""Read files of a source, gzipped or not, and turn their errors into an InputError."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, cast

from isal import igzip, isal_zlib

from mimic_reg.errors import InputError

MAX_LINE = 1 << 20
_GZIP_ERRORS = (BadGzipFile, zlib.error, cast(type[Exception], isal_zlib.IsalError))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of reading a file or folder of the source into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}. Check its permissions, and the disk "
            "or network folder that holds it."
        ) from error


def unpacked(file: Any) -> IO[bytes]:
    """Return a reader of the content of an open gzip file."""
    return cast(IO[bytes], igzip.IGzipFile(fileobj=file))  # type: ignore[no-untyped-call]


def guarded(path: Path, read: Callable[[], bytes]) -> bytes:
    """Return `read()`; turn errors of a damaged gzip file into an InputError."""
    try:
        return read()
    except EOFError as error:
        raise InputError(
            f"{path} is incomplete: the .gz file is truncated. "
            "Download it again and compare its SHA-256."
        ) from error
    except _GZIP_ERRORS as error:
        raise InputError(
            f"{path} is not a valid gzip file ({error}). "
            "Download it again and compare its SHA-256. A plain CSV file must be named .csv."
        ) from error


def complete_lines(path: Path, file: Any, size: int) -> bytes:
    """Return about `size` bytes of complete lines of an open file, each with its newline."""
    text = guarded(path, lambda: file.read(size))
    if not text or text.endswith(b"\n"):
        return text
    rest = guarded(path, lambda: file.readline(MAX_LINE))
    if len(rest) == MAX_LINE:
        raise InputError(f"{path} has a line longer than 1 MB. Is it a CSV file?")
    return text + rest if rest.endswith(b"\n") else text + rest + b"\n"
