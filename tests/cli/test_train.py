"""Training from the command line: --set, dry runs, the lines of an epoch, the score last."""

import io
import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import typer.testing
from rich.console import Console

from mimic_reg import console
from mimic_reg.cli import app
from mimic_reg.fitting import Outcome
from mimic_reg.progress import Epoch, format_seconds
from mimic_reg.store import read_json, write_json
from tests.cli.called import mimic_reg, words
from tests.stores import write_store

TASK = "in_hospital_mortality"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, num_subjects=60, hours=(48, 50), num_phenotypes=25)
    return folder


@pytest.fixture(scope="module")
def options(store):
    given = ["--store", store, "--task", TASK, "--model", "lstm", "--method", "itps"]
    return [*given, "--set", "model.units=4", "--set", "training.normalizer=fitted"]


@pytest.fixture(scope="module")
def trained(options, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    settings = ["--set", "training.max_epochs=2", "--set", "itps.tau=0.001"]
    return work, mimic_reg("train", *options, *settings, "--out", work / "run")


def test_a_fit_shows_a_header_its_epochs_and_the_score_last(trained, options):
    work, told = trained
    assert told.returncode == 0, told.stderr
    header, first, second, *_ = told.stderr.splitlines()
    assert header.startswith(f"Training lstm with itps on {TASK}: 100 % of the training samples")
    assert "At most about" in header
    assert first.startswith("epoch 1 of 2: loss ")
    assert ", validation auroc " in first
    assert first.endswith(" left")
    assert second.startswith("epoch 2 of 2: loss ")
    assert "Note:" not in told.stderr
    assert told.stdout.splitlines()[-1].startswith(f"{TASK}: validation auroc ")
    assert "Scores, with 95 % intervals over patients" in told.stdout
    given = [*options, "--set", "training.max_epochs=2", "--set", "itps.tau=0.001"]
    again = mimic_reg("train", *given, "--out", work / "run", "--json", "--quiet")
    assert again.stderr == ""
    assert json.loads(again.stdout)["status"] == "skipped"
    again = mimic_reg("train", *given, "--out", work / "run").stderr
    assert words(again) == f"{work / 'run'} has this trial, finished; there is nothing to do."
    other = mimic_reg("train", *options, "--out", work / "run")
    assert other.returncode == 2
    assert "holds another trial" in other.stderr
    scores = mimic_reg("evaluate", work / "run")
    assert scores.stdout.strip() in told.stdout  # the same table
    assert "| itps" in mimic_reg("report", work, "--out", work / "report.html").stdout
    assert "itps" in (work / "report.html").read_text()


def test_runs_and_show_read_the_run_folders(trained, tmp_path):
    work, _ = trained
    (row,) = json.loads(mimic_reg("runs", work, "--json").stdout)
    assert (row["run"], row["task"], row["method"]) == ("run", TASK, "itps")
    assert (row["status"], row["score"], row["epochs"]) == ("finished", "auroc", 2)
    told = mimic_reg("runs", work, "--sort", "test", "--csv", tmp_path / "runs.csv")
    assert f"{row['best']} of 2" in told.stdout
    assert f"best epoch {row['best']} of 2" in trained[1].stdout
    assert (tmp_path / "runs.csv").read_text().startswith("run,task,model,method,training,seed,")
    for given, message in (
        (["--method", "itsp"], "No run has the method 'itsp'. Did you mean 'itps'?"),
        (["--sort", "tests"], "Did you mean 'test'?"),
    ):
        refused = mimic_reg("runs", work, *given)
        assert refused.returncode == 2
        assert message in words(refused.stderr)
    assert "holds no run" in mimic_reg("runs", tmp_path).stderr
    shown = mimic_reg("show", work / "run")
    assert "tau: 0.001" in shown.stdout
    assert "versions: mimic_reg" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith(f"{TASK}: validation auroc ")
    described = read_json(work / "run" / "trial.json")
    described["store"]["path"] = url = "s3://bucket/store"
    (tmp_path / "at_url").mkdir()
    write_json(tmp_path / "at_url" / "trial.json", described)
    assert f"store: {url}\n" in mimic_reg("show", tmp_path / "at_url").stdout
    found = json.loads(mimic_reg("show", work / "run", "--json").stdout)
    assert found["settings"]["model"] == {"lstm": {"units": 4}}
    assert found["scores"]["test"]["auroc"]["value"] == row["test"]


def test_a_card_and_a_board_of_the_runs(trained, tmp_path):
    work, run = trained[0], trained[0] / "run"
    call = typer.testing.CliRunner().invoke

    def told(*words):
        done = call(app, [*map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    files = told("card", run, "--out", tmp_path, "--intended-use", "Only <b>tests</b>.")["files"]
    markdown, page = (Path(file).read_text("utf-8") for file in files)
    assert "not by sex, age, ethnicity, unit." in markdown
    assert "Only &lt;b&gt;tests&lt;/b&gt;." in page
    assert "## Are its risks right?" in told("card", run)["markdown"]
    (row,) = told("board", work)["rows"]
    assert (row["method"], row["model"], row["n"]) == ("itps", "lstm", 1)
    assert "--set model.units=4" in row["command"]
    assert "| rank | model" in call(app, ["board", str(work)]).stdout
    refused = call(app, ["report", str(work), "--delta", "0"]).exception
    assert "give one above 0" in str(refused)


def test_a_run_predicts_without_mlflow_and_a_sweep_says_how_to_install_it(trained, store, tmp_path):
    work, _ = trained
    script = (
        "import sys; sys.modules['mlflow'] = sys.modules['prefect'] = None;"
        "from mimic_reg.cli import main; main()"
    )
    out = tmp_path / "predictions.parquet"
    for arguments, code, message in (
        (["predict", "--model", work / "run", "--store", store, "--out", out], 0, "predictions to"),
        (["sweep", "--config", "demo", "--out", tmp_path / "work"], 2, "pip install --constraint"),
    ):
        command = [sys.executable, "-c", script, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert message in words(done.stdout + done.stderr)
    assert pl.read_parquet(out).height > 0


def test_a_damaged_run_is_listed_as_such(trained, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trial.json").write_text("{")
    assert "damaged" in mimic_reg("runs", tmp_path).stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("model.unit=8", "There is no setting 'model.unit'. Did you mean 'model.units'?"),
        ("tau=8", "Did you mean 'itps.tau'?"),
        ("training.max_epochs=0", "'training.max_epochs' is 0: Input should be greater"),
        ("itps.tau=much", "tau must be a number or a list, each a number, got 'much'"),
        ("lstm.units=4", "lstm.units and model.units are the same setting"),
        ("units", "--set units: write a name and its value, as training.learning_rate=3e-4"),
        ("model.units=4", "--set model.units is given twice"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(options, tmp_path, given, message):
    refused = mimic_reg("train", *options, "--set", given, "--out", tmp_path / "run")
    assert refused.returncode == 2
    assert message in words(refused.stderr)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_estimates_and_trains_nothing(options, tmp_path):
    dry = [*options, "--dry-run", "--out", tmp_path / "run"]
    told = mimic_reg("train", *dry).stdout
    assert ", learning rate 0.001, at most 100 epochs. At most about" in told
    simple = [*dry[:4], "--model", "logistic_regression", *dry[-3:]]
    assert ", seed 0. Time unknown" in mimic_reg("train", *simple).stdout
    dry[3] = f"{TASK},phenotyping"
    assert "several tasks together, add --strategy" in words(mimic_reg("train", *dry).stderr)
    given = ["--strategy", "reptile", "--set", "reptile.inner_steps=2"]
    plan = json.loads(mimic_reg("train", *dry, *given, "--json").stdout)
    assert plan["settings"]["strategy"]["reptile"]["inner_steps"] == 2
    assert all(trial["model"] == {"lstm": {"units": 4}} for trial in plan["settings"]["trials"])
    refused = mimic_reg("train", *dry, *given, "--set", "training.epoch_steps=2")
    assert "There is no setting 'training.epoch_steps'" in refused.stderr
    dry[3] = "mortality"
    assert "is not a task of the cohort" in words(mimic_reg("train", *dry).stderr)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_once_where_it_goes_on(options, monkeypatch):
    interrupted = Outcome("interrupted", "id", {})
    monkeypatch.setattr("mimic_reg.fitting.train", lambda *_, **__: interrupted)
    told = mimic_reg("train", *options, "--out", "run")
    assert told.returncode == 130
    _, sentence = told.stderr.splitlines()
    text = "Interrupted. The checkpoint is in run; the same command goes on from there."
    assert sentence == text


def test_pretrain_and_finetune_take_settings_and_estimate(store, tmp_path):
    given = ["--store", store, "--task", TASK, "--set", "training.max_epochs=1"]
    trunk = ["--model", "lstm", "--set", "model.units=4", "--out", tmp_path / "trunk"]
    assert mimic_reg("pretrain", *given, *trunk, "--set", "rate=0.5", "--quiet").returncode == 0
    wrong = mimic_reg("pretrain", *given, *trunk, "--set", "rates=0.5")
    assert "Did you mean 'rate'?" in wrong.stderr
    dry = ["--from", tmp_path / "trunk", "--samples", "20", "--seeds", 2, "--dry-run"]
    told = mimic_reg("finetune", *given, *dry, "--out", tmp_path / "tuned")
    assert told.stdout.startswith(f"4 runs on {TASK}. At most about"), told.stderr
    assert not (tmp_path / "tuned").exists()


def test_list_names_what_other_commands_take(store):
    for kind, name in (("tasks", TASK), ("models", "lstm"), ("experiments", "demo")):
        assert name in json.loads(mimic_reg("list", kind, "--json").stdout)
    found = json.loads(mimic_reg("list", "methods", "--like", "itps", "--json").stdout)
    assert "itps" in [entry["name"] for entry in found]
    samples = json.loads(mimic_reg("list", "tasks", "--store", store, "--json").stdout)
    assert list(samples[TASK]["samples"]) == ["train", "validation", "test"]


@pytest.fixture
def drawn(monkeypatch):
    """Progress without a terminal, on a clock that tests set."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    return console.ConsoleProgress(Console(file=file), None), now, file


def test_the_time_left_knows_early_stopping(drawn):
    shown, now, file = drawn
    shown.stage("train", 1000, "steps")
    now[0] = 10.0
    shown.advance(100)
    shown.epoch(Epoch(1, 10, 0.5, "auroc", 0.7, best=True, may_end_in=3))
    shown.epoch(Epoch(1, 10, 0.5, "auroc", 0.7, may_end_in=6, task="phenotyping"))
    shown.epoch(Epoch(2, 10, None, "auroc", 0.6, stopped="no better score"))
    first, other, last = file.getvalue().splitlines()
    assert first == "epoch 1 of 10: loss 0.5000, validation auroc 0.7000 (best), 30 s to 90 s left"
    assert other.startswith("phenotyping, epoch 1 of 10")
    assert other.endswith(", 60 s to 90 s left")  # the fit waits for its last task
    assert last == "epoch 2 of 10: validation auroc 0.6000; stopped: no better score"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "59 s"), (150, "2.5 min"), (5 * 3600, "5.0 h"), (86_400 * 1290, "1,290 days")],
)
def test_durations(seconds, text):
    assert format_seconds(seconds) == text
