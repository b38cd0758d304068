"""kill -9 of everything, at moments that seeds choose: does a restart end with the same result?

    python benchmarks/faults.py FOLDER [--target extraction …] [--seeds 12]

Each case starts a target, kills it up to three times, starts it again to its end, and compares with
an undisturbed run: `tests/faults/kills.py` says what is compared. Servers and worker are those of
docker/compose.yaml on a PostgreSQL of their own (`tests/docker/stack.py`). Results are added to
FOLDER/faults.json case by case, so that a run can be stopped and gone on with.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mimic_reg.sources.synthetic import synthesize  # noqa: E402
from tests.docker.stack import Stack, request  # noqa: E402
from tests.faults.kills import (  # noqa: E402
    EXPERIMENT,
    Case,
    Extraction,
    Fell,
    Sweep,
    Training,
    of_run,
    of_sweep,
)
from tests.postgresql import unprivileged  # noqa: E402
from tests.stores import write_store  # noqa: E402

PLAIN = {"extraction": 12, "training": 10, "sweep": 8}
WITH_SERVICES = {"mlflow": 8, "postgresql": 8, "worker": 8}  # seeds of each; a kill a seed


class Services:
    """The stack, whose MLflow begins anew with every case."""

    def __init__(self, store):
        self.stack = Stack()
        self.stack.up()
        self.sql("create database clean template mlflow", stopped=True)
        shutil.copytree(store, self.stack.work / "store")
        (self.stack.work / "killed.yaml").write_text(EXPERIMENT)
        self.own(self.stack.work)
        self.undisturbed = None
        self.seconds = 0.0

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
        if not hasattr(self, "trained"):
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
        """The service and all that came of it, whatever session it is in: none outlives a container."""
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


def machine():
    """The machine, in words."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    name = model[1] if model else platform.machine()
    return f"{len(os.sched_getaffinity(0))} cores of {name}, {platform.system()}"


def write(path, cases):
    """Add up and write."""
    summary = {}
    for case in cases:
        row = summary.setdefault(case["target"], {"cases": 0, "kills": 0, "starts": 0, "same": 0})
        row["cases"] += 1
        row["kills"] += case["kills"]
        row["starts"] += case["starts"]
        row["same"] += case["same"]
    content = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "compared": "store: every file's hash; run: history without costs, scores, predictions, best "
        "state, bit for bit; MLflow: each trial once, finished, every number, the champion; tables",
        "kills": sum(case["kills"] for case in cases),
        "same": all(case["same"] for case in cases),
        "targets": summary,
        "cases": cases,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def undisturbed(target, folder, raw, store):
    """A target that is one process, with its undisturbed result."""
    shutil.rmtree(folder, ignore_errors=True)
    kinds = {"extraction": Extraction, "training": Training, "sweep": Sweep}
    return Case(kinds[target](raw if target == "extraction" else store, folder))


def main():
    """Run the cases that are not in the results yet."""
    every = PLAIN | WITH_SERVICES
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", nargs="*", choices=every, default=list(every))
    parser.add_argument("--seeds", type=int)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "faults.json"
    cases = json.loads(results.read_text())["cases"] if results.exists() else []
    done = {(case["target"], case["seed"]) for case in cases}
    raw, store = given.folder / "raw", given.folder / "store"
    if not raw.exists():
        synthesize(raw, patients=1500)
        write_store(store, num_subjects=60, hours=(48, 50))
    services = None
    try:
        for target in given.target:
            open_seeds = [s for s in range(given.seeds or every[target]) if (target, s) not in done]
            case = None
            for seed in open_seeds:
                if target in WITH_SERVICES:
                    services = services or Services(store)
                    fell = (
                        services.fall_of_the_worker(seed)
                        if target == "worker"
                        else services.fall_of_a_server(target, seed)
                    )
                else:
                    folder = given.folder / target
                    case = case or undisturbed(target, folder, raw, store)
                    fell = case.fall(seed)
                    shutil.rmtree(folder / f"seed{seed}")
                print(fell, flush=True)
                cases.append(asdict(fell))
                write(results, cases)
    finally:
        if services:
            services.stack.down()


if __name__ == "__main__":
    main()
