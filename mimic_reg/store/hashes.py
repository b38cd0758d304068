"""Hashes of files."""

import hashlib
import time
from pathlib import Path

import xxhash


def file_hash(path: Path) -> str:
    """Return the XXH3-128 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()


_SETTLED = 2_000_000_000  # ns; within a tick of the clock a file can change and keep its times
_known: dict[tuple[int, ...], str] = {}


def known_hash(path: Path) -> str:
    """Return `file_hash`, computed once per process for an unchanged file."""
    found = path.stat()
    key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    if key in _known:
        return _known[key]
    digest = file_hash(path)
    if time.time_ns() - max(found.st_ctime_ns, found.st_mtime_ns) > _SETTLED:
        _known[key] = digest
    return digest


def forget_hashes() -> None:
    """Forget the hashes that `known_hash` remembers."""
    _known.clear()
