"""The services of compose.yaml on this machine: its environments and commands, real servers.

What a container would give is stood in for: a user that is not root, a folder for /app with a
`work` that can be written, /tmp, and other names and ports for the services.
"""

import base64
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from tests.postgresql import ROOT, PostgreSQL, free_port, own

COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text("utf-8"))
IN_THE_IMAGE = ("mimic_reg", "pipelines", "configs", "docker", "prefect.yaml")


# A container's view, where root may make one: root's home can be passed through, what is not named
# cannot be written, and the process is nobody, without any right to become somebody else.
AS_IN_A_CONTAINER = """
spare=$1; secrets=$2; shift 2
mount -t tmpfs tmpfs "$spare"
mkdir "$spare/upper" "$spare/work"
mount -t overlay overlay -o "lowerdir=$HOME,upperdir=$spare/upper,workdir=$spare/work" "$HOME"
chmod 711 "$HOME"
mount -t tmpfs tmpfs /run
mkdir /run/secrets
mount --bind "$secrets" /run/secrets
mount -o remount,bind,ro /run/secrets
while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done
shift
mount -o remount,bind,ro /
exec setpriv --reuid nobody --regid nogroup --clear-groups --bounding-set=-all --no-new-privs "$@"
"""


def image_environment():
    """ENV of the Dockerfile."""
    text = (ROOT / "docker" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    (line,) = re.findall(r"^ENV (.*)$", text, re.M)
    return dict(pair.split("=", 1) for pair in line.split())


def request(url, login=None, method="GET", body=None, **headers):
    """Status and text of an answer."""
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    asked = urllib.request.Request(url, body, headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


class Stack:
    """PostgreSQL and whatever services a test starts."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="mimic-reg-stack-"))
        own(self.folder)
        self.app, self.logs = own(self.folder / "app"), own(self.folder / "logs")
        self.spare = own(self.folder / "spare")
        self.home = own(self.folder / "tmp")
        for name in IN_THE_IMAGE:
            (self.app / name).symlink_to(ROOT / name)
        self.work, self.artifacts = own(self.app / "work"), own(self.app / "artifacts")
        self.secrets = self.folder / "secrets"
        subprocess.run(
            [ROOT / "docker" / "secrets.sh", self.secrets], check=True, stdout=subprocess.DEVNULL
        )
        if os.geteuid():  # nothing is mounted: the files themselves are read, by their owner
            for path in self.secrets.iterdir():
                path.chmod(0o400)
        else:
            self.secrets.chmod(0o755)  # Docker's daemon mounts the files; nobody else gets to them
        self.postgresql = PostgreSQL()
        self.ports = {name: free_port() for name in ("prefect", "mlflow", "worker")}
        self.running = {}

    def secret(self, name):
        return (self.secrets / name).read_text().strip()

    def url(self, service):
        return f"http://127.0.0.1:{self.ports[service]}"

    def environment(self, service):
        """As the container would have it."""
        given = image_environment() | COMPOSE["services"][service]["environment"]
        replaced = {
            "/tmp": str(self.home),  # first: the folders of the others are in /tmp, too
            "/run/secrets/": f"{self.secrets}/" if os.geteuid() else "/run/secrets/",
            "/app": str(self.app),
            "http://prefect:4200": self.url("prefect"),
            "http://mlflow:5000": self.url("mlflow"),
        }
        for old, new in replaced.items():
            given = {name: value.replace(old, new) for name, value in given.items()}
        given = {name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", v) for name, v in given.items()}
        given |= {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'pipelines'}",
            "TMPDIR": str(self.home),
            "OMP_NUM_THREADS": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",  # ten would be waited for
            "MIMIC_REG_POSTGRES": f"127.0.0.1:{self.postgresql.port}",
            "MIMIC_REG_HOST": "127.0.0.1",
        }
        role = COMPOSE["services"][service]["command"][0]
        if role in self.ports:
            given["MIMIC_REG_PORT"] = str(self.ports[role])
            health = COMPOSE["services"][service]["environment"]["MIMIC_REG_HEALTH"]
            given["MIMIC_REG_HEALTH"] = re.sub(r":\d+/", f":{self.ports[role]}/", health)
        return given

    def command(self, *arguments):
        command = [sys.executable, "-m", "mimic_reg_pipelines.deploy.container", *arguments]
        if os.geteuid():
            return command
        writable = (self.work, self.artifacts, self.home)
        places = [str(path) for path in (self.spare, self.secrets, *writable)]
        shell = ["unshare", "--mount", "env", f"HOME={Path.home()}", "sh", "-ec"]
        return [*shell, AS_IN_A_CONTAINER, "sh", *places, "--", *command]

    def start(self, service):
        """Start a server, or the worker, in a group of its own."""
        log = (self.logs / service).open("ab")
        self.running[service] = subprocess.Popen(
            self.command(*COMPOSE["services"][service]["command"]),
            cwd=self.app,
            env=self.environment(service),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()

    def wait(self, service, seconds=120):
        """Until its health check says so: the one of the image."""
        end = time.monotonic() + seconds
        while self.run("health", service=service).returncode:
            assert self.running[service].poll() is None, self.log(service)
            assert time.monotonic() < end, self.log(service)
            time.sleep(0.3)

    def run(self, *arguments, service="cli", **changes):
        """Run a command to its end, as `docker compose run cli` does."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.app,
            env=self.environment(service) | changes,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def log(self, service):
        return (self.logs / service).read_text("utf-8", "replace")

    def signal(self, service, number):
        """To the whole group of a service."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[service].pid, number)

    def stop(self, service):
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(service, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.running[service].wait(15)
        del self.running[service]

    def up(self):
        """Databases, servers, set-up: what `docker compose up` does before the worker."""
        self.postgresql.start()
        self.postgresql.set_up(self.secrets)
        for service in ("prefect", "mlflow"):
            self.start(service)
        for service in ("prefect", "mlflow"):
            self.wait(service)
        done = self.run(*COMPOSE["services"]["setup"]["command"], service="setup")
        assert done.returncode == 0, done.stdout + done.stderr

    def down(self):
        for service in reversed(list(self.running)):
            self.stop(service)
        self.postgresql.remove()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


@contextlib.contextmanager
def stack():
    """A stack that ends with the block."""
    made = Stack()
    try:
        yield made
    except Exception as error:
        for service in made.running:
            error.add_note(f"--- {service}\n{made.log(service)[-4000:]}")
        raise
    finally:
        made.down()
