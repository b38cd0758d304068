"""A source's file, packed or not: opened, read, and what is wrong with it said plainly."""

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
    """Say plainly that a file or folder of the source cannot be read."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"Cannot read {path}: {error.strerror or error}. Check its permissions, and the disk "
            "or network folder that it lies on."
        ) from error


def unpacked(file: Any) -> IO[bytes]:
    """Return what reads the content of an open gzip file."""
    return cast(IO[bytes], igzip.IGzipFile(fileobj=file))  # type: ignore[no-untyped-call]


def guarded(path: Path, read: Callable[[], bytes]) -> bytes:
    """Run `read`; a damaged gzip file gets a message that says so."""
    try:
        return read()
    except EOFError as error:
        raise InputError(
            f"{path} ends in the middle: the .gz file is truncated. "
            "Download it again and compare its SHA-256."
        ) from error
    except _GZIP_ERRORS as error:
        raise InputError(
            f"{path} is not a sound gzip file ({error}). "
            "Download it again and compare its SHA-256; a plain CSV file must be named .csv."
        ) from error
