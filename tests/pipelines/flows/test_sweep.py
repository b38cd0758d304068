"""Sweeps: isolated, resumable, the same whichever runner; without a Prefect server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import yaml

from mimic_reg import experiments
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import planning
from mimic_reg.progress import Progress
from mimic_reg.store import locked, read_json
from mimic_reg_pipelines.flows import sweep as sweeps
from mimic_reg_pipelines.flows.report import conclude
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.flows.sweep import dispatch, sweep
from mimic_reg_pipelines.runners import Ended, InProcess
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client, mlflow_runs
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import DIVERGING, content, experiment

HERE = Running(runner="in_process")
ROOT = Path(__file__).resolve().parents[3]


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def statuses(result):
    return [t.status for t in result.trials]


def test_the_views_are_renewed_with_the_first_result_of_a_model_and_method(monkeypatch):
    renewed = []
    monkeypatch.setattr(sweeps.views, "publish", lambda result, uri: renewed.append(trial.name))
    of = (("none", "x", False), ("none", "x", True), ("none", "x", True))
    of += (("itps", "x", True), ("none", "y", True))
    trials = [
        SimpleNamespace(task="a", tasks=(), label=label, model=model, done=d, name=label + model)
        for label, model, d in of
    ]
    result = SimpleNamespace(trials=[])
    prepared = SimpleNamespace(_shown=set(), result=result, uri="")
    for trial in trials:
        result.trials.append(trial)
        sweeps.Prepared._show(prepared, trial)
    assert renewed == ["nonex", "itpsx", "noney"]
    prepared._shown, renewed[:] = set(), []  # all were finished before: once is enough
    for trial in trials:
        sweeps.Prepared._show(prepared, trial)
    assert renewed == ["nonex"]


@pytest.fixture
def work(tmp_path, empty):
    """A work folder with a prepared database."""
    folder = tmp_path / "work"
    folder.mkdir()
    copy_of(empty, folder)
    return folder


@pytest.fixture(scope="module")
def swept(store, empty, tmp_path_factory):
    """A finished sweep."""
    folder = tmp_path_factory.mktemp("swept")
    copy_of(empty, folder)
    return sweep(experiment(), folder, store=store, running=HERE)


def test_every_trial_has_its_run_folder_and_its_record(swept):
    assert statuses(swept) == ["finished"] * 4
    assert swept.exit_code == 0
    for trial in swept.trials:
        folder = swept.run_folder(trial)
        assert folder.name.endswith(trial.identity)
        described = read_json(folder / "trial.json")["trial"]
        assert (described["seed"], described["task"]) == (trial.seed, "in_hospital_mortality")
    found = client.connect(client.database(swept.work)).search_runs(
        [mlflow_runs.experiment_id(client.database(swept.work), "in_hospital_mortality")],
        mlflow_runs.sweep_filter("small"),
    )
    assert sorted(run.data.tags["method"] for run in found) == ["itps", "itps", "none", "none"]


def test_the_status_can_be_read_again(swept):
    again = SweepResult.read(swept.work, "small")
    assert again == swept
    assert experiments.parse(again.configuration) == experiment()
    with pytest.raises(InputError, match="holds no sweep 'other'"):
        SweepResult.read(swept.work, "other")
    with pytest.raises(InputError, match="cannot be called"):
        SweepResult.read(swept.work, "../small")


def test_a_finished_sweep_does_nothing_again(swept, store):
    before = {p: p.stat().st_mtime_ns for p in Work(swept.work).runs.rglob("*.json")}
    again = sweep(experiment(), swept.work, store=store, running=HERE)
    assert statuses(again) == ["skipped"] * 4
    assert before == {p: p.stat().st_mtime_ns for p in Work(swept.work).runs.rglob("*.json")}


def test_sweeps_of_a_work_folder_share_their_trials(swept, store):
    other = sweep(experiment(name="larger", seeds=3), swept.work, store=store, running=HERE)
    assert sorted(statuses(other)) == ["finished"] * 2 + ["skipped"] * 4
    runs = client.connect(client.database(swept.work)).search_runs(
        [mlflow_runs.experiment_id(client.database(swept.work), "in_hospital_mortality")],
        mlflow_runs.sweep_filter("larger"),
    )
    assert len(runs) == 6


def test_one_value_changed_is_one_trial_to_run(swept, store):
    changed = experiment(name="changed", methods=["none", {"itps": {"tau": 2e-4}}], seeds=[0])
    result = sweep(changed, swept.work, store=store, running=HERE)
    assert statuses(result) == ["skipped", "finished"]


def test_other_code_makes_other_trials(swept, store, monkeypatch):
    monkeypatch.setattr(planning, "code_of", lambda trial: "other")
    result = sweep(experiment(name="code", seeds=[0]), swept.work, store=store, running=HERE)
    assert statuses(result) == ["finished"] * 2
    assert {t.identity for t in result.trials}.isdisjoint(t.identity for t in swept.trials)


def test_processes_of_their_own_give_the_same_bit_for_bit(swept, store, work):
    result = sweep(experiment(), work, store=store, running=Running(per_device="auto"))
    assert statuses(result) == ["finished"] * 4
    for one, other in zip(swept.trials, result.trials, strict=True):
        assert one.identity == other.identity
        assert content(swept.run_folder(one)) == content(result.run_folder(other))


# --- failures -------------------------------------------------------------------------------------


def test_a_failing_trial_is_recorded_and_the_others_go_on(store, work):
    notes = Notes()
    failing = experiment(methods=["none", [DIVERGING], "dropout"], seeds=[0])
    result = sweep(failing, work, store=store, running=HERE, progress=notes)
    assert sorted(statuses(result)) == ["failed", "finished", "finished"]
    assert result.exit_code == 1
    (trial,) = result.failed
    assert trial.label == "l2"
    assert "the model has diverged" in trial.error
    assert any("FAILED" in note for note in notes.notes)
    uri = client.database(work)
    runs = client.connect(uri).search_runs(
        [mlflow_runs.experiment_id(uri, "in_hospital_mortality")],
        "attributes.status = 'FAILED'",
    )
    assert "diverged" in runs[0].data.tags["error"]

    concluded = conclude(result, commands=["make demo"])
    text = concluded.report.read_text("utf-8")
    assert "diverged" in text
    assert "make demo" in text
    assert len(concluded.registered) == 1
    assert {path.name for path in concluded.tables} == {
        "scores.csv",
        "paired_tests.csv",
        "tables.md",
        "leakage.csv",
        "cohort.html",
    }
    summary = client.connect(uri).get_run(concluded.summary)
    assert summary.data.metrics["failed"] == 1

    # the normaliser of this store was not fitted: a leak, which costs no finished run
    leaks = [each for each in concluded.leakage if each.status == "found"]
    assert any("normaliser" in each.check for each in leaks)
    assert "found something, so scores may be too good" in text
    assert summary.data.metrics["leakage_findings"] == len(leaks)
    assert "Leakage: scores may be too good" in summary.data.tags["mlflow.note.content"]
    checked = [each.check for each in concluded.leakage]
    assert checked.count("predictions do not change with the future") == 1

    again = sweep(failing, work, store=store, running=HERE)
    assert sorted(statuses(again)) == ["failed", "skipped", "skipped"]  # only it was tried again


def test_analyses_of_an_experiment_are_in_its_report_and_artifacts(store, work):
    probe = {"hessian_probe": {"every": 1, "vectors": 2, "samples": 8}}
    wanted = ["hessian", "selection", "thresholds"]
    result = sweep(
        experiment(analyses=wanted, probes=[probe], seeds=[0]), work, store=store, running=HERE
    )
    concluded = conclude(result)
    text = concluded.report.read_text("utf-8")
    assert "Trace of the Hessian" in text
    assert text.count("in_hospital_mortality_lstm_selected-figure_1") == 1  # not once more
    assert "Not drawn: A study of thresholds needs trials of one task and model that" in text
    uri = client.database(work)
    api = client.connect(uri)
    files = {Path(a.path).name for a in api.list_artifacts(concluded.summary, "figures")}
    for figure in ("100_hessian", "selected", "selected_by_tensor"):
        assert {f"in_hospital_mortality_lstm_{figure}.{s}" for s in ("png", "svg")} <= files
    (run,) = api.search_runs(
        [mlflow_runs.experiment_id(uri, "in_hospital_mortality")], "tags.method = 'itps'"
    )
    curve = api.get_metric_history(run.info.run_id, "method/hessian_trace")
    assert [point.step for point in curve] == [1, 2]


def test_errors_that_nobody_expected_are_recorded_too(store, work, monkeypatch):
    from mimic_reg import fitting

    def broken(*given, **options):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(fitting, "train", broken)
    result = sweep(experiment(seeds=[0], methods=["none"]), work, store=store, running=HERE)
    assert result.trials[0].error.startswith("ZeroDivisionError: division by zero (test_sweep.py")
    with pytest.raises(InputError, match="nothing to report"):
        conclude(result)


def test_a_task_whose_validation_has_one_class_is_a_failed_run(tmp_path, work):
    from tests.stores import write_manifest, write_store

    folder = write_store(tmp_path / "store", num_subjects=30)
    path = folder / "tasks" / "in_hospital_mortality.parquet"
    changed = pl.when(pl.col("split") == "val").then(0).otherwise("y").cast(pl.Int8).alias("y")
    pl.read_parquet(path).with_columns(changed).write_parquet(path)
    write_manifest(folder)
    both = experiment(tasks=["in_hospital_mortality", "phenotyping"], methods=["none"], seeds=[0])
    result = sweep(both, work, store=folder, running=HERE)
    assert [t.status for t in result.trials] == ["failed", "finished"]
    assert "auroc of in_hospital_mortality is undefined" in result.trials[0].error
    assert "undefined" in conclude(result).report.read_text("utf-8")


def test_a_store_that_is_written_anew_meanwhile_is_noticed(store, work, monkeypatch):
    order = sweeps.Prepared.order

    def of_yesterday(self, trial, running):
        return order(self, trial, running).model_copy(update={"data": "yesterday's"})

    monkeypatch.setattr(sweeps.Prepared, "order", of_yesterday)
    result = sweep(experiment(seeds=[0], methods=["none"]), work, store=store, running=HERE)
    assert "was replaced after the sweep began" in result.trials[0].error


def test_code_that_is_changed_meanwhile_is_noticed(store, work, monkeypatch):
    monkeypatch.setattr(sweeps, "code_of", lambda trial: "yesterday's")
    result = sweep(experiment(seeds=[0], methods=["none"]), work, store=store, running=HERE)
    assert "was changed after the sweep began" in result.trials[0].error


def test_what_may_pass_is_tried_once_more(store, work, monkeypatch):
    found = []

    def dying(self, order):
        found.append(order.folder)
        return Ended(status="failed", error="killed", again=True)

    monkeypatch.setattr(InProcess, "run", dying)
    sweep(experiment(seeds=[0], methods=["none"]), work, store=store, running=HERE)
    assert len(found) == 2


def test_without_mlflow_a_sweep_goes_on(store, work, monkeypatch):
    def away(*given, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(mlflow_runs, "log_trial", away)
    notes = Notes()
    small = experiment(seeds=[0], methods=["none"])
    result = sweep(small, work, store=store, running=HERE, progress=notes)
    assert result.exit_code == 0
    assert any("Not logged in MLflow" in note for note in notes.notes)


def test_what_cannot_be_run_is_said_before_anything_is_done(store, work, tmp_path):
    images = experiments.load("table_08")
    with pytest.raises(
        InputError, match=r"needs the cohort 'fashion_mnist', but .* holds 'mimic-iii"
    ):
        sweep(images, work, store=store)
    with pytest.raises(InputError, match="is not a store"):
        sweep(experiment(), work, store=tmp_path / "nothing")
    with pytest.raises(InputError, match="MLflow no longer keeps"):
        sweep(experiment(), work, store=store, tracking_uri=str(tmp_path))
    with (
        locked(Work(work).sweep("small")),
        pytest.raises(MimicRegError, match="Another run is writing"),
    ):
        sweep(experiment(), work, store=store)


# --- interruption ---------------------------------------------------------------------------------

SCRIPT = """
import sys

if __name__ == "__main__":  # the new processes import this file, but need nothing of it
    from pathlib import Path
    from mimic_reg import experiments
    from mimic_reg_pipelines.runners.settings import Running
    from mimic_reg_pipelines.flows.sweep import sweep

    experiment, work, store = map(Path, sys.argv[1:4])
    running = Running(runner="pool", workers=int(sys.argv[4]))
    sweep(experiments.load(experiment), work, store=store, running=running)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 1), (signal.SIGINT, 2)])
def test_a_stopped_sweep_redoes_only_what_is_unfinished(store, work, tmp_path, number, workers):
    """In a pool, so that the processes must notice that their parent is gone."""
    script, file = tmp_path / "script.py", tmp_path / "small.yaml"
    script.write_text(SCRIPT)
    settings = experiment(training={"max_epochs": 15}, seeds=3).model_dump(
        mode="json", exclude_defaults=True
    )
    file.write_text(yaml.safe_dump(settings))
    command = [sys.executable, *map(str, (script, file, work, store, workers))]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/pipelines"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    runs = Work(work).runs
    _wait(lambda: list(runs.glob("*/done.json")), process)
    process.send_signal(number)
    process.wait(60)
    assert process.returncode != 0
    _wait(lambda: not _locked(runs), None)
    done = {p.parent.name: p.stat().st_mtime_ns for p in runs.glob("*/done.json")}
    assert 0 < len(done) < 6
    if number == signal.SIGINT:  # what was running wrote a checkpoint
        started = [p.parent for p in runs.glob("*/history.jsonl") if p.stat().st_size]
        assert all((p / "checkpoint.safetensors").is_file() for p in started)

    again = sweep(experiments.load(file), work, store=store, running=HERE)
    assert again.exit_code == 0
    skipped = {t.folder for t in again.trials if t.status == "skipped"}
    assert skipped == set(done)
    assert done == {
        p.parent.name: p.stat().st_mtime_ns
        for p in runs.glob("*/done.json")
        if p.parent.name in done
    }


def _wait(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the sweep ended too early"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def _locked(runs):
    """Whether a process still works in a run folder."""
    for folder in runs.iterdir():
        try:
            with locked(folder):
                pass
        except MimicRegError:
            return True
    return False


def test_an_interruption_here_stops_the_sweep_and_keeps_the_checkpoint(store, work, monkeypatch):
    run = InProcess.run
    interrupted = []

    def interrupting(self, order):
        if not interrupted:
            interrupted.append(order.folder)
            return Ended(status="interrupted")
        return run(self, order)

    monkeypatch.setattr(InProcess, "run", interrupting)
    with pytest.raises(KeyboardInterrupt):
        sweep(experiment(), work, store=store, running=HERE)
    found = sorted(statuses(SweepResult.read(work, "small")))
    assert found == ["interrupted", "unfinished", "unfinished", "unfinished"]


def test_dispatch_tells_the_runner_of_an_interruption(swept):
    class Told(InProcess):
        workers = 2
        interrupted = 0

        def interrupt(self):
            self.interrupted += 1

    def refuse(trial, ended):
        raise KeyboardInterrupt

    runner = Told()
    with pytest.raises(KeyboardInterrupt):
        dispatch(swept.trials, lambda trial: Ended(status="finished"), runner, refuse)
    assert runner.interrupted == 1


def test_the_longest_trials_begin(store, work):
    both = experiment(tasks=["in_hospital_mortality", "decompensation"], seeds=[0])
    with sweeps._prepare(both, work, store, None, None, None) as prepared:
        order = [t.task for t in prepared.pending]
    assert order[0] == order[1] == "decompensation"
