"""Threads of torch: they sleep while they wait, and their number belongs to the run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from mimic_reg import cli, fitting
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError
from mimic_reg.learners import deep
from mimic_reg.learners.trials import resolve
from mimic_reg.multitask import fit as multitask
from mimic_reg.progress import Progress
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.runs import BEST, TRIAL
from mimic_reg.store import Store, read_json, write_json
from mimic_reg.threads import torch_threads
from mimic_reg_pipelines.runners.base import Ended, Order
from mimic_reg_pipelines.runners.execute import execute
from tests.engine.test_checkpoint import same
from tests.multitask.fits import multi
from tests.report.runs import write_seeds
from tests.stores import write_store

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {
    "task": "in_hospital_mortality",
    "model": {"lstm": {"units": 4}},
    "training": {"normalizer": "fitted", "max_epochs": 2},
}

# --- how they wait --------------------------------------------------------------------------------

# Python runs a module of this name when it starts, in every process of a command. It writes down
# what the environment says at the moment when torch is looked for, and ends the process.
SPY = """
import os, sys

class Spy:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            with open(os.environ["SPY"], "a") as file:
                values = [os.environ.get(n, "-") for n in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME")]
                print(*values, file=file)
            os._exit(0)

sys.meta_path.insert(0, Spy())
"""
WAITING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
COMMAND = str(Path(sys.executable).parent / "mimic-reg")
TRAIN = ["--task", "in_hospital_mortality", "--model", "lstm", "--store", ".", "--out", "run"]
NO_STORE = """
from mimic_reg_pipelines.runners import Order, Pool
order = Order(trial={}, store="no", data="", folder="run", threads=1)
if __name__ == "__main__":
    with Pool(1, 1) as pool:
        pool.run(order)
"""
ENTRIES = {
    "train": [COMMAND, "train", *TRAIN],
    "python -m": [sys.executable, "-m", "mimic_reg", "train", *TRAIN],
    "evaluate": [COMMAND, "evaluate", "."],
    "finetune": [
        *(COMMAND, "finetune", "--from", ".", "--store", ".", "--task", "length_of_stay"),
        *("--out", "run"),
    ],
    "analyse": [COMMAND, "analyse", "hessian", ".", "--out", "figures"],
    "predict": [COMMAND, "predict", "--model", ".", "--store", ".", "--out", "p.parquet"],
    "sweep": [COMMAND, "sweep", "--config", "demo", "--out", "work"],
    "a process of the pool": [sys.executable, "pool.py"],
    "a Prefect flow": [sys.executable, "-c", "import mimic_reg_pipelines.flows.train"],
    "a served model": [sys.executable, "-c", "import mimic_reg_pipelines.tracking.serving"],
    "a notebook": [sys.executable, "-c", "import mimic_reg, torch"],
}


def seen(command, folder, **environment):
    """What torch found in the environment when it was loaded, once a process."""
    (folder / "sitecustomize.py").write_text(SPY)
    (folder / "pool.py").write_text(NO_STORE)
    inherited = {name: value for name, value in os.environ.items() if name not in WAITING}
    given = {"PYTHONPATH": f"{folder}:{ROOT}", "SPY": str(folder / "seen"), **environment}
    done = subprocess.run(
        command, cwd=folder, env=inherited | given, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert (folder / "seen").is_file(), f"torch was not loaded: {done.stdout}{done.stderr}"
    return set((folder / "seen").read_text().splitlines())


@pytest.mark.parametrize("command", ENTRIES.values(), ids=ENTRIES)
def test_threads_are_told_to_sleep_before_torch_is_loaded(command, tmp_path):
    assert seen(command, tmp_path) == {"PASSIVE 0"}


def test_what_the_user_has_set_stays(tmp_path):
    command = ENTRIES["a notebook"]
    assert seen(command, tmp_path, OMP_WAIT_POLICY="ACTIVE") == {"ACTIVE -"}
    (tmp_path / "seen").unlink()
    assert seen(command, tmp_path, KMP_BLOCKTIME="20") == {"PASSIVE 20"}


@pytest.mark.skipif(
    not list(Path(torch.__file__).parent.glob("lib/libgomp*")),
    reason="this build of torch does not use GNU's OpenMP",
)
def test_gnu_openmp_does_not_spin_then():
    environment = {n: v for n, v in os.environ.items() if n not in WAITING}
    for code, spins in (("import mimic_reg, torch", True), ("import torch", False)):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        assert bool(re.search(r"GOMP_SPINCOUNT = '0'", told)) is spins, told


# --- how many there are ---------------------------------------------------------------------------


class Notes(Progress):
    """Keeps what is told, and presses Ctrl-C after the first epoch if asked to."""

    def __init__(self, stop=False):
        self.notes, self.stop, self.counts = [], stop, set()

    def note(self, text):
        self.notes.append(text)

    def advance(self, amount):
        self.counts.add(torch.get_num_threads())
        if self.stop:
            os.kill(os.getpid(), 2)
            self.stop = False


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=60, hours=(48, 50))


FITS = {
    "single": (fitting.train, lambda: resolve(SETTINGS), TRIAL),
    "several tasks": (
        multitask.train,
        lambda: multi("joint", [], tasks=("in_hospital_mortality", "phenotyping")),
        "fit.json",
    ),
}


@pytest.mark.parametrize(("train", "settings", "file"), FITS.values(), ids=FITS)
def test_a_run_goes_on_with_the_number_it_was_begun_with(train, settings, file, store, tmp_path):
    out, begun = tmp_path / "run", Notes(stop=True)
    before = torch.get_num_threads()
    assert train(settings(), store, out, threads=3, progress=begun).status == "interrupted"
    assert torch.get_num_threads() == before
    assert read_json(out / file)["threads"] == 3
    assert all(read_json(path)["threads"] == 3 for path in out.rglob(TRIAL))
    gone_on = Notes()
    outcome = train(settings(), store, out, threads=2, progress=gone_on)
    assert (outcome.status, outcome.threads) == ("finished", 3)
    assert begun.counts == gone_on.counts == {3}
    assert "Begun with 3 threads: it goes on so, not with 2." in gone_on.notes
    train(settings(), store, tmp_path / "whole", threads=3)
    for path in tmp_path.glob(f"whole/**/{BEST}"):
        there = tmp_path / "run" / path.relative_to(tmp_path / "whole")
        assert same(load_state(path)["model"], load_state(there)["model"])


def test_a_sweep_tells_of_a_trial_that_keeps_its_number(store, tmp_path):
    trial, out = resolve(SETTINGS), tmp_path / "run"
    fitting.train(trial, store, out, threads=3, progress=Notes(stop=True))
    order = Order(
        trial=trial.model_dump(mode="json"),
        store=str(store),
        data=Store.open(store).manifest["fingerprint"],
        folder=str(out),
        threads=2,
    )
    ended = Ended.model_validate_json(execute(order.model_dump_json()))
    assert (ended.status, ended.note) == ("finished", "number of threads as it was begun: 3")


def test_another_environment_is_said_when_a_run_goes_on(store, tmp_path):
    out, notes = tmp_path / "run", Notes()
    fitting.train(resolve(SETTINGS), store, out, progress=Notes(stop=True))
    described = read_json(out / TRIAL)
    assert described["threads"] == 1
    del described["threads"]  # as of an older version
    described["cpu"], described["versions"]["torch"] = "Z80", "0.1"
    write_json(out / TRIAL, described)
    fitting.train(resolve(SETTINGS), store, out, progress=notes)
    assert "The number of threads of this run is not recorded; now 1." in notes.notes
    assert any("Begun with cpu Z80, goes on with" in note for note in notes.notes)
    assert any("Begun with torch 0.1, goes on with" in note for note in notes.notes)


def test_the_number_is_an_option_and_no_consequence_of_the_machine(store, tmp_path, monkeypatch):
    counts = []
    load_best = deep.Trainer.load_best

    def counting(trainer):
        counts.append(torch.get_num_threads())
        load_best(trainer)

    monkeypatch.setattr(deep.Trainer, "load_best", counting)
    settings = tmp_path / "model.yaml"
    settings.write_text("lstm: {units: 4}")
    run = ["--store", store, "--task", "in_hospital_mortality", "--model", settings]
    run += ["--set", "training.max_epochs=1"]

    def command(*arguments):
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
        assert result.exit_code == 0, (result.output, result.exception)
        return " ".join(result.output.split())

    with torch_threads(4):  # as of a machine with four
        command("train", *run, "--out", tmp_path / "one")
        command("train", *run, "--out", tmp_path / "two", "--threads", 2)
        command("evaluate", tmp_path / "two")
        told = command("evaluate", tmp_path / "two", "--threads", 3)
    assert counts == [1, 2, 2, 3]
    assert "was trained with 2 threads; with 3 threads the last digits" in told
    found = collect([tmp_path / "one", tmp_path / "two"])
    assert [trial.threads for trial in found.trials] == [1]  # one trial: the same settings


@pytest.mark.parametrize(("number", "bound"), [("0", "equal to 1"), ("1025", "equal to 1024")])
def test_numbers_that_cannot_be_are_refused(number, bound):
    result = CliRunner().invoke(cli.app, ["evaluate", "run", "--threads", number])
    assert result.exit_code == InputError.exit_code
    told = " ".join(result.output.split())
    assert "'--threads'" in told
    assert bound in told


def test_reports_say_where_the_number_differs(tmp_path):
    write_seeds(tmp_path / "runs", ("none",), [0.7, 0.8])
    assert "numbers of threads" not in to_markdown(collect([tmp_path / "runs"]))
    (path, *_) = sorted(tmp_path.rglob(TRIAL))
    write_json(path, read_json(path) | {"threads": 2})
    found = collect([tmp_path / "runs"])
    sentence = "different numbers of threads (2, not recorded)"
    assert sentence in to_markdown(found)
    assert sentence in write_report(found, tmp_path / "report.html", title="t").read_text()
