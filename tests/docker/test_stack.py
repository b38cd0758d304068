"""The services of compose.yaml for real: PostgreSQL, both servers, set-up, worker, commands.

One stack for all tests of this file. Its order is that of a hospital's first day.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mimic_reg.extraction import extract
from tests.docker.stack import ROOT, request, stack
from tests.network import isolated
from tests.postgresql import unprivileged
from tests.security import identities

pytestmark = pytest.mark.slow
EXPERIMENT = """
title: Two methods
grids:
- tasks: [in_hospital_mortality]
  models: [{lstm: {units: 4}}]
  methods: [none, {itps: {tau: 1.0e-4}}]
  stopping: false
training: {max_epochs: 2, batch_size: 16, learning_rate: 0.01, normalizer: fitted}
"""
DEAD = ["forever", "stillborn"]  # flows
FLOW = {"prefect.resource.role": "flow", "prefect.resource.name": DEAD}
FOREVER = """
import time
from prefect import flow

@flow
def forever():
    print("begun", flush=True)
    time.sleep(600)

forever()
"""
STILLBORN = """
import os, signal
from prefect import flow, flow_engine

flow_engine.BaseFlowRunEngine._emit_flow_run_heartbeat = lambda *given: None

@flow
def stillborn():
    os.kill(os.getpid(), signal.SIGKILL)

stillborn()
"""


@pytest.fixture(scope="module")
def network():
    """Counts what tries to leave this machine; without root nobody counts."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(isolated())
        except pytest.skip.Exception as reason:
            yield str(reason)


@pytest.fixture(scope="module")
def services(network):
    with stack() as started:
        started.up()
        yield started


def as_owner(folder):
    """Give a folder to the user of the containers."""
    if user := unprivileged():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user["user"], user["group"])


@pytest.fixture(scope="module")
def patients(services, tmp_path_factory):
    """A store in the work folder, and raw tables with a row that cannot be read; all ids, times."""
    raw = identities.write_raw(tmp_path_factory.mktemp("raw") / "raw", patients=300)
    store = services.work / "store"
    extract(raw, store)
    ids, times = identities.shift_store(store), identities.times_of(store)
    as_owner(store)
    broken = services.app / "data" / "mimic-iii"
    shutil.copytree(raw, broken)
    table = broken / "ICUSTAYS.csv"
    lines = table.read_text().splitlines()
    lines[3] = re.sub(r"2[12]\d\d-", "2150/", lines[3])
    table.write_text("\n".join(lines))
    as_owner(services.app / "data")
    return ids, times


@pytest.fixture(scope="module")
def dead_run(services):
    """Two flow runs that were started by hand and killed, one before its first heartbeat.

    With a shorter patience.
    """
    content = yaml.safe_load((ROOT / "docker" / "automations.yaml").read_text("utf-8"))
    # sooner than a heartbeat is due: of no other flow
    trigger = content["automations"][0]["trigger"]
    trigger |= {"within": 10, "match_related": FLOW}
    file = services.home / "automations.yaml"
    file.write_text(yaml.safe_dump(content))
    file.chmod(0o644)
    code = (
        "from pathlib import Path; from prefect.automations import Automation;"
        "from mimic_reg_pipelines.flows.automations import put;"
        f"file = Path({str(file)!r}); (name,) = put(file); first = Automation.read(name=name);"
        "put(file); assert Automation.read(name=name).id == first.id"  # else it would forget runs
    )
    environment = client_environment(services)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=ROOT)
    subprocess.run([sys.executable, "-c", STILLBORN], env=environment, capture_output=True)
    with subprocess.Popen(
        [sys.executable, "-c", FOREVER],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout.readline() == "begun\n"
            heartbeats = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
            end = time.monotonic() + 60
            while json.loads(prefect(services, "events/filter", heartbeats)[1])["total"] == 0:
                assert time.monotonic() < end, "no heartbeat"
                time.sleep(0.2)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def client_environment(services):
    password = services.secret("prefect")
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_API_URL": f"{services.url('prefect')}/api",
        "PREFECT_API_AUTH_STRING": f"mimic-reg:{password}",
        "PREFECT_HOME": str(services.folder / "prefect-of-the-tests"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'pipelines'}",
        "DO_NOT_TRACK": "1",
    }


def prefect(services, path, body=None, login="right"):
    logins = {"right": f"mimic-reg:{services.secret('prefect')}", "wrong": "mimic-reg:wrong"}
    url = f"{services.url('prefect')}/api/{path}"
    headers = {"Content-Type": "application/json"}
    return request(url, logins.get(login), "POST", json.dumps(body or {}).encode(), **headers)


@pytest.mark.parametrize(("login", "status"), [(None, 401), ("wrong", 401), ("right", 200)])
def test_prefect_asks_for_a_password(services, login, status):
    assert prefect(services, "flows/filter", login=login)[0] == status
    assert request(f"{services.url('prefect')}/api/health")[0] == 200  # tells nothing


@pytest.mark.parametrize(
    ("login", "status"),
    [(None, 401), ("admin:wrong", 401), ("nobody:{mlflow}", 401), ("admin:{mlflow}", 200),
     ("worker:{worker}", 200)],
)  # fmt: skip
def test_mlflow_asks_for_a_name_and_a_password(services, login, status):
    given = login and login.format_map({n: services.secret(n) for n in ("mlflow", "worker")})
    for path in ("api/2.0/mlflow/experiments/search?max_results=1", "", "version"):
        assert request(f"{services.url('mlflow')}/{path}", given)[0] == status, path
    assert request(f"{services.url('mlflow')}/health")[0] == 200


def test_the_worker_is_no_administrator_of_mlflow(services):
    login = f"worker:{services.secret('worker')}"
    url = f"{services.url('mlflow')}/api/2.0/mlflow/users/create"
    body = json.dumps({"username": "x", "password": "a-long-password"}).encode()
    headers = {"Content-Type": "application/json"}
    assert request(url, login, "POST", body, **headers)[0] == 403


def test_mlflow_answers_under_its_own_names_only(services):
    login = f"admin:{services.secret('mlflow')}"
    assert request(services.url("mlflow"), login, Host="evil.example")[0] == 403


def test_mlflows_assistant_is_not_there(services):
    login = f"admin:{services.secret('mlflow')}"
    for path in ("ajax-api/3.0/mlflow/assistant/config", "gateway/a/mlflow/invocations"):
        status, text = request(f"{services.url('mlflow')}/{path}", login)
        assert (status, text) == (404, "This part of MLflow is switched off here.")


def test_passwords_stand_in_no_command_line(services):
    secrets = [services.secret(p.name) for p in services.secrets.iterdir()]
    shown = subprocess.run(
        ["ps", "-ewwo", "args"], capture_output=True, text=True, check=True
    ).stdout
    assert "mimic_reg_pipelines.deploy.app" in shown
    assert not [s for s in secrets if s in shown]


def test_commands_train_and_log_through_the_servers(services, patients, dead_run):
    (services.work / "two.yaml").write_text(EXPERIMENT)
    as_owner(services.work / "two.yaml")
    sweep = ("sweep", "--config", "work/two.yaml", "--out", "work", "--runner", "in_process")
    done = services.run(*sweep)
    (services.logs / "sweep").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    report = services.work / "sweeps" / "two" / "report.html"
    assert "Two methods" in report.read_text()
    assert not (services.work / "mlflow.db").exists()
    assert services.postgresql.psql("select count(*) from runs", "mlflow") == "3"  # and a summary
    assert list(services.artifacts.rglob("model.safetensors"))


def test_the_worker_runs_what_is_deployed(services, patients):
    """A run that an earlier worker left behind is over: no other would start in its place."""
    ids = {d["name"]: d["id"] for d in deployed(services)}
    left = json.loads(prefect(services, f"deployments/{ids['once']}/create_flow_run")[1])["id"]
    running = {"state": {"type": "RUNNING"}, "force": True}
    assert prefect(services, f"flow_runs/{left}/set_state", running)[0] < 300
    services.start("worker-cpu")
    services.wait("worker-cpu")
    assert ended(services, left)["state"]["message"] == "Its worker ended."
    options = {d["concurrency_options"]["collision_strategy"] for d in deployed(services)}
    assert options == {"ENQUEUE"}

    def run(name, **parameters):
        body = {"parameters": {"parameters": parameters}} if parameters else {}
        return prefect(services, f"deployments/{ids[name]}/create_flow_run", body)

    given = {"work": "work", "set": {"training.max_epochs": 1}, "method": "none"}
    status, text = run("once", **given, seed=-1)
    assert status == 409, text
    assert "-1 is less than the minimum of 0" in text
    started = [json.loads(run("once", **given)[1])["id"], json.loads(run("nightly")[1])["id"]]
    trained, extracted = (ended(services, identity) for identity in started)
    assert trained["state_type"] == "COMPLETED", services.log("worker-cpu")
    assert trained["name"] == "train in_hospital_mortality-lstm-none-100-seed0"
    assert extracted["state_type"] == "FAILED", services.log("worker-cpu")
    assert "1 rows have a INTIME that is not a time" in extracted["state"]["message"]
    for service in services.running:
        assert "Unable to connect" not in services.log(service)


def ended(services, identity):
    body = {"flow_runs": {"id": {"any_": [identity]}}}
    end = time.monotonic() + 240
    while time.monotonic() < end:
        (run,) = json.loads(prefect(services, "flow_runs/filter", body)[1])
        if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED"):
            return run
        time.sleep(0.5)
    pytest.fail(services.log("worker-cpu"))


def test_a_dead_run_is_noticed(services, dead_run):
    body = {"flows": {"name": {"any_": DEAD}}}
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = json.loads(prefect(services, "flow_runs/filter", body)[1])
        assert len(found) == 2
        if {run["state_type"] for run in found} == {"CRASHED"}:
            assert {run["state"]["message"] for run in found} == {"Its heartbeat stopped."}
            return
        assert {run["state_type"] for run in found} <= {"RUNNING", "CRASHED"}
        time.sleep(0.5)
    pytest.fail("It still counts as running.")


def deployed(services):
    return json.loads(prefect(services, "deployments/filter")[1])


def test_the_set_up_can_be_repeated(services):
    done = services.run("setup", service="setup")
    assert done.returncode == 0, done.stdout + done.stderr
    automations = json.loads(prefect(services, "automations/filter")[1])
    assert [a["name"] for a in automations] == ["mimic-reg dead runs"]
    assert [a["trigger"]["within"] for a in automations] == [180]
    names = [d["name"] for d in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]]
    assert sorted(d["name"] for d in deployed(services)) == sorted(names)


def test_no_patient_is_found_anywhere_but_in_the_store(services, patients):
    """Run folders and checkpoints, artifacts, report, logs, temporary files, three databases."""
    ids, times = patients
    assert len(ids) > 500
    store, raw = services.work / "store", services.app / "data"
    assert len(identities.in_folder(store, times=times)[0]) > 5  # it would be found
    found, count = identities.in_folder(services.folder, times=times, without=[store, raw])
    assert not found
    names = {p.name for p in services.folder.rglob("*")}
    expected = {"checkpoint.safetensors", "report.html", "history.jsonl", "worker-cpu", "sweep"}
    assert expected < names
    assert count > 100
    for database in ("prefect", "mlflow", "mlflow_users"):
        dump = services.postgresql.dump(database)
        assert len(dump) > 10_000
        assert not identities.in_bytes(dump, times), database
    assert services.postgresql.psql("select count(*) from log", "prefect") != "0"


def test_files_are_for_their_owner(services, patients):
    """Whatever a container writes, beside what the test itself put there."""
    written = [services.work / n for n in ("runs", "sweeps")]
    for place in (*written, services.artifacts):
        for path in (place, *place.rglob("*")):
            assert path.stat().st_mode & 0o077 == 0, path


def test_nothing_tried_to_leave_this_machine(services, network, patients):
    if isinstance(network, str):
        pytest.skip(network)
    assert network() == 0
    code = "import urllib.request as u\ntry: u.urlopen('http://example.org')\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert network() > 0  # it would have been seen
