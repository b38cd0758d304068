"""A PostgreSQL server of a test's own: Debian's package, a free port, a user that is not root."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def unprivileged():
    """Arguments of subprocess that make a child run as nobody, if we are root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def own(path):
    """Give a folder to the user of `unprivileged`."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if user := unprivileged():
        os.chown(path, user["user"], user["group"])
    return path


def program(name):
    """A program of PostgreSQL's; the test is skipped, with the reason, where it is absent."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: p.parent.name)
    path = shutil.which(name, path=os.pathsep.join([*map(str, folders[::-1]), os.environ["PATH"]]))
    if path is None:
        pytest.skip(f"needs PostgreSQL's {name}: apt-get install postgresql")
    return path


class PostgreSQL:
    """A cluster in a folder; started, ended or killed at will."""

    def __init__(self):
        program("postgres")
        self.folder = Path(tempfile.mkdtemp(prefix="mimic-reg-postgresql-"))
        own(self.folder).chmod(0o755)
        self.data = own(self.folder / "data")
        self.sockets = own(self.folder / "sockets")
        self.port = free_port()
        self.process = None
        options = ["--auth-host=scram-sha-256", "--auth-local=trust", "--username=postgres"]
        command = [program("initdb"), "--no-sync", *options, "-D", str(self.data)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, **unprivileged(), cwd="/")

    def environment(self, user="postgres"):
        """Of clients that come by the socket."""
        return {
            **os.environ,
            "PGHOST": str(self.sockets),
            "PGPORT": str(self.port),
            "PGUSER": user,
            "PATH": os.pathsep.join([str(Path(program("psql")).parent), os.environ["PATH"]]),
        }

    def start(self):
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "fsync": "off"}
        options |= {"unix_socket_directories": self.sockets, "max_connections": 200}
        given = [text for k, v in options.items() for text in ("-c", f"{k}={v}")]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [program("postgres"), "-D", str(self.data), *given],
            stdout=log,
            stderr=log,
            cwd="/",
            **unprivileged(),
        )
        log.close()
        ready = [program("pg_isready"), "-q", "-h", str(self.sockets), "-p", str(self.port)]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                return self
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
        pytest.fail((self.folder / "log").read_text())

    def kill(self):
        """As if the power went: the children end once they notice."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # "fast": connections are ended
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
            self.process.kill()
            self.process.wait()

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def psql(self, text, database="postgres"):
        done = subprocess.run(
            ["psql", "-qtAX", "-v", "ON_ERROR_STOP=1", "-d", database],
            input=text,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def dump(self, database):
        """All of a database as text, for searching."""
        command = ["pg_dump", "--inserts", database]
        return subprocess.run(
            command, env=self.environment(), capture_output=True, check=True
        ).stdout

    def set_up(self, secrets):
        """Roles and databases, by the very script of the container."""
        subprocess.run(
            [ROOT / "docker" / "postgres.sh"],
            env=self.environment() | {"SECRETS_FOLDER": str(secrets)},
            check=True,
        )
