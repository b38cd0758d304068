"""What a container could reach, write or become, tried from within."""

import json
import os
import re
import subprocess

import pytest

from tests.docker.stack import COMPOSE
from tests.stack import engine, hospital

SERVICES = ("postgres", "prefect", "mlflow", "gate", "worker-cpu")
INSIDE = tuple(name for name in SERVICES if name != "gate")
SECRETS = {n: set(COMPOSE["services"][n].get("secrets", ())) for n in SERVICES}
CONNECT = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), 3).close()
        print("reached", address)
    except OSError as error:
        print("refused", address, error)
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, 53))
        print("sent", address)
    except OSError as error:
        print("unsent", address, error)
"""
BY_SHELL = "for a in {}; do (exec 3<>/dev/tcp/${{a%:*}}/${{a#*:}}) 2>&1 && echo reached $a; done; :"
# what the engine itself mounts for writing; the rest is compose.yaml's
OF_PODMAN = {"/dev", "/dev/shm", "/dev/mqueue", "/dev/pts"}
OF_KERNEL = ("/proc", "/sys")


def execute(service, *command, user=None):
    """What a command prints in a running container, with its errors."""
    name, _ = hospital.of(service)
    as_user = [f"--user={user}"] if user else []
    done = subprocess.run(
        ["podman", "exec", *as_user, name, *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def planted(running):
    """A server on another network, its address, and a counter of packets that leave a subnet."""
    subprocess.run(["podman", "rm", "--force", "--time=0", "planted"], check=False)
    subprocess.run(["podman", "network", "rm", "--force", "planted"], check=False)
    engine.run("podman", "network", "create", "planted")
    server = ("python3", "-m", "http.server", "8000")
    engine.run(
        "podman", "run", "--detach", "--name=planted", "--network=planted", engine.PYTHON, *server
    )
    address = engine.run(
        *(
            "podman",
            "inspect",
            "--format={{.NetworkSettings.Networks.planted.IPAddress}}",
            "planted",
        )
    ).strip()
    rules = []

    def count(network):
        (found,) = json.loads(engine.run("podman", "network", "inspect", network))
        subnet = found["subnets"][0]["subnet"]
        rule = ["FORWARD", "--source", subnet, "!", "--destination", subnet]
        if rule not in rules:
            engine.run("iptables", "--insert", *rule)
            rules.append(rule)
        lines = engine.run("iptables", "--list", "FORWARD", "-nvx").splitlines()
        return next(int(line.split()[0]) for line in lines if f" {subnet} " in line)

    yield f"{address}:8000", count
    for rule in rules:
        engine.run("iptables", "--delete", *rule)
    subprocess.run(["podman", "rm", "--force", "--time=0", "planted"], check=False)
    subprocess.run(["podman", "network", "rm", "planted"], check=False)


def test_nobody_inside_reaches_another_network(planted):
    address, count = planted
    count("mimic-reg_inside")
    for service in INSIDE:
        targets = [address, "192.0.2.1:80", "1.1.1.1:443"]
        if service == "postgres":
            text = execute(service, "bash", "-c", BY_SHELL.format(" ".join(targets)))
        else:
            text = execute(service, "python", "-c", CONNECT, *targets)
        assert not re.search("^(reached|sent)", text, re.M), (service, text)
        assert text.count("unreachable") >= len(targets), (service, text)
        routes = [line.split() for line in execute(service, "cat", "/proc/net/route").splitlines()]
        assert not [route for route in routes if route[1] == "00000000"], service
    assert count("mimic-reg_inside") == 0


def test_the_counter_and_the_planted_server_work(planted):
    address, count = planted
    other = ("podman", "run", "--rm", "--network=mimic-reg_pages", engine.PYTHON)
    before = count("mimic-reg_pages")
    done = subprocess.run(
        [*other, "python3", "-c", CONNECT, address], capture_output=True, text=True, check=False
    )
    assert "reached" in done.stdout
    assert count("mimic-reg_pages") > before


def test_names_lead_to_services_only(running):
    look = "import socket; print(socket.gethostbyname('{}'))"
    assert re.match(r"10\.", execute("worker-cpu", "python", "-c", look.format("mlflow")))
    assert "gaierror" in execute("worker-cpu", "python", "-c", look.format("example.org"))


@pytest.mark.parametrize("service", SERVICES)
def test_roots_are_read_only(running, service):
    mounts = [line.split() for line in execute(service, "cat", "/proc/mounts").splitlines()]
    writable = {m[1] for m in mounts if "rw" in m[3].split(",") and not m[1].startswith(OF_KERNEL)}
    volumes = {
        v.split(":")[1] for v in COMPOSE["services"][service].get("volumes", ())
        if isinstance(v, str) and not v.endswith(":ro")
    }  # fmt: skip
    temporary = {
        t.split(":")[0].replace("/var/run", "/run") for t in COMPOSE["services"][service]["tmpfs"]
    }
    assert {m for m in writable if not m.startswith("/etc/") and m != "/run/.containerenv"} <= (
        volumes | temporary | OF_PODMAN
    )
    for user in (None, "0"):
        for place in ("/", "/etc", "/usr/bin", "/app", "/opt/venv/bin"):
            text = execute(service, "sh", "-c", f"test ! -e {place} || : > {place}/x", user=user)
            assert not text or "Read-only" in text, (service, place)
            assert text or place in ("/app", "/opt/venv/bin"), (service, place)


@pytest.mark.parametrize("service", SERVICES)
def test_processes_have_no_right_to_become_more(running, service):
    text = execute(service, "sh", "-c", "cat /proc/[0-9]*/status")
    assert set(re.findall(r"^Cap\w+:\t(\w+)$", text, re.M)) == {"0000000000000000"}
    assert set(re.findall(r"^NoNewPrivs:\t(\d)$", text, re.M)) == {"1"}
    users = set(re.findall(r"^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", text, re.M))
    (user,) = users
    assert len(set(user)) == 1
    assert user[0] != "0"


def test_no_setuid_file_works(running):
    """One is planted in the work volume: it says who it runs as."""
    volume = engine.run("podman", "volume", "inspect", "--format={{.Mountpoint}}", "mimic-reg_work")
    planted = f"{volume.strip()}/planted"
    engine.run("cp", "/usr/bin/id", planted)
    try:
        os.chown(planted, 0, 0)
        os.chmod(planted, 0o4755)
        assert "euid=0" not in execute("worker-cpu", "/app/work/planted")
        assert "uid=10001" in execute("worker-cpu", "/app/work/planted")
        control = (
            "podman",
            "run",
            "--rm",
            "--user=10001",
            "--volume=mimic-reg_work:/w:rw,suid,exec",
        )
        assert "euid=0" in engine.run(*control, engine.PYTHON, "/w/planted")  # it would have worked
    finally:
        os.unlink(planted)


def test_secrets_are_where_they_belong_only(running):
    """Not in inspect, logs, images, commands; in a process only where its service has them."""
    values = {name: hospital.secret(name) for name in COMPOSE["secrets"]}
    for service in (*SERVICES, "setup"):
        name, _ = hospital.of(service)
        shown = engine.run("podman", "inspect", name)
        logs = subprocess.run(["podman", "logs", name], capture_output=True, text=True, check=False)
        shown += logs.stdout + logs.stderr
        if service != "setup":
            shown += execute(service, "env") + execute(service, "sh", "-c", "cat /proc/*/cmdline")
            environments = execute(service, "sh", "-c", "cat /proc/*/environ 2>&1")
            held = {name for name, value in values.items() if value in environments}
            assert held <= SECRETS[service], service
            listed = execute(service, "ls", "/run/secrets") if SECRETS[service] else ""
            assert set(listed.split()) == SECRETS[service]
        assert not [n for n, value in values.items() if value in shown], service
    image = engine.run("podman", "history", "--no-trunc", "mimic-reg:cpu")
    image += engine.run("podman", "inspect", "mimic-reg:cpu")
    assert not [n for n, value in values.items() if value in image]


def test_files_are_for_their_owner(running):
    hospital.inside("mkdir -p work/private && echo secret > work/private/file", service="cli")
    script = "cat /app/work/private/file; ls /app/work; ls /proc/1/fd; cat /proc/1/environ"
    text = execute("worker-cpu", "sh", "-c", script, user="12345")
    assert "secret" not in text
    assert text.count("Permission denied") == 4
    assert "No such file" in execute("mlflow", "ls", "/app/work/private")
    assert not execute("mlflow", "ls", "/app/work")  # the image's empty folder, not the volume


def test_mimic_cannot_be_changed(running):
    for user in (None, "0"):
        text = execute("worker-cpu", "sh", "-c", ": > /app/data/mimic-iii/x", user=user)
        assert "Read-only file system" in text
