"""Where MLflow keeps runs: a database in the work folder, or a server."""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.store import atomic, disk_errors, make_folder

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"  # beside the database
SERVER = "MIMIC_REG_TRACKING_URI"  # the variable that names an MLflow server for all work folders

_SQLITE = "sqlite:///"
_SERVERS = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
ERRORS = (MlflowException, SQLAlchemyError, sqlite3.Error)  # of MLflow's server or database
_LEVELS = 4  # of folders that MLflow makes: of experiment and run, or model
ERROR_LENGTH = 2000  # of a text quoted from MLflow, or kept there


def database(folder: Path) -> str:
    """Return the tracking URI of a work folder: a server's if one is set, else its database's."""
    return os.environ.get(SERVER) or f"{_SQLITE}{folder.resolve() / DATABASE}"


def database_there(folder: Path) -> str:
    """Return the tracking URI of a work folder that holds runs.

    Raises:
        InputError: the folder has no database, and no server is set.
    """
    uri = database(folder)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise InputError(
            f"{folder} holds no runs: there is no {path.name}. Name their work folder."
        )
    return uri


def prepare(uri: str) -> None:
    """Create the database where it is missing; only one process does it at a time.

    A database is created completely or not at all: MLflow refuses an incomplete one for ever.

    Raises:
        InputError: the URI names neither a database nor a server; the database is damaged.
        MimicRegError: the disk is full, or the folder is read-only; another program has locked
            the database.
    """
    check(uri)
    path = sqlite_path(uri)
    if path is None:
        return
    make_folder(path.parent)
    making = path.with_name(f".{path.name}.making")
    beside = [path.with_name(f"{path.name}-{what}") for what in ("journal", "wal", "shm")]
    artifacts = path.parent / ARTIFACTS
    atomic.refuse_link(path, making, *beside, artifacts, *artifacts.glob("*"))
    with disk_errors(path.parent), alone(uri):
        if path.exists():
            check_database(path)
            return
        artifacts.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(making, ignore_errors=True)  # left by a process that was killed
        making.mkdir(mode=0o700)
        with answering(uri):
            made = making / f"{secrets.token_hex(4)}.db"  # MLflow makes one of a name only once
            _make_database(made, making / "whole.db", path.parent / ARTIFACTS)
        atomic.sync_file(making / "whole.db")  # SQLite does not sync what VACUUM writes
        (making / "whole.db").replace(path)
        atomic.sync_folder(path.parent)
        shutil.rmtree(making)


def _make_database(made: Path, whole: Path, artifacts: Path) -> None:
    """Create MLflow's empty database in `made`, and a copy in `whole` that MLflow has not opened.

    Experiment 0 keeps its artifacts beside those of all others, not where the command was started.
    """
    with quiet():
        connect(f"{_SQLITE}{made}").search_experiments(max_results=1)
    with contextlib.closing(sqlite3.connect(made)) as database:
        with database:
            place = str(artifacts / "0")
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (place,)
            )
        database.execute("VACUUM INTO ?", (str(whole),))
    whole.chmod(0o600)


LOCK_SECONDS = 5.0  # other sweeps write for milliseconds
_OURS = {"alembic_version", "experiments", "runs", "metrics", "tags"}  # tables that MLflow makes
_checked: set[tuple[int, int, Path]] = set()


def check_database(path: Path) -> None:
    """Check once in a process that MLflow can use an SQLite database; MLflow itself would crash.

    Raises:
        InputError: the file is damaged, or is not MLflow's.
        MimicRegError: another program has locked the file.
    """
    found = path.stat()
    key = found.st_dev, found.st_ino, path.resolve()
    if key in _checked:
        return
    try:
        tables = _tables(path)
        if tables >= _OURS:
            _follow_move(path, tables)
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise _damaged(path, str(error)) from error
        raise MimicRegError(
            f"{path} is locked by another program for more than {LOCK_SECONDS:.0f} s. End what "
            "has it open, and run the same command again."
        ) from error
    except (sqlite3.Error, ValueError) as error:  # text that is not UTF-8 raises ValueError
        raise _damaged(path, str(error)) from error
    if not tables >= _OURS:
        raise _damaged(path, "it has no tables of MLflow: another program wrote it")
    _checked.add(key)


_PLACES = {  # table → column with a location of artifacts
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def _follow_move(path: Path, tables: set[str]) -> None:
    """Make the database of a moved or copied work folder name the artifacts beside it.

    MLflow keeps absolute paths: it would read and write where the folder was before.
    """
    here = f"{path.parent.resolve() / ARTIFACTS}/"
    with contextlib.closing(sqlite3.connect(path, timeout=LOCK_SECONDS)) as opened, opened:
        places = [row[0] for row in opened.execute("SELECT artifact_location FROM experiments")]
        moved = _moved_from([str(place) for place in places], here)
        for old in moved:
            for table in _PLACES.keys() & tables:
                column = _PLACES[table]
                opened.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE substr({column}, 1, ?) = ?",
                    (here, len(old) + 1, len(old), old),
                )
    if moved:
        atomic.sync_folder(path.parent)


def _moved_from(places: list[str], here: str) -> list[str]:
    """Return the former artifact folders of experiments whose whole content is in `here` now."""
    found: dict[str, bool] = {}
    for place in places:
        work, artifacts, name = place.rpartition(f"/{ARTIFACTS}/")
        old = work + artifacts
        if artifacts and work.startswith("/") and old != here:
            is_here = Path(here, name).is_dir() or not Path(place).exists()
            found[old] = found.get(old, True) and is_here
    return [old for old, is_here in found.items() if is_here]


def check_usable(uri: str) -> None:
    """Check an existing database as `check_database` does; do nothing for a server."""
    path = sqlite_path(uri)
    if path is not None and path.exists():
        check_database(path)


def _tables(path: Path) -> set[str]:
    """Return the tables of a database; raise `sqlite3.Error` if it is damaged or read-only."""
    uri = f"{path.resolve().as_uri()}?mode=rw"
    with contextlib.closing(
        sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS, isolation_level=None)
    ) as opened:
        opened.text_factory = lambda text: text.decode("utf-8", "replace")
        ((verdict, *_),) = opened.execute("PRAGMA quick_check(1)").fetchall()
        if verdict != "ok":
            raise sqlite3.DatabaseError(str(verdict))
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("ROLLBACK")
        return {name for (name,) in opened.execute("SELECT name FROM sqlite_master")}


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        f"{path} is not a sound database of MLflow ({why}). Bring it back from a backup, or move "
        "it away: what was trained is in the run folders, and the same sweep logs it anew."
    )


def check(uri: str) -> None:
    """Refuse a tracking URI that MLflow cannot keep runs in.

    Raises:
        InputError: the URI names a folder of files, or a store of another kind.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.partition("+")[0] in _SERVERS:
        return
    folder = uri.removeprefix("file:").removeprefix("//") or "."
    raise InputError(
        f"The tracking URI is {redacted(uri)!r}; MLflow no longer keeps runs in folders of files. "
        f"Give a database, as {_SQLITE}{Path(redacted(folder)).absolute() / DATABASE}, or a "
        "server, as http://127.0.0.1:5000."
    )


def connect(uri: str) -> MlflowClient:
    """Return MLflow's client of a store, for runs and for the registry.

    Raises:
        InputError: the URI names neither a database nor a server.
    """
    check(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn errors of MLflow's server or database in the block into one that says what to do.

    Raises:
        MimicRegError: MLflow does not answer, or cannot write; the text quotes no password.
    """
    try:
        yield
    except ERRORS as error:
        raise MimicRegError(
            f"MLflow at {redacted(uri)} failed: {said(error)}. What was trained is in the run "
            "folders: run the same command again once that is mended."
        ) from error


def said(error: BaseException) -> str:
    """Return the first line of an error's text, without what may be secret in it."""
    return redacted(str(error).partition("\n")[0])[:ERROR_LENGTH]


def redacted(text: str) -> str:
    """Return a line whose URLs have no name, password and query: all that may be secret.

    A password may have any character, so more may be hidden than one.
    """
    text = re.sub(r"(\w://).*\?.*@\S*", r"\1…", text)  # which of both has the @?
    text = re.sub(r"(\w://).*@", r"\1…@", text)
    return re.sub(r"(\w://[^\s?]*\?)\S+", r"\1…", text)


def without_login(uri: str) -> str:
    """Return a URI without the name and the password in it."""
    return re.sub(r"://[^/@]*@", "://", uri)


@contextlib.contextmanager
def default(uri: str) -> Iterator[None]:
    """Set MLflow's default store for the block: parts of its registry ignore the client's."""
    was_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if was_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: as if it was never set


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Run the block while no other process of this machine is in one; a server is not locked."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with locked(path.with_name(f"{path.name}.lock")):
        yield
        settle(uri)


def settle(uri: str) -> None:
    """Sync the end of the last transaction to the disk.

    SQLite removes its journal at the end, but does not sync the folder: after a power cut the
    journal would be back, and the transaction undone.
    """
    if path := sqlite_path(uri):
        atomic.sync_folder(path.parent)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Run the block while no other process holds the lock."""
    with atomic.open_lock(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync_artifacts(place: str) -> None:
    """Sync what MLflow wrote below `place` to the disk, if that is a folder of this machine.

    A server syncs what it is sent.
    """
    parts = urlsplit(place)
    if parts.scheme in ("", "file"):
        folder = Path(unquote(parts.path))
        if folder.is_dir():
            atomic.sync_tree(folder)
            for above in islice(folder.parents, _LEVELS):
                atomic.sync_folder(above)


def sqlite_path(uri: str) -> Path | None:
    """Return the path of an SQLite database; None for other stores."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what MLflow logs of each table and each check, within the block."""
    names = ("mlflow", "mlflow.store.db.utils", "mlflow.pyfunc", "alembic")
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
