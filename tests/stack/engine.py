"""A hospital's machine: Podman in place of Docker, and base images made by debootstrap.

Everything lies in one folder, MIMIC_REG_STACK_FOLDER: the engine's images, volumes and networks,
wheels, a copy of the repository. Nothing of another engine on this machine is touched.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MIMIC_REG_STACK_FOLDER", "/var/tmp/mimic-reg-stack"))
CHECKOUT = FOLDER / "checkout"
MIMIC = FOLDER / "mimic-iii"  # the demo's tables, or nothing
NAMES = Path("/run/containers/networks/aardvark-dns")  # who has which address
PYTHON, POSTGRES = "localhost/python:3.11-slim-bookworm", "localhost/postgres:15-bookworm"

# crun stops at hybrid cgroups; the limits of a machine may be higher than a container may set
CONTAINERS = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{0}/tmp"
volume_path = "{0}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{0}/networks"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{0}/images"
runroot = "{0}/run"
"""
BASES = {
    PYTHON: ("python3,python3-venv,python3-pip,ca-certificates", ()),
    POSTGRES: (
        "postgresql-15,ca-certificates",
        (
            "ENV PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "ENV LANG=C.UTF-8",
            'ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]',
            "STOPSIGNAL SIGINT",
        ),
    ),
}
UNUSED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
    "var/lib/apt/lists",
)


def why_not():
    """Return why the stack cannot run here; None if it can."""
    if not os.environ.get("MIMIC_REG_STACK"):
        return "takes longer than all other tests together: `make stack`"
    if os.geteuid():
        return "needs root"
    missing = [n for n in ("podman", "runc", "netavark", "debootstrap") if not program(n)]
    return f"needs {' '.join(missing)}: apt-get install them" if missing else None


def program(name):
    """Return the path of a program or of a helper of Podman's; None: it is absent."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/lib/podman")


def configure():
    """Write the engine's configuration, and make this process and its children use it."""
    engine, programs = FOLDER / "engine", FOLDER / "bin"
    for folder in (engine, programs):
        folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("containers.conf", CONTAINERS), ("storage.conf", STORAGE)):
        (engine / name).write_text(text.format(engine))
    docker = programs / "docker"
    docker.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/stack/docker.py "$@"\n')
    docker.chmod(0o755)
    os.environ.update(
        CONTAINERS_CONF=str(engine / "containers.conf"),
        CONTAINERS_STORAGE_CONF=str(engine / "storage.conf"),
        PATH=f"{programs}:{FOLDER}/podman-compose/bin:{os.environ['PATH']}",
    )


def run(*command, **options):
    """Run a command; return what it prints, or fail with it."""
    given = {"capture_output": True, "text": True, "check": False, "timeout": 3600} | options
    done = subprocess.run([str(word) for word in command], **given)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def prepare():
    """Make what is not there yet: podman-compose, base images, wheels; then a fresh checkout."""
    configure()
    if not (FOLDER / "podman-compose" / "bin" / "podman-compose").exists():
        run(sys.executable, "-m", "venv", FOLDER / "podman-compose")
        run(FOLDER / "podman-compose/bin/pip", "install", "--quiet", "podman-compose==1.6.0")
    for name, (packages, changes) in BASES.items():
        if not exists(name):
            make_base(name, packages, changes)
    wheels = FOLDER / "wheelhouse"
    if not wheels.exists():
        run(ROOT / "docker" / "wheelhouse.sh", "cpu", wheels)
    copy_repository(wheels)


def power_cut():
    """End what a power cut ends: the engine's processes, mounts, and notes in /run. Disks stay."""
    names = run("podman", "ps", "--quiet", "--no-trunc").split()
    states = json.loads(run("podman", "inspect", *names))
    for key in ("ConmonPid", "Pid"):  # the first of them would start containers again
        for found in states:
            os.kill(found["State"][key], signal.SIGKILL)
    time.sleep(1)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    own = f"{FOLDER}/engine/"
    spaces = [found["NetworkSettings"]["SandboxKey"] for found in states]
    for place in reversed([m for m in mounts if m.startswith(own) or m in spaces]):
        run("umount", "--lazy", place)
    for found in states:
        shutil.rmtree(f"/run/runc/{found['Id']}", ignore_errors=True)
        for network in found["NetworkSettings"]["Networks"]:
            (NAMES / network).unlink(missing_ok=True)
    os.kill(int((NAMES / "aardvark.pid").read_text()), signal.SIGHUP)  # reads them again
    for line in run("iptables", "--table", "nat", "--list-rules").splitlines():
        if line.startswith(("-N NETAVARK-DN-", "-N NETAVARK-HOSTPORT-DNAT")):  # published ports
            run("iptables", "--table", "nat", "--flush", line.split()[1])
    for folder in ("run", "tmp"):
        shutil.rmtree(f"{own}{folder}")
    Path("/dev/shm/libpod_lock").unlink(missing_ok=True)


def exists(image):
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


def make_base(name, packages, changes):
    """Make a base image of Debian's packages, as small as the official ones."""
    root = FOLDER / "base" / name.partition("/")[2].partition(":")[0]
    if not (root / "usr").exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", root)
    for folder in UNUSED:
        shutil.rmtree(root / folder, ignore_errors=True)
    if name == POSTGRES:
        shutil.copy(
            ROOT / "tests" / "stack" / "postgres.sh", root / "usr/local/bin/docker-entrypoint.sh"
        )
        data = root / "var/lib/postgresql/data"
        data.mkdir(exist_ok=True, mode=0o700)
        run("chroot", root, "chown", "postgres:postgres", "/var/lib/postgresql/data")
        (root / "docker-entrypoint-initdb.d").mkdir(exist_ok=True)
        (root / "run/postgresql").chmod(0o3777)  # as in the official image
    options = [word for change in changes for word in ("--change", change)]
    tar = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    run("podman", "import", "--quiet", *options, "-", name, stdin=tar.stdout)
    assert tar.wait() == 0
    shutil.rmtree(root)


def copy_repository(wheels, commit=None):
    """Copy the files of the repository, as they are here or at a commit, to CHECKOUT."""
    for path in CHECKOUT.glob("*"):
        if path.name != "docker":
            run("rm", "-rf", path)
    CHECKOUT.mkdir(parents=True, exist_ok=True)
    if commit is None:
        listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
        present = "\n".join(n for n in listed.splitlines() if (ROOT / n).exists())
        archive = subprocess.run(
            ["tar", "-C", ROOT, "-c", "-T", "-"],
            input=present.encode(),
            capture_output=True,
            check=True,
        ).stdout
    else:
        archive = run("git", "-C", ROOT, "archive", commit, text=False)
    run("tar", "-C", CHECKOUT, "-x", input=archive, text=False)
    target = CHECKOUT / "docker" / "wheelhouse" / "cpu"
    if not target.exists():
        shutil.copytree(wheels, target, copy_function=os.link)
