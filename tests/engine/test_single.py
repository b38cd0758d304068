"""A trial from settings to scores: the run folder, resuming, refusals, learning."""

import os
import re
import shutil
import signal
import subprocess
import sys

import polars as pl
import pytest
import torch

from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.recorder import read_history
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.fitting import evaluate, train
from mimic_reg.learners.trials import resolve
from mimic_reg.progress import Progress
from mimic_reg.report.results import collect
from mimic_reg.runs import BEST, CHECKPOINT, HISTORY, SCORES, TRIAL, finish
from mimic_reg.runs.record import read_scores
from mimic_reg.store import Store, file_hash, locked, read_json, write_json
from tests.engine.test_checkpoint import same
from tests.fits import make_trainer
from tests.stores import write_manifest, write_store

SETTINGS = {
    "task": "in_hospital_mortality",
    "model": {"lstm": {"units": 8}},
    "training": {"normalizer": "fitted", "learning_rate": 0.01, "max_epochs": 6},
}


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), num_subjects=150, hours=(48, 50))


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(resolve(SETTINGS), store, out).status == "finished"
    return out


def history(folder):
    return [{k: v for k, v in r.items() if k != "cost"} for r in read_history(folder / HISTORY)]


def test_a_run_learns_and_writes_all_files(run, store):
    assert {p.name for p in run.iterdir()} == {
        ".lock",
        "best.safetensors",
        "checkpoint.safetensors",
        "done.json",
        "history.jsonl",
        "predictions_test.parquet",
        "predictions_validation.parquet",
        "scores.json",
        "trial.json",
    }
    scores = read_scores(run)
    assert scores["test"]["auroc"].value > 0.85
    assert scores["test"]["auroc"].low > 0.6
    rows = [r for r in history(run) if r["event"] == "epoch"]
    best = max(r["validation"]["auroc"] for r in rows)
    assert scores["validation"]["auroc"].value == best
    table = pl.read_parquet(store / "tasks" / "in_hospital_mortality.parquet").with_row_index("row")
    for split, name in (("val", "validation"), ("test", "test")):
        predictions = pl.read_parquet(run / f"predictions_{name}.parquet")
        assert predictions.columns == ["row", "p0"]
        cohort = table.filter(pl.col("split") == split)
        assert predictions["row"].to_list() == cohort["row"].to_list()
    assert read_json(run / SCORES)["num_samples"]["test"] == cohort.height


def test_a_run_describes_itself(run, store):
    trial = read_json(run / TRIAL)
    assert resolve(trial["trial"]).id(trial["store"]["fingerprint"]) == trial["id"]
    assert trial["store"]["fingerprint"] == read_json(store / "manifest.json")["fingerprint"]
    assert {"python", "torch", "numpy", "mimic_reg", "code"} <= set(trial["versions"])
    done = read_json(run / "done.json")
    assert done["trial"] == trial["id"]
    files = {p.name for p in run.iterdir()} - {"done.json", "checkpoint.safetensors", ".lock"}
    assert done["files"] == {name: file_hash(run / name) for name in files}


def test_no_id_leaves_the_store(run, store):
    table = pl.read_parquet(store / "tasks" / "in_hospital_mortality.parquet")
    text = (run / HISTORY).read_text() + (run / SCORES).read_text() + (run / TRIAL).read_text()
    for stay in table["icustay_id"].head(20):
        # as a number of its own: the digits of a time may hold any id
        assert not re.search(rf"(?<![\d.]){stay}(?!\d)", text)


def test_a_finished_run_does_nothing_again(run, store):
    before = {p.name: p.stat().st_mtime_ns for p in run.iterdir() if p.name != ".lock"}
    progress = Notes()
    outcome = train(resolve(SETTINGS), store, run, progress=progress)
    assert outcome.status == "skipped"
    assert outcome.scores == {SETTINGS["task"]: read_scores(run)}
    assert "nothing to do" in progress.notes[0]
    assert before == {p.name: p.stat().st_mtime_ns for p in run.iterdir() if p.name != ".lock"}


def test_a_refused_trial_leaves_the_folder_free(store, tmp_path):
    with pytest.raises(InputError, match="cnn"):
        train(resolve({**SETTINGS, "model": {"cnn": {}}}), store, tmp_path / "run")
    short = resolve({**SETTINGS, "training": {**SETTINGS["training"], "max_epochs": 1}})
    assert train(short, store, tmp_path / "run").status == "finished"


def test_another_trial_is_refused(run, store, tmp_path):
    with pytest.raises(InputError, match="holds another trial: its seed is 0, not 1"):
        train(resolve({**SETTINGS, "seed": 1}), store, run)
    with pytest.raises(InputError, match=r"its model.lstm.units is 8, not 9"):
        train(resolve({**SETTINGS, "model": {"lstm": {"units": 9}}}), store, run)
    other = write_store(tmp_path / "other", num_subjects=20, seed=5)
    with pytest.raises(InputError, match="another store"):
        train(resolve(SETTINGS), other, run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="not empty"):
        train(resolve(SETTINGS), store, tmp_path / "full")


def test_scores_that_differ_are_kept_and_reported(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    stored = read_json(copy / SCORES)
    changed = read_json(copy / SCORES)
    changed["scores"]["test"]["brier"]["value"] += 0.01
    write_json(copy / SCORES, changed)
    with pytest.raises(InputError, match=r"scores\.json is damaged, or was changed after"):
        evaluate(copy)
    finish(copy, stored["trial"])  # as if it had been written so
    before = (copy / SCORES).read_bytes()
    with pytest.raises(
        MimicRegError, match=r"differ from the stored ones, .* test brier: stored 0\.\d+"
    ):
        evaluate(copy)
    assert (copy / SCORES).read_bytes() == before
    assert evaluate(copy, overwrite=True) == read_scores(run)
    assert read_json(copy / SCORES) == stored
    assert evaluate(copy) == read_scores(run)


@pytest.mark.parametrize("name", [BEST, HISTORY, SCORES, "predictions_test.parquet"])
def test_a_changed_finished_run_is_refused(run, store, tmp_path, name):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with (copy / name).open("ab") as file:
        file.write(b"\n")
    for use in (evaluate, lambda copy: train(resolve(SETTINGS), store, copy)):
        with pytest.raises(InputError, match=f"{name} is damaged, or was changed after the run"):
            use(copy)
    (unfinished,) = collect([copy]).unfinished
    assert f"copy/{name} is damaged" in unfinished.why


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta"])
def test_an_unknown_device_is_refused(run, store, tmp_path, device):
    with pytest.raises(InputError, match=f"device '{device}' cannot be used .* machine: cpu"):
        train(resolve(SETTINGS), store, tmp_path / "run", device=device)
    with pytest.raises(InputError, match=f"device '{device}' cannot be used"):
        evaluate(run, device=device)


def test_evaluating_again_gives_the_same(run, store, tmp_path):
    before = read_json(run / SCORES)
    assert evaluate(run) == read_scores(run)
    assert read_json(run / SCORES) == before
    moved = tmp_path / "moved"
    moved.symlink_to(store)
    assert evaluate(run, store=moved) == read_scores(run)
    other = write_store(tmp_path / "other", num_subjects=20, seed=5)
    with pytest.raises(InputError, match="fingerprints"):
        evaluate(run, store=other)
    with pytest.raises(InputError, match="no trained model"):
        evaluate(tmp_path)


def test_evaluating_a_finished_run_writes_nothing(run):
    with locked(run):  # as in a folder that may not be written
        assert evaluate(run) == read_scores(run)
        with pytest.raises(MimicRegError, match="Another run is writing"):
            evaluate(run, overwrite=True)


def test_equal_trials_are_equal_bit_for_bit(run, store, tmp_path):
    train(resolve(SETTINGS), store, tmp_path / "again")
    best, again = load_state(run / BEST), load_state(tmp_path / "again" / BEST)
    del best["recorder"], again["recorder"]  # the history's length counts digits of seconds
    assert same(best, again)
    assert history(run) == history(tmp_path / "again")
    assert read_scores(run) == read_scores(tmp_path / "again")


SCRIPT = """
import os, signal, sys
from pathlib import Path
from mimic_reg.learners.trials import resolve
from mimic_reg.settings import load_yaml
from mimic_reg.progress import Progress
from mimic_reg.fitting import train

class Killing(Progress):
    def note(self, text):  # the history has the epoch, the checkpoint not yet
        if text.startswith("epoch 4 "):
            os.kill(os.getpid(), signal.SIGKILL)

train(resolve(load_yaml(Path(sys.argv[1]))), *map(Path, sys.argv[2:]), progress=Killing())
"""


def test_killed_by_the_system_ends_as_the_uninterrupted(run, store, tmp_path):
    settings, out = tmp_path / "trial.yaml", tmp_path / "killed"
    settings.write_text(resolve(SETTINGS).to_yaml())
    command = [sys.executable, "-c", SCRIPT, str(settings), str(store), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(command, check=False, env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert len(read_history(out / HISTORY)) == 8
    assert load_state(out / CHECKPOINT)["fit"]["epoch"] == 3
    assert not (out / "done.json").exists()
    assert train(resolve(SETTINGS), store, out).status == "finished"
    assert same(load_state(out / CHECKPOINT)["model"], load_state(run / CHECKPOINT)["model"])
    assert same(load_state(out / BEST)["model"], load_state(run / BEST)["model"])
    assert history(out) == history(run)
    assert read_scores(out) == read_scores(run)


class Interrupting(Notes):
    """Presses Ctrl-C when the first epoch is reported."""

    def note(self, text):
        super().note(text)
        if text.startswith("epoch 2 "):
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_writes_a_checkpoint_and_the_run_goes_on(run, store, tmp_path):
    progress = Interrupting()
    outcome = train(resolve(SETTINGS), store, tmp_path / "run", progress=progress)
    assert outcome.status == "interrupted"
    assert outcome.scores == {}
    assert progress.notes[-1].startswith("epoch 2 ")  # the caller says that it was interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert load_state(tmp_path / "run" / CHECKPOINT)["fit"]["epoch"] == 2
    assert train(resolve(SETTINGS), store, tmp_path / "run").status == "finished"
    assert history(tmp_path / "run") == history(run)


def test_the_output_bias_may_start_at_the_prevalence_of_the_samples_that_are_kept(store, tmp_path):
    for task, num in (("in_hospital_mortality", 1), ("phenotyping", 25)):
        settings = {**SETTINGS, "task": task, "supervision": 0.5}
        settings["training"] = {**SETTINGS["training"], "output_bias": "prevalence"}
        trainer = make_trainer(resolve(settings), Store.open(store), tmp_path)
        share = trainer.train.label.double().mean(0)
        assert len(trainer.train) < len(load_train(store, task))
        assert trainer.model.head.bias.shape == (num,)
        assert torch.allclose(trainer.model.head.bias.double().sigmoid(), share, atol=1e-6)
    plain = make_trainer(resolve(SETTINGS), Store.open(store), tmp_path)
    assert plain.model.head.bias.tolist() == [0.0]


def load_train(store, task):
    return pl.read_parquet(store / "tasks" / f"{task}.parquet").filter(split="train")


def test_supervision_levels_and_pairs(store, tmp_path):
    settings = {**SETTINGS, "supervision": 0.25, "training": {"max_epochs": 1}}
    for unit in ("sample", "subject"):
        trial = resolve({**settings, "supervision_unit": unit})
        outcome = train(trial, store, tmp_path / unit)
        steps = history(tmp_path / unit)[-1]["step"]
        assert outcome.status == "finished"
        assert steps == 1  # about 30 of 120 training samples: one batch


@pytest.mark.parametrize("task", ["decompensation", "phenotyping", "length_of_stay"])
def test_every_task_trains(tmp_path, task):
    store = write_store(tmp_path / "store", num_subjects=60, hours=(10, 14))
    settings = {"task": task, "model": {"lstm": {"units": 4}}, "training": {"max_epochs": 1}}
    outcome = train(resolve(settings), store, tmp_path / "run")
    assert all(s.value is not None for s in outcome.scores[task]["test"].values())


def test_labels_that_cannot_be_learned_are_refused_before_training(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=30)
    path = folder / "tasks" / "in_hospital_mortality.parquet"
    table = pl.read_parquet(path)
    for split, message in (("train", "nothing can be learned"), ("val", "auroc .* is undefined")):
        changed = pl.when(pl.col("split") == split).then(0).otherwise("y").cast(pl.Int8).alias("y")
        table.with_columns(changed).write_parquet(path)
        write_manifest(folder)
        with pytest.raises(InputError, match=message):
            train(resolve(SETTINGS), folder, tmp_path / split)
        assert not (tmp_path / split / HISTORY).exists()


def test_an_undefined_test_score_is_recorded_with_its_reason(tmp_path):
    folder = write_store(tmp_path / "store", num_subjects=30)
    path = folder / "tasks" / "in_hospital_mortality.parquet"
    changed = pl.when(pl.col("split") == "test").then(0).otherwise("y").cast(pl.Int8).alias("y")
    pl.read_parquet(path).with_columns(changed).write_parquet(path)
    write_manifest(folder)
    settings = {**SETTINGS, "training": {"max_epochs": 1}}
    train(resolve(settings), folder, tmp_path / "run")
    content = read_json(tmp_path / "run" / SCORES)["scores"]["test"]["auroc"]
    assert content["value"] is None
    assert "label 'y' = 0" in content["reason"]
