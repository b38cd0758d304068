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
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.storage import disk_errors, make_folder

DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"  # beside the database
SERVER = "MIMIC_REG_TRACKING_URI"  # the variable that names an MLflow server for all work folders

_SQLITE = "sqlite:///"
_SERVERS = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
ERROR_LENGTH = 2000  # of a text quoted from MLflow, or kept there


def database(folder: Path) -> str:
    """The tracking URI of a work folder: that of a server, if one is set, else of its database."""
    return os.environ.get(SERVER) or f"{_SQLITE}{folder.resolve() / DATABASE}"


def database_there(folder: Path) -> str:
    """The tracking URI of a work folder that holds runs.

    Raises:
        InputError: it has no database, and no server is set.
    """
    uri = database(folder)
    path = sqlite_path(uri)
    if path is not None and not path.is_file():
        raise InputError(
            f"{folder} holds no runs: there is no {path.name}. Name their work folder."
        )
    return uri


def prepare(uri: str) -> None:
    """Create the database, once: several processes at its first use would race.

    It is there whole or not at all: MLflow would refuse one whose making was cut off, for ever.

    Raises:
        InputError: a URI that is no database and no server.
        MimicRegError: the disk is full, or the folder cannot be written.
    """
    check(uri)
    path = sqlite_path(uri)
    if path is None:
        return
    make_folder(path.parent)
    with disk_errors(path.parent), alone(uri):
        if path.exists():
            return
        (path.parent / ARTIFACTS).mkdir(exist_ok=True, mode=0o700)
        making = path.with_name(f".{path.name}.making")
        shutil.rmtree(making, ignore_errors=True)  # somebody's who was killed
        making.mkdir(mode=0o700)
        with answering(uri):
            made = making / f"{secrets.token_hex(4)}.db"  # MLflow makes one of a name only once
            _make_database(made, making / "whole.db", path.parent / ARTIFACTS)
        (making / "whole.db").replace(path)
        shutil.rmtree(making)


def _make_database(made: Path, whole: Path, artifacts: Path) -> None:
    """MLflow's empty database, and a copy that MLflow has no hand on.

    Its experiment 0 keeps artifacts beside those of all others, not where the command was started.
    """
    with quiet():
        client(f"{_SQLITE}{made}").search_experiments(max_results=1)
    with contextlib.closing(sqlite3.connect(made)) as database:
        with database:
            place = str(artifacts / "0")
            database.execute(
                "UPDATE experiments SET artifact_location = ? WHERE experiment_id = 0", (place,)
            )
        database.execute("VACUUM INTO ?", (str(whole),))
    whole.chmod(0o600)


def check(uri: str) -> None:
    """Refuse what MLflow cannot keep runs in.

    Raises:
        InputError: a folder of files, or a store of another kind.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.partition("+")[0] in _SERVERS:
        return
    folder = uri.removeprefix("file:").removeprefix("//") or "."
    raise InputError(
        f"The tracking URI is {uri!r}; MLflow no longer keeps runs in folders of files. Give a "
        f"database, as {_SQLITE}{Path(folder).absolute() / DATABASE}, or a server, as "
        "http://127.0.0.1:5000."
    )


def client(uri: str) -> MlflowClient:
    """MLflow's client of a store, for runs and for the registry.

    Raises:
        InputError: a URI that is no database and no server.
    """
    check(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Say plainly that MLflow's server or database does not answer, or cannot write.

    Raises:
        MimicRegError: it does not; the text quotes no password.
    """
    try:
        yield
    except (MlflowException, sqlite3.Error) as error:
        text = str(error).partition("\n")[0][:ERROR_LENGTH]
        raise MimicRegError(
            f"MLflow at {redacted(uri)} failed: {text}. What was trained is in the run folders: "
            "run the same command again once that is mended."
        ) from error


def redacted(uri: str) -> str:
    """A URI without the password in it."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1:…@", uri)


@contextlib.contextmanager
def default(uri: str) -> Iterator[None]:
    """MLflow's own default store, which parts of its registry use whatever the client says."""
    was_set = mlflow.is_tracking_uri_set()  # type: ignore[no-untyped-call]
    before = mlflow.get_tracking_uri() if was_set else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)  # type: ignore[arg-type]  # None: as if it was never set


@contextlib.contextmanager
def alone(uri: str) -> Iterator[None]:
    """Wait until no other process of this machine is in here; a server is not locked."""
    path = sqlite_path(uri)
    if path is None:
        yield
        return
    with locked(path.with_name(f"{path.name}.lock")):
        yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sqlite_path(uri: str) -> Path | None:
    """Where an SQLite database lies; None for others."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what MLflow logs of every table and every check that it makes."""
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
