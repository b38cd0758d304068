"""The services under fire: MLflow's server, PostgreSQL, the worker; for `benchmarks/faults.py`."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.docker.stack import Stack, request
from tests.faults.kills import EXPERIMENT, Fell, of_run, of_sweep
from tests.postgresql import unprivileged


class Services:
    """The stack, whose MLflow begins anew with every case."""

    def __init__(self, store):
        self.stack = Stack()
        self.stack.up()
        self.sql("create database clean template mlflow", stopped=True)
        shutil.copytree(store, self.stack.work / "store")
        (self.stack.work / "killed.yaml").write_text(EXPERIMENT)
        self.own(self.stack.work)
        self.undisturbed = self.trained = None
        self.seconds = self.training_seconds = 0.0

    def own(self, folder):
        if user := unprivileged():
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user["user"], user["group"])

    def sql(self, text, *, stopped):
        """On PostgreSQL, while MLflow is away: templates want nobody connected."""
        if stopped:
            self.stack.stop("mlflow")
        self.stack.postgresql.psql(text)
        self.stack.start("mlflow")
        self.stack.wait("mlflow")

    def anew(self):
        """MLflow as it was, and no runs."""
        text = "drop database mlflow; create database mlflow template clean owner mlflow"
        self.stack.stop("mlflow")
        for statement in text.split(";"):
            self.stack.postgresql.psql(statement)
        for place in (self.stack.artifacts, self.stack.work):
            for path in place.iterdir():
                if path.name not in ("store", "killed.yaml"):
                    shutil.rmtree(path)
        self.stack.start("mlflow")
        self.stack.wait("mlflow")

    def rows(self, sql):
        found = self.stack.postgresql.psql(sql, "mlflow")
        return [tuple(line.split("|")) for line in found.splitlines()]

    def result(self):
        return of_sweep(self.stack.work, self.rows)

    def sweep(self, meanwhile):
        """A sweep to its end, with something happening meanwhile; how often it was started."""
        for starts in range(1, 6):
            process = self.begin()
            if starts == 1:
                meanwhile(process)
            if process.wait(900) == 0:
                return starts
        raise AssertionError(self.stack.log("sweep"))

    def begin(self):
        arguments = ("--config", "work/killed.yaml", "--out", "work", "--workers", "2")
        with (self.stack.logs / "sweep").open("ab") as log:
            return subprocess.Popen(
                self.stack.command("sweep", *arguments),
                cwd=self.stack.app,
                env=self.stack.environment("cli"),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def prepare(self):
        """What a sweep comes to when nobody disturbs it."""
        self.anew()
        began = time.monotonic()
        self.sweep(lambda process: None)
        self.seconds = time.monotonic() - began
        self.undisturbed = self.result()

    def fall(self, target, seed):
        """A case of one target."""
        if target == "worker":
            return self.fall_of_the_worker(seed)
        return self.fall_of_a_server(target, seed)

    def fall_of_a_server(self, target, seed):
        """Kill MLflow or PostgreSQL while a sweep uses it; it comes back after some seconds."""
        if self.undisturbed is None:
            self.prepare()
        self.anew()
        chosen = random.Random(f"{target} {seed}")
        moment, away = chosen.uniform(0.05, 1) * self.seconds, chosen.uniform(0, 5)
        kills = 0

        def meanwhile(process):
            nonlocal kills
            time.sleep(moment)
            if process.poll() is not None:
                return
            if target == "mlflow":
                self.stack.signal("mlflow", signal.SIGKILL)
                self.stack.running["mlflow"].wait()
            else:
                self.stack.postgresql.kill()
            kills = 1
            time.sleep(away)
            if target == "mlflow":
                self.stack.start("mlflow")
            else:
                self.restart_postgresql()

        starts = self.sweep(meanwhile)
        if target == "mlflow":
            self.stack.wait("mlflow")
        return Fell(target, seed, kills, starts, self.result() == self.undisturbed)

    def restart_postgresql(self):
        """Its children of before must have noticed that it is gone."""
        lock = self.stack.postgresql.data / "postmaster.pid"
        for _ in range(100):
            with contextlib.suppress(AssertionError):
                self.stack.postgresql.start()
                return
            time.sleep(0.3)
        raise AssertionError(f"PostgreSQL does not start: {lock.exists()}")

    # --- the worker -------------------------------------------------------------------------------

    def api(self, path, body=None):
        login = f"mimic-reg:{self.stack.secret('prefect')}"
        headers = {"Content-Type": "application/json"}
        url = f"{self.stack.url('prefect')}/api/{path}"
        status, text = request(url, login, "POST", json.dumps(body or {}).encode(), **headers)
        assert status < 300, text
        return json.loads(text)

    def deployed_run(self, name):
        (found,) = self.api("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        given = {"work": "work", "method": "itps", "max_epochs": 8, "register_it": True}
        body = {"parameters": {"parameters": given}}
        return self.api(f"deployments/{found['id']}/create_flow_run", body)["id"]

    def state(self, identity):
        (run,) = self.api("flow_runs/filter", {"flow_runs": {"id": {"any_": [identity]}}})
        return run["state_type"]

    def fall_of_the_worker(self, seed):
        """Kill the worker's container while it trains; start it and the run again."""
        if self.trained is None:
            self.trained, self.training_seconds, _ = self.train_by_the_worker(None)
        chosen = random.Random(f"worker {seed}")
        moment = chosen.uniform(0.05, 1) * self.training_seconds
        trained, _, (kills, starts) = self.train_by_the_worker(moment)
        return Fell("worker", seed, kills, starts, trained == self.trained)

    def train_by_the_worker(self, moment):
        self.anew()
        self.stack.start("worker-cpu")
        self.stack.wait("worker-cpu")
        began = time.monotonic()
        identity, kills, starts = self.deployed_run("once"), 0, 1
        while self.state(identity) != "COMPLETED":
            time.sleep(0.3)
            if moment is not None and time.monotonic() - began > moment:
                moment = None
                self.kill_container("worker-cpu")
                kills += 1
                self.stack.start("worker-cpu")
                self.stack.wait("worker-cpu")
                if self.state(identity) != "COMPLETED":
                    identity, starts = self.deployed_run("once"), starts + 1
            assert time.monotonic() - began < 900, self.stack.log("worker-cpu")
        seconds = time.monotonic() - began
        self.stack.stop("worker-cpu")
        (folder,) = (self.stack.work / "runs").iterdir()
        return (of_run(folder), of_sweep(self.stack.work, self.rows)[1:]), seconds, (kills, starts)

    def kill_container(self, service):
        """The service and all that came of it: nothing outlives a container."""
        for pid in descendants(self.stack.running[service].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.stack.running[service].wait()


def descendants(pid):
    """A process and its children's children."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, task.read_text().split())
    return found
