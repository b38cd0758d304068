"""The first day of a hospital, by the words of docker/README.md."""

import json
import re
import time

import pytest

from tests.stack import engine, hospital
from tests.stack.docker import healthy

GUIDE = hospital.guide("From nothing to the first report")


@pytest.fixture(scope="module")
def report(running):
    """What the guide's demonstration makes: the report, on the machine itself."""
    lines = GUIDE[GUIDE.index("docker compose up --detach --wait") + 1 :]
    for line in lines:
        done = hospital.shell(line.replace("worker:", "worker-cpu:"))
        assert done.returncode == 0, f"{line}\n{done.said}"
    return hospital.DOCKER / "report.html"


def test_every_service_is_healthy(running):
    for service in ("postgres", "prefect", "mlflow", "gate", "worker-cpu"):
        assert healthy(hospital.of(service)[0]), service
    name, state = hospital.of("setup")
    assert (state["State"]["Status"], state["State"]["ExitCode"]) == ("exited", 0), name


def test_the_image_is_small_and_says_its_revision(running):
    _, state = hospital.of("worker-cpu")
    size = int(engine.run("podman", "image", "inspect", "--format={{.Size}}", state["Image"]))
    assert size < 1.62e9
    labels = state["Config"]["Labels"]
    assert labels["org.opencontainers.image.revision"] == hospital.SETTINGS["REVISION"]


@pytest.mark.parametrize(("login", "status"), [(None, 401), ("wrong", 401), ("right", 200)])
def test_pages_ask_for_the_password(running, login, status):
    path = "api/2.0/mlflow/experiments/search?max_results=1"
    assert hospital.ask("mlflow", path, login)[0] == status
    assert hospital.ask("prefect", "api/flows/filter", login, body={})[0] == status
    code, text = hospital.ask("mlflow", "", login)
    assert code == status
    assert ("<title>MLflow</title>" in text) == (status == 200)


def test_the_demonstration_ends_with_a_report(report):
    text = report.read_text()
    assert "Demonstration: ITPS and dropout on simulated patients" in text
    assert len([r for r in hospital.mlflow_runs("demo") if r["info"]["status"] == "FINISHED"]) >= 98


def test_the_champion_predicts(report):
    model = hospital.CHAMPION
    command = f"predict --model {model} --work work --store work/demo --out work/p.parquet"
    hospital.compose(f"run --rm cli {command}")
    assert int(hospital.inside("wc -c < work/p.parquet")) > 1000


def test_prefect_forgets_flow_runs_that_are_old_enough(running):
    """Of two runs with logs, one is made older than PREFECT_HISTORY. They fail: that is quick."""
    path = f"deployments/{hospital.deployment('nightly')['id']}/create_flow_run"
    body = {"parameters": {"parameters": {"source": "work/nothing", "store": "work/none"}}}
    old, new = (hospital.flow_run(hospital.prefect(path, body)["id"])["id"] for _ in range(2))
    count = "select count(*) from {} where {} = '{}'"
    assert int(psql(count.format("log", "flow_run_id", old))) > 0
    psql(f"update flow_run set end_time = end_time - interval '2 hours' where id = '{old}'")
    env = (hospital.DOCKER / ".env").read_text()
    path = hospital.DOCKER / ".env"
    path.write_text(re.sub("(?m)^PREFECT_HISTORY=.*$", "PREFECT_HISTORY=3700", env))
    try:
        hospital.compose("up --detach --wait")
        end = time.monotonic() + 300
        while int(psql(count.format("flow_run", "id", old))):
            assert time.monotonic() < end, hospital.logs("prefect")[-3000:]
            time.sleep(3)
        end = time.monotonic() + 60
        while int(psql(count.format("log", "flow_run_id", old))):
            assert time.monotonic() < end
            time.sleep(1)
        assert int(psql(count.format("flow_run", "id", new))) == 1
        assert int(psql(count.format("log", "flow_run_id", new))) > 0
    finally:
        path.write_text(env)
        hospital.compose("up --detach --wait")


def psql(text):
    return hospital.compose(f'exec -T postgres psql -qtAX -U postgres -d prefect -c "{text}"')


def test_a_schedule_fires_by_itself(running):
    """The nightly extraction, told to run every minute: nobody starts it."""
    hospital.compose("run --rm cli synthesize --out work/patients --patients 60 --overwrite")
    hospital.shell(f"docker compose cp worker-cpu:/app/work/patients/. {engine.MIMIC}/")
    engine.run("chmod", "-R", "a+rX", engine.MIMIC)
    identity = hospital.deployment("nightly")["id"]
    schedule = [{"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}]
    filters = {
        "deployments": {"id": {"any_": [identity]}},
        "flow_runs": {"state": {"type": {"any_": hospital.ENDED}}},
    }
    before = [run["id"] for run in hospital.prefect("flow_runs/filter", filters)]
    (made,) = hospital.prefect(f"deployments/{identity}/schedules", schedule)
    try:
        end = time.monotonic() + 600
        runs = []
        while not runs:
            found = hospital.prefect("flow_runs/filter", filters)
            runs = [run for run in found if run["auto_scheduled"] and run["id"] not in before]
            assert time.monotonic() < end, hospital.logs("worker-cpu")[-5000:]
            time.sleep(3)
    finally:
        path = f"api/deployments/{identity}/schedules/{made['id']}"
        login = f"mimic-reg:{hospital.secret('prefect')}"
        hospital.request(f"http://127.0.0.1:4200/{path}", login, "DELETE")
    assert [run["state_type"] for run in runs] == ["COMPLETED"] * len(runs), json.dumps(runs)[:3000]
    assert "manifest.json" in hospital.inside("ls work/store")
