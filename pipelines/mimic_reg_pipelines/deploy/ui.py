"""Start MLflow's server, on loopback by default.

Everybody who reaches MLflow's server can read and delete every run, so it answers this machine only
unless authentication is set up. It answers under its own names only, so that no other web page in
the same browser can reach it under another name (DNS rebinding).
"""

import contextlib
import ipaddress
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.store import atomic
from mimic_reg_pipelines.deploy import access
from mimic_reg_pipelines.tracking import client
from mimic_reg_pipelines.tracking.comparison import PAGES, comparison_url, sweeps
from mimic_reg_pipelines.tracking.mlflow_runs import SWEEPS, experiments

HOST = "127.0.0.1"
PORT = 5000
USERS = "mlflow-users.db"  # beside the runs
START_SECONDS = 120.0
_NAME = re.compile(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)

Authentication = Mapping[str, str]  # the environment that `mimic_reg_pipelines.deploy.access` makes


@dataclass(frozen=True)
class Server:
    """A running server: its address and its process, the leader of its process group."""

    url: str
    process: subprocess.Popen[bytes]


def command(
    uri: str,
    host: str = HOST,
    port: int = PORT,
    *,
    allowed_hosts: Sequence[str] = (),
    authentication: Authentication | None = None,
) -> list[str]:
    """Return the command that starts MLflow's server on a database; `environment` belongs to it.

    allowed_hosts:  names under which browsers reach the server, beside loopback's; required if
                    `host` is not loopback
    authentication: how it asks for user names and passwords; None: it does not ask

    Raises:
        InputError: the host is not loopback, and authentication or names are missing.
    """
    client.check(uri)
    if uri.startswith("http"):
        raise InputError(f"{client.redacted(uri)} is a server already: open it in a browser.")
    _check_host(host, allowed_hosts, authentication)
    names = [f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")]
    origins = [f"http://{name}" for name in names]
    origins += [f"{scheme}://{name}" for name in allowed_hosts for scheme in ("http", "https")]
    path = client.sqlite_path(uri)
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--app-name", "mimic-reg-passwords" if authentication else "mimic-reg"),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", ",".join([*names, *allowed_hosts])),
        *("--cors-allowed-origins", ",".join(origins)),
        *("--x-frame-options", "DENY"),
        *("--uvicorn-opts", "--log-level warning"),  # not a line a request
        *(("--artifacts-destination", str(path.parent / client.ARTIFACTS)) if path else ()),
    ]


def environment(uri: str, authentication: Authentication | None = None) -> dict[str, str]:
    """Return the server's environment: switches, and the URIs of stores, maybe with a password."""
    return {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_REGISTRY_STORE_URI": uri,
        # do not start the processes that judge answers of language models
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
        # whatever the shell has set: hosts are checked, pages and files keep their places
        "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "false",
        "MLFLOW_ENABLE_WORKSPACES": "false",
        "MLFLOW_STATIC_PREFIX": "",
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": "",
        **(authentication or {}),
    }


def _check_host(
    host: str, allowed_hosts: Sequence[str], authentication: Authentication | None
) -> None:
    for name in allowed_hosts:
        if "*" in name:
            raise InputError(
                f"{name!r} is not the name of a host: with '*' any web page can reach the server. "
                "Name each host."
            )
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name!r} is not the name of a host. Give one name, with its port if it has one: "
                "mlflow.example.org:5000."
            )
    if is_loopback(host):
        return
    if not authentication:
        raise InputError(
            f"Without authentication MLflow only answers this machine, not on {host}: everybody "
            "who reaches it can read and delete every run. Leave the host out and forward the port "
            "(ssh -L 5000:127.0.0.1:5000 …), or give --password-file."
        )
    if not allowed_hosts:
        raise InputError(
            f"On {host}, name the hosts under which browsers will reach MLflow, with the port: "
            "--allowed-host mlflow.example.org:5000."
        )


@contextlib.contextmanager
def passwords(uri: str, file: Path | None) -> Iterator[Authentication | None]:
    """Provide a server's authentication, with its users beside the runs; None: no passwords.

    file: with the password of the user `admin`; None: use MLflow's variables, if they are set

    Raises:
        InputError: the password cannot be used; the runs are not in a work folder's database.
    """
    if file is None:
        yield access.from_environment()
        return
    path = client.sqlite_path(uri)
    if path is None:
        raise InputError(
            "--password-file keeps its users beside the runs in a work folder. For "
            f"{client.redacted(uri)}, set {access.CONFIGURATION} and {access.SECRET_KEY}."
        )
    password = access.from_file(file)
    users = path.with_name(USERS)
    atomic.refuse_link(users)
    users.touch(mode=0o600)
    with tempfile.TemporaryDirectory() as folder:
        yield access.for_mlflow(Path(folder), database=f"sqlite:///{users}", password=password)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a server on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def running(
    uri: str,
    host: str = HOST,
    port: int = PORT,
    *,
    allowed_hosts: Sequence[str] = (),
    authentication: Authentication | None = None,
    output: int | None = subprocess.DEVNULL,
) -> Iterator[Server]:
    """Run MLflow's server in the block, which begins when the server answers.

    output: target of the server's messages; None: the same as ours

    Raises:
        InputError: see `command`; the port is taken.
        MimicRegError: it did not start.
    """
    full = command(uri, host, port, allowed_hosts=allowed_hosts, authentication=authentication)
    client.prepare(uri)
    _check_free(host, port)
    process = subprocess.Popen(
        full,
        env=os.environ | environment(uri, authentication),
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        url = f"http://{'127.0.0.1' if is_loopback(host) else host}:{port}"
        _wait(url, process)
        yield Server(url, process)
    finally:
        _stop(process)


def serve_ui(
    uri: str,
    host: str = HOST,
    port: int = PORT,
    *,
    allowed_hosts: Sequence[str] = (),
    authentication: Authentication | None = None,
    progress: Progress = SILENT,
) -> None:
    """Serve MLflow's pages until Ctrl-C, and print the links to the comparisons.

    Raises:
        InputError: see `running`.
        MimicRegError: it did not start, or ended by itself.
    """
    with (
        _ending_on_sigterm(),
        running(
            uri, host, port, allowed_hosts=allowed_hosts, authentication=authentication, output=None
        ) as server,
    ):
        progress.note(f"MLflow answers at {server.url} until Ctrl-C.")
        with client.answering(uri):
            for name, link in links(uri, server.url).items():
                progress.note(f"{name}: {link}")
        with contextlib.suppress(KeyboardInterrupt):
            code = server.process.wait()
            raise MimicRegError(f"MLflow's server ended by itself, with code {code}.")


@contextlib.contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that the server ends, too; only the main thread gets signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def links(uri: str, base: str) -> dict[str, str]:
    """Return name → link: for each task the latest comparison and all runs, then all results.

    The link to all runs has no view, so it works even if MLflow does not understand the view.
    """
    api, found = client.connect(uri), {}
    for name, number in experiments(uri).items():
        if name == SWEEPS:
            found["results of all sweeps"] = f"{base.rstrip('/')}/{PAGES}"
        else:
            latest = next(iter(sweeps(api, number)), None)
            found[name] = comparison_url(base, number, view=latest)
            if latest:
                found[f"{name}, all runs"] = comparison_url(base, number)
    return found


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise InputError(
                f"Port {port} of {host} cannot be used ({error.strerror}). Choose another one."
            ) from error


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise MimicRegError(f"MLflow's server did not start (code {process.returncode}).")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise MimicRegError(f"MLflow's server did not answer within {START_SECONDS:.0f} s.")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and all processes of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            return
