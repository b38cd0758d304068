"""Read passwords and pass them to MLflow.

A secret is the value of an environment variable, or the content of the file that the variable with
`_FILE` names. It is never part of a command, which every user of the machine could read.
"""

import configparser
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from mimic_reg.errors import InputError

MINIMUM_LENGTH = 12
ADMIN = "admin"
CONFIGURATION, SECRET_KEY = "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_FLASK_SERVER_SECRET_KEY"
_ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
_MOUNTED = Path("/run/secrets")  # where Docker puts secrets


def secret(name: str) -> str:
    """Return a secret from the variable `name`, or from the file that `name`_FILE names.

    Raises:
        InputError: neither is set, or both are; see `from_file`.
    """
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if (value is None) == (file is None):
        what = "both are" if value is not None else "neither is"
        raise InputError(f"Set {name} or {name}_FILE, the path of a file with it: {what} set.")
    return checked(value, name) if value is not None else from_file(Path(file or ""))


def from_file(path: Path) -> str:
    """Return the password in a file: its first line.

    Raises:
        InputError: the file cannot be read, or others may read it; the password is too short.
    """
    lines = _private_text(path).splitlines()
    return checked(lines[0] if lines else "", str(path))


def _private_text(path: Path) -> str:
    """Return the content of a file; refuse one that other users may read or write.

    Docker mounts a secret with the owner and the mode that it has on the host. The container has
    another user, so `docker/secrets.sh` lets all users read the files, in a folder that only its
    owner may enter. A container has no other users, so a read-only mount in /run/secrets may have
    any mode.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            read_only = os.fstatvfs(file.fileno()).f_flag & os.ST_RDONLY
            if mode & 0o077 and not (read_only and path.resolve().is_relative_to(_MOUNTED)):
                raise InputError(
                    f"Others may read or change the password file {path} (its mode is {mode:04o}). "
                    f"Keep it to yourself, chmod 600 {path}, and change the password if somebody "
                    "may have seen it."
                )
            return file.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The password file {path} cannot be read: {error}.") from error


def checked(password: str, where: str) -> str:
    """Return the password; refuse one that is too short."""
    if len(password) < MINIMUM_LENGTH:
        raise InputError(
            f"The password in {where} has {len(password)} characters; it needs at least "
            f"{MINIMUM_LENGTH}, for instance those of `openssl rand -hex 24`."
        )
    return password


def for_mlflow(
    folder: Path, *, database: str, password: str, key: str | None = None
) -> dict[str, str]:
    """Return the environment of an MLflow server that asks for names and passwords.

    folder:   a private one, for the configuration
    database: of the users
    password: of the user `admin`, when the server starts for the first time
    key:      that signs its forms; None: a new one
    """
    content = configparser.ConfigParser(interpolation=None)
    content["mlflow"] = {
        "default_permission": "READ",
        "database_uri": database.replace("%", "%%"),  # MLflow reads it with interpolation
        "admin_username": ADMIN,
        "auth_cache_ttl_seconds": "60",  # else every request pays for a slow hash
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    path = folder / "basic_auth.ini"
    path.touch(mode=0o600)
    with path.open("w", encoding="utf-8") as file:
        content.write(file)
    return {
        CONFIGURATION: str(path),
        SECRET_KEY: key or secrets.token_hex(32),
        _ADMIN_PASSWORD: password,
    }


def from_environment() -> dict[str, str] | None:
    """Return MLflow's authentication from its own variables; None: they are not set.

    Raises:
        InputError: only one variable is set; the file cannot be read, or others may read it.
    """
    given = {name: os.environ[name] for name in (CONFIGURATION, SECRET_KEY) if name in os.environ}
    if len(given) == 1:
        missing = {CONFIGURATION, SECRET_KEY} - given.keys()
        raise InputError(
            f"MLflow's authentication also needs {missing.pop()}: its documentation of basic-auth "
            "tells what that holds. Or leave both out and give --password-file."
        )
    if given:
        _private_text(Path(given[CONFIGURATION]))
    return given or None


def password_file_of_postgresql(folder: Path, logins: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which PostgreSQL's clients find passwords by user name."""
    path = folder / "pgpass"
    path.touch(mode=0o600)
    lines = [f"*:*:*:{user}:{_escaped(password)}\n" for user, password in logins.items()]
    path.write_text("".join(lines), "utf-8")
    return {"PGPASSFILE": str(path)}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", "\\:")
