"""A fit of several tasks from settings to scores: folders, resuming, rules, refusals."""

import os
import re
import signal
import subprocess
import sys

import polars as pl
import pytest

from mimic_reg import fitting
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.fitting import evaluate
from mimic_reg.learners.trials import resolve
from mimic_reg.multitask import fit as multitask
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.progress import Progress
from mimic_reg.runs import BEST, CHECKPOINT, HISTORY, SCORES, TRIAL
from mimic_reg.runs.record import read_scores
from mimic_reg.settings import load_yaml
from mimic_reg.store import Store, read_json
from tests.engine.methods import Killed
from tests.engine.test_checkpoint import same
from tests.multitask import fits
from tests.stores import write_manifest, write_store

ITPS = [{"spectral_dropout": {"eta": 0.1}}, {"itps": {"tau": 1e-3}}]
STRATEGIES = ["reptile", "joint"]


class Notes(Progress):
    def __init__(self, act=lambda text: None):
        self.notes, self.act = [], act

    def note(self, text):
        self.notes.append(text)
        self.act(text)


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """strategy → the folder of a finished fit, trained when it is first asked for."""
    made = {}

    def get(strategy):
        if strategy not in made:
            made[strategy] = tmp_path_factory.mktemp("fits") / strategy
            multitask.train(fits.multi(strategy, ITPS), store, made[strategy])
        return made[strategy]

    return get


def states(folder):
    """All that a fit comes to, but for the sizes of histories (digits of seconds)."""
    checkpoint = load_state(folder / CHECKPOINT)
    for name, of_task in checkpoint["engines"].items():
        del of_task["recorder"]
        checkpoint[f"best of {name}"] = load_state(folder / name / BEST)["model"]
    checkpoint["trunk"] = load_state(folder / "trunk.safetensors")
    return checkpoint


def assert_as_uninterrupted(folder, expected):
    assert same(states(folder), states(expected))
    for task in fits.TASKS:
        assert fits.history(folder / task) == fits.history(expected / task)
        assert read_scores(folder / task) == read_scores(expected / task)


# --- folders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_task_has_a_run_folder_like_any_other(finished, store, strategy):
    folder = finished(strategy)
    assert {p.name for p in folder.iterdir()} == {
        *fits.TASKS,
        *(".lock", "fit.json", "checkpoint.safetensors", "done.json"),
        *("trunk.safetensors", "trunk.yaml"),
    }
    data = Store.open(store).manifest["fingerprint"]
    multi = resolve_multi(read_json(folder / "fit.json")["trial"])
    assert multi == fits.multi(strategy, ITPS)
    done = read_json(folder / "done.json")
    assert done["trial"] == multi.id(data)
    assert done["files"].keys() == {"fit.json", "trunk.safetensors", "trunk.yaml"}
    for part, width in zip(multi.parts(), (1, 1, 25), strict=True):
        run = folder / part.task
        described = read_json(run / TRIAL)
        assert resolve(described["trial"]) == part
        assert described["id"] == part.id(data) == read_json(run / "done.json")["trial"]
        assert described["trial"]["together"]["strategy"] == multi.strategy.entry()
        assert len(pl.read_parquet(run / "predictions_test.parquet").columns) == 1 + width
        rows = fits.epochs(run)
        best = read_json(run / SCORES)["best_epoch"]
        score = read_json(run / SCORES)["selected_by"]
        assert max(r["validation"][score] for r in rows) == rows[best]["validation"][score]
        assert read_scores(run)["validation"][score].value == rows[best]["validation"][score]


def test_a_task_of_a_fit_can_be_evaluated_again(finished):
    run = finished("reptile") / "phenotyping"
    before = read_json(run / SCORES)
    assert evaluate(run) == read_scores(run)
    assert read_json(run / SCORES) == before


def test_a_finished_fit_does_nothing_again(finished, store):
    folder = finished("joint")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}
    notes = Notes()
    outcome = multitask.train(fits.multi("joint", ITPS), store, folder, progress=notes)
    assert outcome.status == "skipped"
    assert outcome.scores["phenotyping"] == read_scores(folder / "phenotyping")
    assert "nothing to do" in notes.notes[0]
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}


def test_another_fit_is_refused(finished, store, tmp_path):
    with pytest.raises(InputError, match=r"its strategy\.joint\.epoch_iterations is 5, not 6"):
        multitask.train(
            fits.multi({"joint": {"epoch_iterations": 6}}, ITPS), store, finished("joint")
        )
    with pytest.raises(InputError, match="not empty"):
        multitask.train(fits.multi("joint", ITPS), store, finished("joint").parent)
    with pytest.raises(InputError, match="a run of another kind"):
        fitting.train(fits.multi("joint", ITPS).trials[0], store, finished("joint"))


def test_weights_start_as_those_of_each_task_alone(store, tmp_path):
    """Heads are their own, the trunk is the first's."""
    opened, fit = Store.open(store), fits.multi("joint", [])
    alone, together = (
        {t.task: fits.prepared(t, opened, tmp_path / kind / t.task).model.state_dict() for t in of}
        for kind, of in (("alone", fit.trials), ("together", fit.parts()))
    )
    for task, state in together.items():
        for name, value in state.items():
            source = "in_hospital_mortality" if name.startswith("trunk") else task
            assert same(value, alone[source][name]), name
    weight = "trunk.recurrence.lstm.weight_ih_l0"
    assert not same(alone["phenotyping"][weight], alone["in_hospital_mortality"][weight])


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("at", [2, 4])
def test_a_fit_killed_after_any_iteration_ends_like_an_uninterrupted_one(
    finished, store, tmp_path, monkeypatch, strategy, at
):
    """With a checkpoint after every iteration; the process ends before the next one is written."""

    def kill(text_or_amount, rows=0):
        kill.count += 1
        if kill.count == at + 1:
            raise Killed

    kill.count = 0
    progress = Progress()
    progress.advance = kill
    monkeypatch.setattr(
        multitask.MultiTrainer.__init__,
        "__kwdefaults__",
        {"progress": None, "checkpoint_seconds": 0.0},
    )
    fit = fits.multi(strategy, ITPS)
    with pytest.raises(Killed):
        multitask.train(fit, store, tmp_path / "fit", progress=progress)
    assert load_state(tmp_path / "fit" / CHECKPOINT)["iteration"] == at
    notes = Notes()
    assert multitask.train(fit, store, tmp_path / "fit", progress=notes).status == "finished"
    assert "Going on from the checkpoint." in notes.notes
    assert_as_uninterrupted(tmp_path / "fit", finished(strategy))


SCRIPT = """
import os, signal, sys
from pathlib import Path
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.settings import load_yaml
from mimic_reg.progress import Progress
from mimic_reg.multitask.fit import train

class Killing(Progress):
    def note(self, text):  # two histories have the epoch, the checkpoint and the third not yet
        if text.startswith("decompensation, epoch 2 "):
            os.kill(os.getpid(), signal.SIGKILL)

train(resolve_multi(load_yaml(Path(sys.argv[1]))), *map(Path, sys.argv[2:]), progress=Killing())
"""


def test_a_fit_killed_by_the_system_ends_like_an_uninterrupted_one(finished, store, tmp_path):
    fit, out = fits.multi("reptile", ITPS), tmp_path / "killed"
    (tmp_path / "fit.yaml").write_text(fit.to_yaml())
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "fit.yaml"), str(store), str(out)]
    killed = subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert killed.returncode == -signal.SIGKILL
    assert len(fits.epochs(out / "decompensation")) == 2 > len(fits.epochs(out / "phenotyping"))
    assert multitask.train(fit, store, out).status == "finished"
    assert_as_uninterrupted(out, finished("reptile"))


def test_ctrl_c_writes_a_checkpoint_and_the_fit_goes_on(finished, store, tmp_path):
    fit, out = fits.multi("reptile", ITPS), tmp_path / "fit"
    interrupting = Notes(
        lambda text: "phenotyping, epoch 1 " in text and os.kill(os.getpid(), signal.SIGINT)
    )
    outcome = multitask.train(fit, store, out, progress=interrupting)
    assert (outcome.status, outcome.scores) == ("interrupted", {})
    assert load_state(out / CHECKPOINT)["iteration"] == 3
    assert multitask.train(fit, store, out).status == "finished"
    assert_as_uninterrupted(out, finished("reptile"))


# --- methods, models, levels ----------------------------------------------------------------------

METHODS = {
    "guided_dropout": [{"guided_dropout": {"warm_up": 0.0}}],
    "variational_lstm": ["variational_lstm"],
    "jacobian": [{"jacobian": {"weight": 0.01}}, {"norm_penalty": {"l2": 1e-3}}],
    "data_gradient": [{"data_gradient": {"weight": 0.01}}],
}


@pytest.mark.parametrize("method", METHODS)
def test_other_methods_train_and_leave_the_trunk_shared(store, tmp_path, method):
    fit = fits.multi("reptile", METHODS[method], max_epochs=1, tasks=fits.TASKS[1:])
    assert multitask.train(fit, store, tmp_path / "fit").status == "finished"
    one, other = (
        {n: w for n, w in e["model"].items() if n.startswith("trunk")}
        for e in load_state(tmp_path / "fit" / CHECKPOINT)["engines"].values()
    )
    assert same(one, other)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_transformers_and_lower_levels(store, tmp_path, strategy):
    fit = fits.multi(
        strategy, [{"itps": {"tau": 1e-4}}], model="transformer", supervision=0.5, max_epochs=1
    )
    scores = multitask.train(fit, store, tmp_path / "fit").scores
    assert all(of_task["test"] for of_task in scores.values())
    alone = fitting.train(fit.trials[0], store, tmp_path / "alone")
    (own,) = alone.scores.values()
    assert own["test"].keys() == scores["in_hospital_mortality"]["test"].keys()


def test_the_fit_ends_when_all_tasks_ask_for_it_in_the_same_epoch(store, tmp_path):
    methods = [{"early_stopping": {"patience": 2}}]
    fit = fits.multi("reptile", methods, max_epochs=40)
    multitask.train(fit, store, tmp_path / "fit")
    rows = {task: fits.epochs(tmp_path / "fit" / task) for task in fits.TASKS}
    lengths = {len(of_task) for of_task in rows.values()}
    assert lengths == {len(rows["phenotyping"])}
    asked = [[bool(row["stop_reason"]) for row in of_task] for of_task in rows.values()]
    together = [all(of_epoch) for of_epoch in zip(*asked, strict=True)]
    assert together == [False] * (len(together) - 1) + [True]
    assert any(any(of_task[:-1]) for of_task in asked)  # one that asked earlier went on


def test_the_trunk_that_is_kept_is_that_of_the_best_mean(finished):
    folder = finished("reptile")
    by = {t: read_json(folder / t / SCORES)["selected_by"] for t in fits.TASKS}
    rows = [[r["validation"][by[t]] for r in fits.epochs(folder / t)] for t in fits.TASKS]
    means = [sum(of_epoch) / 3 for of_epoch in zip(*rows, strict=True)]
    described = load_yaml(folder / "trunk.yaml")
    assert described["mean_validation_score"] == pytest.approx(max(means))
    assert described["epoch"] == means.index(max(means))
    assert described["origin"].startswith("reptile: spectral_dropout + itps on in_hospital")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "reptil"}, "no strategy 'reptil' .*Did you mean 'reptile'"),
        ({"strategy": "single"}, "no strategy 'single' for several tasks"),
        ({"trails": []}, "no setting 'trails'. Did you mean 'trials'"),
        ({"trials": []}, "a strategy, and trials: one for each task"),
        ({"seed": 1}, "'seed' belongs in each of the trials"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    settings = {"strategy": "joint", "trials": [{"task": "phenotyping", "model": "lstm"}]}
    with pytest.raises(InputError, match=message):
        resolve_multi(settings | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "the task 'phenotyping' is given twice"),
        ({"task": "decompensation", "seed": 1}, "one seed, but phenotyping has 0 and decom.* 1"),
        ({"task": "decompensation", "training": {"max_epochs": 3}}, "one max_epochs"),
        ({"task": "decompensation", "model": {"lstm": {"units": 8}}}, "one model, .*'units': 256"),
        ({"task": "decompensation", "regularisers": ["itps"]}, "the same methods"),
    ],
)
def test_tasks_that_cannot_share_a_fit_are_refused(change, message):
    trial = {"task": "phenotyping", "model": "lstm"}
    with pytest.raises(InputError, match=message):
        resolve_multi({"strategy": "joint", "trials": [trial, trial | change]})


def test_errors_name_the_task_that_cannot_be_learned(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=30)
    path = folder / "tasks" / "decompensation.parquet"
    table = pl.read_parquet(path)
    changed = pl.when(pl.col("split") == "val").then(0).otherwise("y").cast(pl.Int8).alias("y")
    table.with_columns(changed).write_parquet(path)
    write_manifest(folder)
    with pytest.raises(InputError, match="auroc of decompensation is undefined"):
        multitask.train(fits.multi("joint", []), folder, tmp_path / "fit")
    assert not (tmp_path / "fit" / "decompensation" / HISTORY).exists()
    others = fits.multi("joint", [], tasks=("in_hospital_mortality", "phenotyping"), max_epochs=1)
    assert multitask.train(others, folder, tmp_path / "fit").status == "finished"  # it made way


def test_a_diverging_task_is_named_and_nothing_is_lost(store, tmp_path):
    fit = fits.multi("joint", [{"norm_penalty": {"l2": 1e38}}])
    with pytest.raises(MimicRegError, match="the model has diverged"):
        multitask.train(fit, store, tmp_path / "fit")
    assert not (tmp_path / "fit" / "done.json").exists()


def test_no_id_is_in_the_folder_of_a_fit(finished, store):
    folder = finished("reptile")
    stays = pl.read_parquet(store / "tasks" / "phenotyping.parquet")["icustay_id"].head(20)
    texts = [p.read_text() for p in folder.rglob("*") if p.suffix in (".json", ".yaml", ".jsonl")]
    assert len(texts) > 10
    for stay in stays:
        assert not any(re.search(rf"(?<![\d.]){stay}(?!\d)", text) for text in texts)
