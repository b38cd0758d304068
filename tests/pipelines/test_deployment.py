"""prefect.yaml for real: server, work pool, deployments, worker, a run, a model in the registry."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from mimic_reg import experiments
from pipelines import tracking
from pipelines.extract import ExtractParameters
from pipelines.multitask import MultitaskParameters
from pipelines.register import champion_uri
from pipelines.sweep import SweepParameters
from pipelines.train import TrainParameters
from tests.pipelines.conftest import copy_of

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "prefect.yaml"


def test_deployments_are_what_the_flows_take():
    content = yaml.safe_load(FILE.read_text("utf-8"))
    kinds = {
        "nightly": ExtractParameters,
        "weekly": SweepParameters,
        "once": TrainParameters,
        "together": MultitaskParameters,
    }
    assert [d["name"] for d in content["deployments"]] == list(kinds)
    for deployment in content["deployments"]:
        kinds[deployment["name"]].model_validate(deployment["parameters"]["parameters"])
        file, flow = deployment["entrypoint"].split(":")
        assert f"def {flow}(" in (ROOT / file).read_text("utf-8")
        assert deployment["work_pool"]["name"] == "mimic-reg"
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        environment = deployment["work_pool"]["job_variables"]["env"]
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert environment["DO_NOT_TRACK"] == "1"
        assert bool(deployment["schedules"]) == (deployment["name"] in ("nightly", "weekly"))
    weekly = content["deployments"][1]["parameters"]["parameters"]["experiment"]
    assert experiments.plan(experiments.load(weekly))


@contextlib.contextmanager
def running(command, environment, log):
    """A process with a group of its own, that ends with the block."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def wait_for(url, process, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer:\n{log.read_text()}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_a_deployed_flow_trains_and_registers(store, empty, tmp_path):
    api = f"http://127.0.0.1:{(port := free_port())}/api"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "MIMIC_REG_HOME": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]

    def run(*arguments, check=True):
        done = subprocess.run(
            [*prefect, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    work = tmp_path / "work"
    work.mkdir()
    uri = copy_of(empty, work)
    server_log, worker_log = tmp_path / "server.log", tmp_path / "worker.log"
    server_command = [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running([*server_command, "--no-ui"], environment, server_log) as server:
        wait_for(f"{api}/health", server, server_log)
        run("work-pool", "create", "mimic-reg", "--type", "process")
        run("deploy", "--all")
        worker_command = [*prefect, "worker", "start", "--pool", "mimic-reg", "--limit", "1"]
        with running(worker_command, environment, worker_log):
            given = {"work": str(work), "store": str(store), "max_epochs": 1, "method": "none"}
            once = ("deployment", "run", "train_model/once", "--params")
            refused = run(*once, json.dumps({"parameters": given | {"seed": -1}}), check=False)
            done = run(*once, json.dumps({"parameters": given}), "--watch")
        deployed = post(f"{api}/deployments/filter", {})
        runs = post(f"{api}/flow_runs/filter", {"flow_runs": {"name": {"like_": "train "}}})
    assert refused.returncode != 0
    assert "seed" in refused.stdout + refused.stderr
    assert {(d["name"], d["concurrency_options"]["collision_strategy"]) for d in deployed} == {
        ("nightly", "ENQUEUE"),
        ("weekly", "ENQUEUE"),
        ("once", "ENQUEUE"),
        ("together", "ENQUEUE"),
    }
    log = done.stdout + worker_log.read_text()
    assert [r["state_type"] for r in runs] == ["COMPLETED"], log
    assert runs[0]["name"] == "train in_hospital_mortality-lstm-none-100-seed0"
    name = champion_uri("in_hospital_mortality", "lstm").removeprefix("models:/")
    version = tracking.client(uri).get_model_version_by_alias(*name.split("@"))
    assert version.tags["method"] == "none"


def post(url, content):
    request = urllib.request.Request(
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)
