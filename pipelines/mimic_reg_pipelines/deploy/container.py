"""The program of the containers in docker/compose.yaml: two servers, set-up, worker, commands.

The first argument chooses: prefect, mlflow, gate, setup, worker or health; other arguments go to
`mimic-reg`. A server replaces this process (exec), so that signals reach it. Secrets come from
files or variables (`access.secret`), and are passed on in files and variables of the process.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg_pipelines.deploy import access

PREFECT_USER = "mimic-reg"
WORKER = "worker"  # its name in MLflow
POOL = "mimic-reg"
ROUTES = ("4200=prefect:4200", "5000=mlflow:5000")
HISTORY = "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD"  # PREFECT_HISTORY of docker/.env
AUTOMATIONS = Path(__file__).parents[3] / "docker" / "automations.yaml"

_EVERYWHERE = "0.0.0.0"  # of the container: compose.yaml says who reaches it


def main(arguments: list[str]) -> int:
    """Run what the arguments say, and return the exit code."""
    os.umask(0o077)
    role, *rest = arguments or ["--help"]
    try:
        if role == "health":
            return health(*rest)
        if role == "setup":
            return setup()
        if role in _SERVERS:
            command, environment = _SERVERS[role]()
            os.environ.update(environment)
            if role == "worker":
                from mimic_reg_pipelines.flows import dead_runs

                dead_runs.end(POOL)
            os.execv(command[0], command)  # does not return
        if "MIMIC_REG_TRACKING_URI" in os.environ:  # with `docker run` alone there are no servers
            os.environ.update(as_client())
    except MimicRegError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    from mimic_reg import cli  # only here: health checks, the gate and servers start without it

    sys.argv = ["mimic-reg", role, *rest]
    cli.main()
    return 0


def prefect_server() -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of Prefect's server.

    Raises:
        InputError: a password is missing; without it the server would answer everybody. Or the time
            to keep flow runs is one at which the server would stop with a traceback.
    """
    kept = os.environ.get(HISTORY, "3601")
    if not (kept.isdecimal() and 3600 < int(kept) < 10**9):
        raise InputError(
            f"PREFECT_HISTORY is '{kept}'; it must be seconds, a whole number above 3600 (an hour)."
        )
    api = access.secret("MIMIC_REG_PREFECT_PASSWORD")
    environment = {
        "PREFECT_SERVER_API_AUTH_STRING": f"{PREFECT_USER}:{api}",
        "PREFECT_API_AUTH_STRING": f"{PREFECT_USER}:{api}",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": _database("postgresql+asyncpg", "prefect"),
        "PREFECT_SERVER_UI_API_URL": "/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",
        **_passwords_of_databases(prefect="MIMIC_REG_PREFECT_DATABASE_PASSWORD"),
    }
    command = _python("prefect", "server", "start", "--host", _host(), "--port", _port("4200"))
    return command, environment


def mlflow_server() -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of MLflow's server.

    Raises:
        InputError: a password is missing.
    """
    from mimic_reg_pipelines.deploy import ui

    port = _port("5000")
    names = os.environ.get("MIMIC_REG_MLFLOW_HOSTS", "").split(",")
    hosts = [f"mlflow:{port}", *filter(None, (name.strip() for name in names))]
    authentication = access.for_mlflow(
        _private_folder(),
        database=_database("postgresql", "mlflow_users", user="mlflow"),
        password=access.secret("MIMIC_REG_MLFLOW_PASSWORD"),
        key=access.secret("MIMIC_REG_MLFLOW_KEY"),
    )
    uri = _database("postgresql", "mlflow")
    command = ui.command(
        uri, _host(), int(port), allowed_hosts=hosts, authentication=authentication
    )
    artifacts = os.environ.get("MIMIC_REG_ARTIFACTS", "artifacts")
    command += ["--serve-artifacts", "--artifacts-destination", artifacts]
    environment = ui.environment(uri, authentication)
    environment |= _passwords_of_databases(mlflow="MIMIC_REG_MLFLOW_DATABASE_PASSWORD")
    return command, environment


def worker() -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of Prefect's worker, which trains."""
    command = _python("prefect", "worker", "start", "--pool", POOL, "--limit", "1")
    environment = {
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_WEBSERVER_PORT": _port("8080"),
        **as_client(),
    }
    return [*command, "--with-healthcheck"], environment


def gate() -> tuple[list[str], dict[str, str]]:
    """Return the command of the gate, through which browsers reach the two servers."""
    return _python("mimic_reg_pipelines.deploy.gate", *ROUTES), {}


_SERVERS = {"prefect": prefect_server, "mlflow": mlflow_server, "worker": worker, "gate": gate}


def as_client() -> dict[str, str]:
    """Return the environment of a program that uses both servers.

    Raises:
        InputError: a password is missing.
    """
    password = access.secret("MIMIC_REG_PREFECT_PASSWORD")
    return {
        "PREFECT_API_AUTH_STRING": f"{PREFECT_USER}:{password}",
        "MLFLOW_TRACKING_USERNAME": WORKER,
        "MLFLOW_TRACKING_PASSWORD": access.secret("MIMIC_REG_WORKER_PASSWORD"),
    }


def setup() -> int:
    """Create or renew the work pool, deployments, automations and the worker's user of MLflow.

    Raises:
        MimicRegError: a server refuses.
    """
    os.environ.update(as_client())
    _prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    _prefect("deploy", "--all")
    from mimic_reg_pipelines.flows.automations import put

    put(AUTOMATIONS)
    tracking = os.environ["MIMIC_REG_TRACKING_URI"]
    admin = (access.ADMIN, access.secret("MIMIC_REG_MLFLOW_PASSWORD"))
    put_user(tracking, admin, WORKER, os.environ["MLFLOW_TRACKING_PASSWORD"])
    return 0


def _prefect(*arguments: str) -> None:
    done = subprocess.run(_python("prefect", "--no-prompt", *arguments), check=False)
    if done.returncode:
        raise MimicRegError(f"`prefect {' '.join(arguments)}` failed; it says why above.")


def put_user(url: str, admin: tuple[str, str], name: str, password: str) -> None:
    """Create a user of MLflow's server, or set the password of an existing one."""
    users = f"{url}/api/2.0/mlflow/users"
    try:
        _send(f"{users}/get?username={name}", admin)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise MimicRegError(f"MLflow's server answers {error.code}, {error.reason}.") from error
        _send(f"{users}/create", admin, "POST", {"username": name, "password": password})
        return
    _send(f"{users}/update-password", admin, "PATCH", {"username": name, "password": password})


def _send(
    url: str, login: tuple[str, str], method: str = "GET", content: Mapping[str, str] | None = None
) -> None:
    token = base64.b64encode(":".join(login).encode()).decode()
    headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
    body = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, body, headers, method=method)
    with urllib.request.urlopen(request, timeout=60):
        pass


def health(url: str | None = None) -> int:
    """Return 0 if a server answers at the URL or, without a URL, if the work folder is writable."""
    url = url or os.environ.get("MIMIC_REG_HEALTH")
    if url is None:
        return 0 if os.access("work", os.W_OK) else 1
    try:
        with urllib.request.urlopen(url, timeout=10):
            return 0
    except OSError as error:
        print(f"{url}: {error}", file=sys.stderr)  # noqa: T201
        return 1


def _python(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _host() -> str:
    return os.environ.get("MIMIC_REG_HOST", _EVERYWHERE)


def _port(default: str) -> str:
    return os.environ.get("MIMIC_REG_PORT", default)


def _database(dialect: str, name: str, user: str | None = None) -> str:
    place = os.environ.get("MIMIC_REG_POSTGRES", "postgres:5432")
    return f"{dialect}://{user or name}@{place}/{name}"


def _passwords_of_databases(**variables: str) -> dict[str, str]:
    logins = {user: access.secret(variable) for user, variable in variables.items()}
    return access.password_file_of_postgresql(_private_folder(), logins)


def _private_folder() -> Path:
    """Return a new folder in /tmp for this user; it exists as long as the container."""
    return Path(tempfile.mkdtemp(prefix="mimic-reg-"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
