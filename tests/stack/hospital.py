"""A hospital that follows docker/README.md, in the folder of `engine`: commands, servers, state."""

import json
import os
import re
import shutil
import subprocess
import time

from mimic_reg_pipelines.tracking.mlflow_runs import sweep_filter
from tests.docker.stack import request
from tests.stack import engine
from tests.stack.docker import containers, state

DOCKER = engine.CHECKOUT / "docker"
GUIDE = engine.ROOT / "docker" / "README.md"
PORTS = {"prefect": 4200, "mlflow": 5000}
SETTINGS = {
    "COMPOSE_PROFILES": "cpu",
    "MIMIC_III": engine.MIMIC,
    "PYTHON_IMAGE": engine.PYTHON,
    "POSTGRES_IMAGE": engine.POSTGRES,
    "REVISION": "0123456789abcdef",
}
CHAMPION = "models:/mimic-reg-mimic-iii-benchmark-simulated-in_hospital_mortality-lstm@champion"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
VOLUMES = ("database", "work", "artifacts")
EXPERIMENT = """
title: Two methods
grids:
- tasks: [in_hospital_mortality]
  models: [{lstm: {units: 4}}]
  methods: [none, dropout]
  seeds: 2
  stopping: false
training: {max_epochs: 3, batch_size: 16, learning_rate: 0.01, normalizer: fitted}
"""


def guide(heading):
    """The commands under a heading of docker/README.md, without remarks."""
    section = re.search(rf"^## {re.escape(heading)}$(.*?)^## ", GUIDE.read_text(), re.M | re.S)[1]
    block = re.search(r"```sh\n(.*?)```", section, re.S)[1]
    lines = (re.sub(r"\s+#.*", "", line) for line in block.splitlines())
    return [line for line in lines if line]


def configured():
    """Fill in docker/.env, as the guide asks for."""
    path = DOCKER / ".env"
    text = path.read_text()
    for name, value in SETTINGS.items():
        text = re.sub(rf"^{name}=.*$", f"{name}={value}", text, flags=re.M)
    path.write_text(text)


def shell(line, *, folder=DOCKER, **options):
    """Run a line of shell; return the finished process, with what it says as text."""
    given = {"timeout": 3600, "text": True, "capture_output": True, "check": False} | options
    if "input" not in given:
        given["stdin"] = subprocess.DEVNULL
    done = subprocess.run(["sh", "-c", line], cwd=folder, **given)
    done.said = done.stdout + done.stderr
    return done


def compose(line, **options):
    """Run `docker compose LINE`; return what it prints, or fail with it."""
    done = shell(f"docker compose {line}", **options)
    assert done.returncode == 0, f"{line}\n{done.said}"
    return done.stdout


def inside(script, *, service="cli", **options):
    """Run a script of shell in a new container of a service."""
    script = script.replace("'", "'\\''")
    return compose(f"run --rm --no-deps -T --entrypoint sh {service} -c '{script}'", **options)


def secret(name):
    return (DOCKER / "secrets" / name).read_text().strip()


def ask(server, path, login="right", body=None):
    """Status and text of an answer of a server, at the address of the guide."""
    logins = {
        "right": {
            "prefect": f"mimic-reg:{secret('prefect')}",
            "mlflow": f"admin:{secret('mlflow')}",
        }[server],
        "wrong": "admin:wrong",
    }
    url = f"http://127.0.0.1:{PORTS[server]}/{path}"
    if body is None:
        return request(url, logins.get(login))
    headers = {"Content-Type": "application/json"}
    return request(url, logins.get(login), "POST", json.dumps(body).encode(), **headers)


def prefect(path, body=None):
    """The answer of Prefect's API."""
    status, text = ask("prefect", f"api/{path}", body=body or {})
    assert status < 300, text
    return json.loads(text) if text else None


def deployment(name):
    (found,) = prefect("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
    return found


def flow_run(identity, seconds=600, states=ENDED):
    """A flow run once it has ended, or is in one of some states."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (run,) = prefect("flow_runs/filter", {"flow_runs": {"id": {"any_": [identity]}}})
        if run["state_type"] in states:
            return run
        time.sleep(1)
    raise AssertionError(f"{run['state_type']}\n{logs('worker-cpu')[-5000:]}")


def mlflow_runs(sweep):
    """Runs of a sweep in MLflow, its summary included."""
    text = ask("mlflow", "api/2.0/mlflow/experiments/search?max_results=1000")[1]
    ids = [found["experiment_id"] for found in json.loads(text)["experiments"]]
    body = {"experiment_ids": ids, "max_results": 1000, "filter": sweep_filter(sweep)}
    return json.loads(ask("mlflow", "api/2.0/mlflow/runs/search", body=body)[1]).get("runs", [])


def finished_trials(sweep):
    """The trials of a sweep that MLflow has as finished, each as often as it has it."""
    runs = [run for run in mlflow_runs(sweep) if run["info"]["status"] == "FINISHED"]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    return [found["trial_id"] for found in tags if "trial_id" in found]


def logs(service):
    return shell(f"docker compose logs {service}").said


def of(service):
    """The name of a service's container, and its state."""
    (name,) = containers(service)
    return name, state(name)


def remove():
    """Remove the containers, volumes and networks of the project; images stay."""
    if (DOCKER / ".env").exists():
        shell("podman-compose --profile tools --profile cpu down --volumes --timeout 5")
    names = subprocess.run(
        ["podman", "ps", "--all", "--quiet"], capture_output=True, text=True, check=False
    ).stdout.split()
    if names:
        subprocess.run(["podman", "rm", "--force", "--time=1", *names], check=False)
    for path in (DOCKER / ".env", DOCKER / "report.html"):
        path.unlink(missing_ok=True)
    shutil.rmtree(DOCKER / "secrets", ignore_errors=True)
    shutil.rmtree(engine.MIMIC, ignore_errors=True)
    os.makedirs(engine.MIMIC, exist_ok=True)
