"""Containers that die, disks that are full, settings that are wrong: what is left, what is said."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.stack import engine, hospital
from tests.stack.docker import containers, healthy

OTHER = "wrong-but-long-enough"
RATES = {"killed": 0.01, "dark": 0.02}
VICTIMS = ("worker-cpu", "postgres", "prefect", "mlflow", "gate")


@pytest.fixture(scope="module")
def store(running):
    """Twice a store in a work folder, for the disturbed sweeps and for the undisturbed ones."""
    hospital.compose("run --rm cli synthesize --out work/raw-small --patients 60 --overwrite")
    hospital.compose("run --rm cli extract --source work/raw-small --out work/small --force")
    for name, rate in RATES.items():
        copy = "for d in {0} {0}-calm; do rm -rf $d; mkdir $d; cp -r small $d/store; done"
        hospital.inside(f"cd work; {copy.format(name)}")
        experiment = hospital.EXPERIMENT.replace("rate: 0.01", f"rate: {rate}")
        experiment = experiment.replace("max_epochs: 3", "max_epochs: 40")  # there is time to kill
        hospital.inside(f"cat > work/{name}.yaml", input=experiment)


def calm(name):
    """The scores of a sweep that nobody disturbs, and that no server knows of."""
    where = "-e MIMIC_REG_TRACKING_URI=sqlite:////tmp/calm.db"
    sweep = f"sweep --config work/{name}.yaml --out work/{name}-calm"
    hospital.compose(f"run --rm -T {where} cli {sweep}")
    found = scores(f"{name}-calm")
    assert len(found) == 4
    return found


def started(folder):
    """Start a sweep on the worker; return its flow run."""
    parameters = {"experiment": f"work/{folder}.yaml", "work": f"work/{folder}"}
    body = {"parameters": {"parameters": parameters}}
    path = f"deployments/{hospital.deployment('weekly')['id']}/create_flow_run"
    return hospital.prefect(path, body)["id"]


def scores(folder):
    """Trial → the metrics of its finished run."""
    script = (
        f"import json, pathlib\nprint(json.dumps({{d.parent.name: json.loads(d.read_text())"
        f" for d in sorted(pathlib.Path('work/{folder}/runs').glob('*/scores.json'))}}))"
    )
    text = hospital.compose(f'run --rm --no-deps -T --entrypoint python cli -c "{script}"')
    return json.loads(text.splitlines()[-1])


def kill(service):
    """End a container as the kernel would: SIGKILL to its first process."""
    _, found = hospital.of(service)
    os.kill(found["State"]["Pid"], signal.SIGKILL)
    return found["State"]["Pid"]


def back(service, pid, seconds=240):
    """Wait until the restart policy has brought a container back and it is healthy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        name, found = hospital.of(service)
        running = found["State"]["Running"] and found["State"]["Pid"] not in (0, pid)
        if running and healthy(name):
            return
        time.sleep(1)
    pytest.fail(f"{service}: {found['State']}")


def finished(folder):
    """Wait for the sweep; start it again while its run is not completed, as an operator would."""
    end = time.monotonic() + 1500
    while time.monotonic() < end:
        runs = hospital.prefect("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC"})
        mine = [
            r for r in runs if r["parameters"].get("parameters", {}).get("work") == f"work/{folder}"
        ]
        if all(r["state_type"] in hospital.ENDED for r in mine):
            if mine[0]["state_type"] == "COMPLETED":
                return
            started(folder)
        time.sleep(3)
    pytest.fail(json.dumps(mine)[:3000])


def assert_as_undisturbed(folder, calm):
    assert scores(folder) == calm
    trials = hospital.finished_trials(folder)
    assert len(trials) == len(set(trials)) == len(calm), trials
    statuses = {run["info"]["status"] for run in hospital.mlflow_runs(folder)}
    assert "RUNNING" not in statuses
    end = time.monotonic() + 400  # a heartbeat may have to be missed for three minutes first
    filters = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    while left := hospital.prefect("flow_runs/filter", filters):
        assert time.monotonic() < end, json.dumps(left)[:2000]
        time.sleep(5)


def test_each_container_killed_in_turn_during_a_sweep(store):
    first = started("killed")
    hospital.flow_run(first, states=("RUNNING",))
    for service in VICTIMS:
        pid = kill(service)
        back(service, pid)
        if service == "worker-cpu":  # the run died with it: an operator starts it again
            started("killed")
        time.sleep(5)
    finished("killed")
    assert_as_undisturbed("killed", calm("killed"))


def test_all_containers_killed_at_once_then_started(store):
    """A power cut during a sweep; then the machine starts."""
    started("dark")
    runs = place_of("mimic-reg_work") / "dark" / "runs"
    wait_until(lambda: any(runs.glob("*/checkpoint.safetensors")))
    engine.power_cut()
    assert len(list(runs.glob("*/scores.json"))) < 4
    hospital.compose("up --detach --wait")
    finished("dark")
    assert_as_undisturbed("dark", calm("dark"))


def place_of(volume):
    """The folder of a volume on this machine."""
    found = engine.run("podman", "volume", "inspect", "--format={{.Mountpoint}}", volume)
    return Path(found.strip())


@contextlib.contextmanager
def full(volume, megabytes=64):
    """A small disk in place of a volume, for containers that start now."""
    place = place_of(volume)
    options = f"size={megabytes}m,mode=0700,uid=10001,gid=10001"
    engine.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", place)
    try:
        yield
    finally:
        engine.run("umount", place)


def test_a_full_work_volume_is_a_sentence(running):
    with full("mimic-reg_work", 8):
        done = hospital.shell(
            "docker compose run --rm --no-deps -T cli synthesize --out work/raw --patients 1500"
        )
        assert done.returncode == 1
        assert "The disk is full" in done.said
        assert "Traceback" not in done.said


def test_a_full_database_volume_is_over_once_there_is_space(running):
    """PostgreSQL on a disk of its own; both servers answer again without anybody's help."""
    place = place_of("mimic-reg_database")
    disk = engine.FOLDER / "database.ext4"
    spare = engine.FOLDER / "database"
    hospital.compose("stop postgres")
    engine.run("truncate", "--size=400M", disk)
    engine.run("mkfs.ext4", "-q", "-m", "0", disk)
    spare.mkdir(exist_ok=True)
    engine.run("mount", "-o", "loop", disk, spare)
    engine.run("cp", "-a", f"{place}/.", spare)
    engine.run("umount", spare)
    engine.run("mount", "-o", "loop", disk, place)
    try:
        hospital.compose("start postgres")
        name, _ = hospital.of("postgres")
        wait_until(lambda: healthy(name))
        wait_until(lambda: hospital.ask("mlflow", "health")[0] == 200)
        filler = place / "filler"
        subprocess.run(
            ["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], check=False, stderr=subprocess.DEVNULL
        )
        rows = "create table filled as select repeat('x', 900) from generate_series(1, 200000)"
        psql = f'docker compose exec -T postgres psql -U postgres -d mlflow -c "{rows}"'
        assert "No space left on device" in hospital.shell(psql).said
        body = {"key": "filled", "value": "x" * 4000, "experiment_id": "0"}
        path = "api/2.0/mlflow/experiments/set-experiment-tag"
        filler.unlink()
        wait_until(lambda: healthy(name))
        wait_until(lambda: ask_patiently("mlflow", path, body)[0] == 200)
        wait_until(lambda: hospital.ask("prefect", "api/flows/count", body={})[0] == 200)
        assert "No space left on device" in hospital.logs("postgres")
    finally:
        hospital.compose("stop postgres")
        engine.run("umount", place)
        disk.unlink()
        hospital.compose("up --detach --wait")


def ask_patiently(server, path, body):
    try:
        return hospital.ask(server, path, body=body)
    except OSError as error:
        return 0, str(error)


def wait_until(holds, seconds=300):
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if holds():
                return
        assert time.monotonic() < end
        time.sleep(2)


@contextlib.contextmanager
def changed(name, content):
    """A secret with another content, or without a file, until the end of the block."""
    path = hospital.DOCKER / "secrets" / name
    before = path.read_text()
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o444)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        path.write_text(before)
        path.chmod(0o444)


def gone(service):
    """Remove a service's container, if it has one."""
    for name in containers(service):
        engine.run("podman", "rm", "--force", "--time=5", name)


def only(service, said):
    """Make a service's container again, alone; wait until Compose or the service has said so."""
    gone(service)
    command = f"podman-compose --profile tools up --detach --no-deps {service}"
    up = hospital.shell(command, timeout=120).said
    end = time.monotonic() + 90
    while said not in (text := up + (hospital.logs(service) if containers(service) else "")):
        assert time.monotonic() < end, text
        time.sleep(2)


@pytest.mark.parametrize(
    ("service", "name", "content", "said"),
    [
        ("prefect", "prefect", "", "Error: The password in /run/secrets/prefect has 0 characters"),
        ("mlflow", "mlflow_database", OTHER, 'authentication failed for user "mlflow"'),
        ("prefect", "prefect_database", OTHER, 'authentication failed for user "prefect"'),
        ("worker-cpu", "worker", "x", "Error: The password in /run/secrets/worker has 1 char"),
        ("worker-cpu", "prefect", None, "secrets/prefect"),
    ],
    ids=["empty", "mlflow's database", "prefect's database", "short", "absent"],
)  # fmt: skip
def test_a_wrong_or_missing_secret_is_named(running, service, name, content, said):
    try:
        with changed(name, content):
            only(service, said)
    finally:
        gone(service)
        hospital.compose("up --detach --wait")


def test_a_port_that_is_taken_is_named(running):
    gone("gate")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 5000))
        taken.listen()
        only("gate", "listen tcp4 127.0.0.1:5000: bind: address already in use")
    gone("gate")
    hospital.compose("up --detach --wait")


def test_a_missing_folder_of_mimic_is_named(running):
    text = hospital.shell(
        "MIMIC_III=/nowhere/mimic-iii docker compose run --rm --no-deps -T cli --version"
    ).said
    assert "/nowhere/mimic-iii" in text
    assert not Path("/nowhere").exists()
    env = (hospital.DOCKER / ".env").read_text()
    (hospital.DOCKER / ".env").write_text(re.sub("(?m)^MIMIC_III=.*$", "MIMIC_III=", env))
    try:
        assert (
            "set MIMIC_III in .env" in hospital.shell("docker compose run --rm cli --version").said
        )
    finally:
        (hospital.DOCKER / ".env").write_text(env)
