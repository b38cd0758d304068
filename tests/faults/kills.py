"""kill -9 at moments that a seed chooses, and what must come of it: the undisturbed result.

Targets that are one process each; `benchmarks/faults.py` adds the servers and the worker.
"""

import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.recorder import read_history
from mimic_reg.store import read_json
from tests.postgresql import ROOT

COMMAND = [sys.executable, "-c", "from mimic_reg.cli import main; main()"]
EXPERIMENT = """
title: Killed
grids:
- tasks: [in_hospital_mortality]
  models: [{lstm: {units: 8}}]
  methods: [none, dropout, {itps: {tau: 1.0e-4}}]
  seeds: 2
  stopping: false
training: {max_epochs: 6, batch_size: 8, learning_rate: 0.01, normalizer: fitted}
"""
TRAINING = """
task: in_hospital_mortality
training: {max_epochs: 12, batch_size: 8, learning_rate: 0.01, normalizer: fitted}
"""


@dataclass
class Fell:
    """What became of one case: how often it was really killed, and how often it was started."""

    target: str
    seed: int
    kills: int
    starts: int
    same: bool


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(*arguments, cwd):
    """A command of mimic-reg in a group of its own."""
    with (cwd / "output").open("ab") as output:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cwd,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def kill_until_done(begin, moments, *, whole_group=True, times=20):
    """Start, kill after so many seconds, start again …; then to the end. Kills and starts.

    whole_group: with its children, as when a container dies; else only the process itself
    """
    kills = 0
    for number, moment in enumerate([*moments, None], 1):
        process = begin()
        try:
            code = process.wait(moment if moment is not None else 60 * times)
        except subprocess.TimeoutExpired:
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            assert moment is not None, "it does not end"
        else:
            assert code == 0, f"it ended with {code}"
            return kills, number
    raise AssertionError("unreachable")


def moments(seed, seconds, number):
    """So many moments of an attempt that would take so long."""
    chosen = random.Random(seed)
    return [chosen.uniform(0.05, 1) * seconds for _ in range(number)]


# --- what must be the same ------------------------------------------------------------------------


def of_store(store):
    """Every file's hash."""
    manifest = read_json(store / "manifest.json")
    return {name: entry["xxh3"] for name, entry in manifest["files"].items()}


def of_run(folder):
    """History without costs, scores, predictions and the best state, to the last bit."""
    assert (folder / "done.json").is_file()
    rows = read_history(folder / "history.jsonl")
    history = [{name: v for name, v in row.items() if name != "cost"} for row in rows]
    state = load_state(folder / "best.safetensors")
    del state["recorder"]  # how long the history was in bytes, with its costs
    files = ("predictions_test.parquet", "predictions_validation.parquet")
    predictions = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files]
    return history, read_json(folder / "scores.json")["scores"], bits(state), predictions


def of_tree(folder):
    """Every file's hash, but for locks and what the program printed."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (".lock", "output") and path.suffix != ".lock"
    }


def bits(value):
    """A state with the bytes of its tensors."""
    if isinstance(value, dict):
        return {name: bits(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [bits(v) for v in value]
    if isinstance(value, Tensor):
        return hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
    return value


def of_sweep(work, rows):
    """All runs, what MLflow says of them, the tables of the report.

    rows: answers SQL on MLflow's database
    """
    runs = {p.parent.name: of_run(p.parent) for p in sorted(work.glob("runs/*/done.json"))}
    tables = {p.name: p.read_text() for p in sorted(work.glob("sweeps/*/tables/*"))}
    return runs, tracked(rows), tables


def tracked(rows):
    """The trials in MLflow, each with its numbers, and who is champion; no ids, times or costs."""
    trials = rows(
        "select t.value, r.status, m.key, m.step, m.value from runs r "
        "join tags t on t.run_uuid = r.run_uuid and t.key = 'trial_id' "
        "join metrics m on m.run_uuid = r.run_uuid and m.key not like 'cost/%' "
        "where r.lifecycle_stage = 'active' order by 1, 2, 3, 4, 5"
    )
    count = rows("select count(*) from runs where lifecycle_stage = 'active'")
    champions = rows(
        "select a.name, a.alias, t.value from registered_model_aliases a "
        "join model_version_tags t on t.name = a.name and t.version = a.version "
        "and t.key = 'trial_id' order by 1, 2"
    )
    text = "\n".join("|".join(_plain(v) for v in row) for row in trials)
    return hashlib.sha256(text.encode()).hexdigest(), len(trials), list(count), list(champions)


def _plain(value):
    with contextlib.suppress(ValueError):
        return repr(float(value))
    return str(value)


def sqlite_rows(path):
    def rows(sql):
        with contextlib.closing(sqlite3.connect(path)) as database:
            return database.execute(sql).fetchall()

    return rows


# --- targets --------------------------------------------------------------------------------------


class Extraction:
    name = "extraction"

    def __init__(self, raw, folder):
        self.raw, self.folder = raw, folder

    def begin(self, place):
        place.mkdir(parents=True, exist_ok=True)
        return start("extract", "--source", self.raw, "--out", place / "store", cwd=place)

    def result(self, place):
        return of_store(place / "store")

    whole_group = True


class Training:
    name = "training"
    whole_group = True

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "task.yaml").write_text(TRAINING)
        (self.folder / "model.yaml").write_text("lstm: {units: 8}\n")

    def command(self):
        """What trains, without its folder."""
        given = ("--task", self.folder / "task.yaml", "--model", self.folder / "model.yaml")
        given += ("--store", self.store, "--method", "none", "--device", "cpu")
        return ("train", *given)

    def begin(self, place):
        place.mkdir(parents=True, exist_ok=True)
        return start(*self.command(), "--out", place / "run", cwd=place)

    def result(self, place):
        return of_run(place / "run")


class Sweep:
    name = "sweep"
    whole_group = False  # its children must end by themselves

    def __init__(self, store, folder):
        self.store, self.folder = store, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "killed.yaml").write_text(EXPERIMENT)

    def begin(self, place):
        place.mkdir(parents=True, exist_ok=True)
        given = ("--config", self.folder / "killed.yaml", "--store", self.store, "--workers", 2)
        return start("sweep", *given, "--out", place / "work", cwd=place)

    def result(self, place):
        return of_sweep(place / "work", sqlite_rows(place / "work" / "mlflow.db"))


class Case:
    """A target with its undisturbed result, and how long that took."""

    def __init__(self, target):
        self.target = target
        began = time.monotonic()
        kill_until_done(lambda: target.begin(target.folder / "undisturbed"), [])
        self.seconds = time.monotonic() - began
        self.undisturbed = target.result(target.folder / "undisturbed")

    def fall(self, seed, number=3):
        """Kill it up to so many times at the moments of a seed; the result beside the other one."""
        place = self.target.folder / f"seed{seed}"
        kills, starts = kill_until_done(
            lambda: self.target.begin(place),
            moments(f"{self.target.name} {seed}", self.seconds, number),
            whole_group=self.target.whole_group,
        )
        same = self.target.result(place) == self.undisturbed
        return Fell(self.target.name, seed, kills, starts, same)


def log_of(place):
    return Path(place, "output").read_text("utf-8", "replace")
