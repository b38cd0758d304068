"""Stores in an object store: each is copied once to this machine and verified.

    <cache>/<hash>/store/         the copy; its manifest is written last
    <cache>/<hash>/.copy-of.json  its URL: written when the copy is complete
    <cache>/<hash>/.lock          held by the process that copies

The hash is of the URL and of the manifest. So a store that is replaced at its URL gets another
copy, and what uses the old one is not disturbed. Credentials are the business of `pyarrow.fs`,
which finds them in the environment.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import xxhash

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import Progress
from mimic_reg.store import atomic
from mimic_reg.store.hashes import known_hash
from mimic_reg.store.store import (
    JOURNAL,
    MANIFEST,
    ORIGIN,
    Store,
    changed_files,
    check_files,
    disk_errors,
    make_folder,
    origin,
    reading,
    write_json,
)
from mimic_reg.urls import as_url, if_folder, masked, refuse_url

CACHE = "MIMIC_REG_CACHE"  # variable: the folder of the copies
_SCHEMES = ("s3", "gs", "abfs", "abfss", "file")
# what a query may say; pyarrow knows more, of which some are secret
OPTIONS = ("region", "scheme", "endpoint_override", "location", "project_id", "enable_tls")
_CHUNK = 8 << 20
_MOST_MANIFEST = 1 << 30  # bytes; a manifest has a line for each file


def cache_folder() -> Path:
    """Return the folder of the copies: MIMIC_REG_CACHE, or mimic-reg/stores in the user's cache.

    Raises:
        InputError: the variable has a URL, or there is no home folder.
    """
    given = os.environ.get(CACHE)
    try:
        if given:
            refuse_url(given, CACHE)
            return Path(given).expanduser().absolute()  # shells expand ~, others do not
        above = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise InputError(
            f"This user has no home folder for copies of stores. Set {CACHE} to a folder."
        ) from error
    return Path(above, "mimic-reg", "stores").absolute()


def locate(store: str | os.PathLike[str], progress: Progress | None = None) -> Path:
    """Return the folder of a store; one at a URL is copied to this machine, unless it is there.

    A copy is compared with the manifest at the URL whenever this is called: files that are missing
    or damaged are copied again.

    Raises:
        InputError: a URL that cannot be used, or without a store of this program's format.
        MimicRegError: the URL cannot be read; its store was replaced meanwhile; the disk is full.
    """
    url = as_url(store)
    return Path(store) if url is None else _Remote(url).copy(progress or Progress())


def recorded(folder: Path) -> str:
    """Return a store's place as records of runs name it: its URL, or its absolute folder.

    folder: may be a URL, whose copy is not on this machine
    """
    return as_url(folder) or origin(folder) or str(folder.resolve())


def find_recorded(place: str, fingerprint: str) -> Path:
    """Return the folder of a store on this machine, from its place in a record.

    Of a store at a URL it is the copy, if there is one; nothing is copied.
    """
    url = as_url(place)
    if url is not None:
        for path in sorted(cache_folder().glob(f"*/{ORIGIN}")):
            store = path.with_name("store")
            with suppress(MimicRegError, OSError):
                if origin(store) == url and _fingerprint(store) == fingerprint:
                    return store
    return Path(place)


def _fingerprint(store: Path) -> Any:
    return Store.open(store).manifest["fingerprint"]


class _Remote:
    """A store at a URL.

    Raises:
        InputError: the URL has credentials, or is of a kind that cannot be read.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        self.url = url
        from pyarrow import fs  # slow

        with self._remote_errors():
            self._files, self._root = fs.FileSystem.from_uri(url)
        self._is_file = fs.FileType.File

    def copy(self, progress: Progress) -> Path:
        """Return the folder of a complete copy; see `locate`."""
        manifest = self._read_manifest()
        files = self._check(manifest)
        name = xxhash.xxh3_128_hexdigest(f"{self.url}\n".encode() + manifest)
        store = cache_folder() / name / "store"
        try:
            if self._is_complete(store, manifest) and not changed_files(store, files, known_hash):
                return store
            for folder in (store.parent.parent, store.parent, store):
                make_folder(folder)
            with disk_errors(store), _alone(store.parent, progress):
                missing = changed_files(store, files, known_hash)
                if missing or not self._is_complete(store, manifest):
                    self._copy_files(store, {n: files[n] for n in missing}, manifest, progress)
        except MimicRegError as error:
            if str(cache_folder()) not in str(error):
                raise  # of the URL
            raise type(error)(
                f"{error} (The store {self.url} is copied there; the variable {CACHE} names "
                "another folder for copies.)"
            ) from error
        except OSError as error:
            raise MimicRegError(
                f"Cannot use {error.filename or store}: {error.strerror or error}. A copy is for "
                f"one user: set {CACHE} to a folder of your own. If this is your own, remove "
                f"{store.parent}: it is made again."
            ) from error
        return store

    def _is_complete(self, store: Path, manifest: bytes) -> bool:
        with suppress(InputError, FileNotFoundError):  # what is damaged is written again
            return origin(store) == self.url and (store / MANIFEST).read_bytes() == manifest
        return False

    def _copy_files(
        self, store: Path, files: dict[str, Any], manifest: bytes, progress: Progress
    ) -> None:
        self._check_source(files, manifest)
        size = sum(entry["bytes"] for entry in files.values())
        free = shutil.disk_usage(store).free
        if size > free:
            raise MimicRegError(
                f"There is no room for a copy of the store in {store}: it takes "
                f"{size / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free. Free some space."
            )
        progress.note(f"Copying the store {self.url} to {store}.")
        progress.stage("copy", size, "bytes")
        for name, entry in files.items():
            self._copy_file(name, entry, store / name, manifest, progress)
        if self._read_manifest() != manifest:
            raise self._replaced()
        atomic.write_bytes(store / MANIFEST, manifest, mode=atomic.PRIVATE)
        Store.open(store)  # refuses links, and a format that is not ours
        write_json(store.with_name(ORIGIN), {"url": self.url})

    def _copy_file(
        self, name: str, entry: dict[str, Any], path: Path, manifest: bytes, progress: Progress
    ) -> None:
        """Copy a file; keep it only if it is as the manifest says."""
        make_folder(path.parent)
        digest, size = xxhash.xxh3_128(), 0
        with atomic.writing(path, mode=atomic.PRIVATE) as file:
            with self._remote_errors():
                stream = self._files.open_input_stream(f"{self._root}/{name}")
            with stream:
                while size <= entry["bytes"]:
                    with self._remote_errors():
                        chunk = stream.read(_CHUNK)
                    if not chunk:
                        break
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    progress.advance(len(chunk))
            if (size, digest.hexdigest()) != (entry["bytes"], entry["xxh3"]):
                raise self._differs(name, manifest)

    def _check_source(self, files: dict[str, Any], manifest: bytes) -> None:
        """Refuse a store that lacks files, before the first is copied."""
        with self._remote_errors():
            found = self._files.get_file_info(
                [f"{self._root}/{name}" for name in (JOURNAL, *files)]
            )
        if found[0].type == self._is_file:
            raise InputError(
                f"{self.url} is incomplete: its publication was interrupted. Finish it where it "
                "was made with the same `mimic-reg extract`, and upload it again."
            )
        for (name, entry), there in zip(files.items(), found[1:], strict=True):
            if there.type != self._is_file or there.size != entry["bytes"]:
                raise self._differs(name, manifest)

    def _differs(self, name: str, manifest: bytes) -> MimicRegError:
        if self._read_manifest() != manifest:
            return self._replaced()
        return InputError(
            f"{name} of the store {self.url} is missing, damaged, or still being uploaded: it does "
            f"not match {MANIFEST}. Upload the store again, the manifest last."
        )

    def _replaced(self) -> MimicRegError:
        return MimicRegError(
            f"The store {self.url} was replaced while it was copied. Run the same command again."
        )

    def _read_manifest(self) -> bytes:
        with self._remote_errors():
            (there,) = self._files.get_file_info([f"{self._root}/{MANIFEST}"])
            if there.type != self._is_file:
                raise InputError(
                    f"{self.url} is not a store: it has no {MANIFEST}. Upload the folder that "
                    "`mimic-reg extract` wrote, and give its URL."
                )
            with self._files.open_input_stream(there.path) as stream:
                content: bytes = stream.read(_MOST_MANIFEST)
        return content

    def _check(self, manifest: bytes) -> dict[str, Any]:
        """Return name → size and hash, of the files that a manifest lists."""
        with reading(Path(self.url, MANIFEST), "the manifest of a cohort store"):
            files: dict[str, Any] = json.loads(manifest)["files"]
            check_files(files)
        return files

    @contextmanager
    def _remote_errors(self) -> Iterator[None]:
        """Turn errors of reading the URL into a sentence.

        Raises:
            InputError: the URL is malformed.
            MimicRegError: it cannot be read.
        """
        try:
            yield
        except MimicRegError:
            raise
        except (ValueError, NotImplementedError) as error:  # those of pyarrow
            raise InputError(f"{self.url} cannot be used: {_first_line(error)}") from error
        except OSError as error:
            raise MimicRegError(
                f"Cannot read {self.url}: {_first_line(error)} Check the URL, the network and the "
                "credentials in the environment, such as AWS_ACCESS_KEY_ID or AWS_PROFILE."
            ) from error


def check_url(url: str) -> None:
    """Refuse a URL with credentials, or of a kind that is not read.

    Raises:
        InputError: see above; the text does not repeat credentials.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # such as a [ without its ]
        raise InputError(f"{masked(url)} cannot be used: {error}.") from error
    query = parse_qsl(parts.query, keep_blank_values=True)
    # a bucket has no port; a user is allowed where it is a container or "anonymous"
    has_password = ":" in parts.netloc or ("@" in parts.netloc and parts.scheme == "s3")
    if has_password or any(name not in OPTIONS or "@" in value for name, value in query):
        raise InputError(
            f"{masked(url)} has a user, a password or an option that is not allowed: records and "
            "logs would keep them. Give credentials in the environment, such as "
            f"AWS_ACCESS_KEY_ID or AWS_PROFILE. Options that a URL may have: {', '.join(OPTIONS)}."
        )
    if parts.scheme not in _SCHEMES or parts.fragment or not parts.netloc + parts.path:
        allowed = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        raise InputError(
            f"A store cannot be read from {masked(url)}. The URL of a store begins with {allowed}, "
            f"names its folder, and has no #. Or copy the store to this machine.{if_folder(url)}"
        )


@contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of a copy; wait for a process that makes it."""
    with atomic.open_lock(folder / ".lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"Waiting for another process, which copies a store to {folder}.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        atomic.refuse_links(folder)
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__) + "."
