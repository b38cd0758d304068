"""Runs in MLflow: logged once, completely, and without data of patients."""

import json
import os
import re
import sqlite3
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from mimic_reg.engine.recorder import read_history
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.learners.trials import resolve
from mimic_reg.store import read_json, write_json
from mimic_reg_pipelines.tracking import client, mlflow_runs, registry, summary, tracked_run


def runs(uri, name="mimic-reg-in_hospital_mortality"):
    api = client.connect(uri)
    experiment = api.get_experiment_by_name(name)
    return api.search_runs([experiment.experiment_id])


@pytest.fixture(scope="module")
def logged(run, shared_uri):
    run_id = mlflow_runs.log_trial(run, uri=shared_uri, sweep="table_09")
    return client.connect(shared_uri).get_run(run_id)


def artifacts(uri, run_id, path=None):
    return {a.path for a in client.connect(uri).list_artifacts(run_id, path)}


def test_nothing_leaves_the_machine():
    import mlflow

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "1"
    assert mlflow.telemetry.get_telemetry_client() is None
    assert not mlflow.environment_variables.MLFLOW_ALLOW_PICKLE_DESERIALIZATION.get()


@pytest.mark.parametrize(
    "uri", ["mlruns", "./mlruns", "file:///tmp/mlruns", "databricks", "", "s3://x"]
)
def test_folders_of_files_are_refused(uri, run):
    with pytest.raises(InputError, match=r"as sqlite:////.*mlflow\.db, or a server"):
        mlflow_runs.log_trial(run, uri=uri)


def test_a_runs_tags_describe_the_trial(logged, run):
    described = read_json(run / "trial.json")
    tags = logged.data.tags
    assert logged.info.status == "FINISHED"
    assert logged.info.run_name == "itps lstm 100% seed 0"
    assert tags["trial_id"] == described["id"]
    assert tags["data_fingerprint"] == described["store"]["fingerprint"]
    expected = {
        "task": "in_hospital_mortality",
        "cohort": "mimic-iii-benchmark",
        "model": "lstm",
        "method": "itps",
        "supervision": "1",
        "seed": "0",
        "sweep": "table_09",
        "sweep.table_09": "yes",
        "kind": "trial",
    }
    assert expected.items() <= tags.items()
    code = described["versions"]["code"]
    if code:  # not without git
        assert tags["code_version"] == code
        assert tags["mlflow.source.git.commit"] == code.removesuffix("+changes")
        assert tags["code_changed"] == str("+changes" in code).lower()


def test_parameters_are_the_resolved_configuration(logged):
    values = logged.data.params
    assert values["trial.regularisers"] == "itps, early_stopping"
    assert (values["trial.itps.tau"], values["trial.itps.beta"]) == ("0.0001", "0.1")
    assert (values["model"], values["trial.model.units"]) == ("lstm", "4")
    assert values["trial.training.normalizer"] == "fitted"
    assert values["trial.early_stopping.patience"] == "9"


@pytest.mark.parametrize(
    ("methods", "strength"),
    [
        (["none"], 0.0),
        ([{"dropout": {"rate": 0.2}}, "early_stopping"], 0.2),
        ([{"itps": {"beta": 0.3, "tau": 0.05}}], 0.05),  # the option by which it selects
        ([{"itps": {"tau": [-0.1, 0.25]}}], 0.25),
        ([{"spectral_dropout": {"eta": 0.1, "tau": 0.2}}, {"itps": {"tau": 0.3}}], 0.3),
        (["early_stopping"], 0.0),
    ],
)
def test_methods_are_compared_by_one_name_for_their_strength(methods, strength):
    trials = [
        resolve({"task": "phenotyping", "model": "lstm", "regularisers": given, "seed": seed})
        for seed, given in enumerate([methods, ["none"]])
    ]
    values, other = (tracked_run.params(trial, "as called") for trial in trials)
    assert float(values["strength"]) == strength
    assert values["method"] == "as called"
    other |= {"method": "none", "strength": "-1", "supervision": "0.5"}
    differ = sorted(name for name in values | other if values.get(name) != other.get(name))
    assert differ[:3] == ["method", "strength", "supervision"]  # what MLflow's Compare takes


def test_a_method_that_acts_twice_keeps_both_options():
    twice = [{"dropout": {"rate": 0.1}}, {"none": {}}, {"dropout": {"rate": 0.2}}]
    trial = resolve({"task": "phenotyping", "model": "lstm", "regularisers": twice})
    values = tracked_run.params(trial)
    assert (values["trial.dropout.0.rate"], values["trial.dropout.2.rate"]) == ("0.1", "0.2")
    assert trial.method == "dropout + dropout"
    assert trial.model_copy(update={"regularisers": ()}).method == "none"


def test_metrics_are_curves_and_the_best_checkpoints_scores(logged, run, shared_uri):
    scores = read_json(run / "scores.json")
    metrics, test = logged.data.metrics, scores["scores"]["test"]["auroc"]
    assert metrics["test/auroc"] == test["value"]
    assert (metrics["test/auroc_low"], metrics["test/auroc_high"]) == (test["low"], test["high"])
    assert metrics["validation/best_epoch"] == scores["best_epoch"] + 1
    assert metrics["validation/best_auroc"] == scores["scores"]["validation"]["auroc"]["value"]
    api = client.connect(shared_uri)
    rows = [r for r in read_history(run / "history.jsonl") if r["event"] == "epoch"]
    points = api.get_metric_history(logged.info.run_id, "validation/auroc")
    assert [(p.step, p.value) for p in points] == [
        (r["epoch"] + 1, r["validation"]["auroc"]) for r in rows
    ]
    assert all(logged.info.start_time <= p.timestamp <= logged.info.end_time for p in points)
    (final,) = api.get_metric_history(logged.info.run_id, "test/auroc")
    assert (final.step, final.timestamp) == (0, logged.info.end_time)
    assert {"train/loss", "train/gradient_norm", "selection/selected_now"} <= metrics.keys()
    assert {name.partition("/")[0] for name in metrics} == {
        *("train", "validation", "selection", "method", "cost", "test")
    }


def test_selected_parameters_are_those_of_the_best_epoch(variant):
    folder = variant(1)
    rows = read_history(folder / "history.jsonl")
    (first,) = (row for row in rows if row["event"] == "epoch" and row["epoch"] == 0)
    first["recorded"]["selected_now"] = 7
    (folder / "history.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_json(folder / "scores.json", read_json(folder / "scores.json") | {"best_epoch": 0})
    metrics = tracked_run.final_metrics(tracked_run.read_run(folder))
    assert metrics["selection/at_best"] == 7


def test_curves_are_means_within_epochs():
    step = {"event": "steps", "applied_gradient_norm": 0.5, "cost": {"seconds_per_step": 0.1}}
    history = [
        {**step, "epoch": 0, "gradient_norm": 1.0, "recorded": {"noise": 2, "J": [1.0, "nan"]}},
        {**step, "epoch": 0, "gradient_norm": 2.0, "recorded": {"noise": 4}},
        {
            "event": "epoch",
            "epoch": 0,
            "step": 7,
            "loss": 0.25,
            "validation": {"auroc": None, "brier": 0.5},
            "cost": {"training_seconds": 3.0, "validation_seconds": 1.0},
            "recorded": {"selected_now": 5},
        },
        {**step, "epoch": 1, "gradient_norm": "nan", "recorded": {}},
        {"event": "failed", "epoch": 1, "step": 8, "loss": "nan", "recorded": {}},
    ]
    assert sorted(tracked_run.curves(history)) == [
        ("cost/seconds_per_step", 0.1, 0, 4.0),
        ("cost/training_seconds", 3.0, 0, 4.0),
        ("cost/validation_seconds", 1.0, 0, 4.0),
        ("method/J.0", 1.0, 0, 4.0),
        ("method/noise", 3.0, 0, 4.0),
        ("selection/selected_now", 5.0, 0, 4.0),
        ("train/applied_gradient_norm", 0.5, 0, 4.0),
        ("train/gradient_norm", 1.5, 0, 4.0),
        ("train/loss", 0.25, 0, 4.0),
        ("train/steps", 7.0, 0, 4.0),
        ("validation/brier", 0.5, 0, 4.0),
    ]


def test_a_run_names_its_data_and_files(logged, run, shared_uri, tmp_path, monkeypatch):
    (found,) = logged.inputs.dataset_inputs
    fingerprint = read_json(run / "trial.json")["store"]["fingerprint"]
    assert found.dataset.digest == fingerprint[:36]
    assert fingerprint in found.dataset.source
    assert "num_test" in found.dataset.profile
    monkeypatch.setattr("mimic_reg.report.cohort.published.LEAST", 10**6)
    profile = mlflow_runs._dataset(tracked_run.read_tracked(run)).dataset.profile
    assert {*json.loads(profile).values()} <= {"\N{EN DASH}", "fewer than 10"}
    api = client.connect(shared_uri)
    copy = api.download_artifacts(logged.info.run_id, "scores.json", str(tmp_path))
    scored = read_json(Path(copy))
    assert "num_samples" not in scored
    assert "replicates" not in scored["scores"]["test"]["auroc"]
    names = artifacts(shared_uri, logged.info.run_id)
    assert names == {"trial.json", "trial.yaml", "scores.json", "history.jsonl"}


def test_a_trial_is_logged_once_and_may_belong_to_two_sweeps(run, uri):
    first = mlflow_runs.log_trial(run, uri=uri)
    assert mlflow_runs.log_trial(run, uri=uri, sweep="one") == first
    assert mlflow_runs.log_trial(run, uri=uri, sweep="two") == first
    (only,) = runs(uri)
    assert only.data.tags["sweep"] == "one"
    for sweep in ("one", "two"):
        found = client.connect(uri).search_runs(
            [only.info.experiment_id], mlflow_runs.sweep_filter(sweep)
        )
        assert [r.info.run_id for r in found] == [first]


def test_many_at_once_log_a_trial_once(run, uri):
    with ThreadPoolExecutor(4) as pool:
        logged = list(pool.map(lambda _: mlflow_runs.log_trial(run, uri=uri), range(4)))
    assert len(set(logged)) == len(runs(uri)) == 1


def test_an_incomplete_run_is_replaced(run, uri, monkeypatch):
    def fail(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow_runs, "_log_files", fail)
        with pytest.raises(KeyboardInterrupt):
            mlflow_runs.log_trial(run, uri=uri)
    (half,) = runs(uri)
    assert half.info.status == "RUNNING"
    whole = mlflow_runs.log_trial(run, uri=uri)
    (only,) = runs(uri)
    assert only.info.run_id == whole != half.info.run_id
    assert only.info.status == "FINISHED"


def test_a_failure_is_logged_and_a_success_replaces_it(variant, uri):
    folder = variant(1)
    done = folder / "done.json"
    content = done.read_text()
    done.unlink()
    with pytest.raises(InputError, match="not finished"):
        mlflow_runs.log_trial(folder, uri=uri)
    mlflow_runs.log_trial(folder, uri=uri, error=MimicRegError("The loss became nan"))
    (failed,) = runs(uri)
    assert failed.info.status == "FAILED"
    assert failed.data.tags["error"] == "MimicRegError: The loss became nan"
    assert "train/loss" in failed.data.metrics
    assert "test/auroc" not in failed.data.metrics
    done.write_text(content)
    mlflow_runs.log_trial(folder, uri=uri)
    (only,) = runs(uri)
    assert (only.info.status, "error" in only.data.tags) == ("FINISHED", False)
    # what is finished stays so
    assert mlflow_runs.log_trial(folder, uri=uri, error=ValueError("late")) == only.info.run_id


def test_errors_of_other_programs_are_not_quoted():
    assert mlflow_runs.error_text(ValueError("subject 731000001")) == "ValueError"


def test_an_undefined_score_is_logged_with_its_reason(variant, uri):
    folder = variant(1)
    scores = read_json(folder / "scores.json")
    empty = {"value": None, "reason": "all samples have label 'y' = 0", "low": None, "high": None}
    scores["scores"]["test"]["auroc"] = empty
    write_json(folder / "scores.json", scores)
    mlflow_runs.log_trial(folder, uri=uri)
    (only,) = runs(uri)
    assert "test/auroc" not in only.data.metrics
    assert only.data.tags["undefined.test_auroc"] == empty["reason"]


def test_a_folder_without_a_trial_is_refused(tmp_path, uri):
    with pytest.raises(InputError, match="holds no trial"):
        mlflow_runs.log_trial(tmp_path, uri=uri)


def test_no_id_of_a_patient_anywhere(run, uri, ids, tmp_path):
    mlflow_runs.log_trial(run, uri=uri, sweep="s")
    registry.register_best([run], uri=uri)
    note = tmp_path / "table.md"
    note.write_text("| a |")
    summary.log_sweep_summary("s", uri=uri, note="a", tables=[note])
    folder = client.sqlite_path(uri).parent
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for number in ids:
            assert str(number).encode() not in content, path
            assert struct.pack("<q", number) not in content, path
    # SQLite packs integers tightly: look at the values themselves
    with sqlite3.connect(client.sqlite_path(uri)) as database:
        tables = [
            n for (n,) in database.execute("select name from sqlite_master where type='table'")
        ]
        values = {v for t in tables for row in database.execute(f"select * from {t}") for v in row}
    database.close()
    assert len(values) > 100
    assert not ids & values
    assert not [p for p in files if re.search(r"predictions|\.pkl$|\.pt$", p.name)]


def test_the_files_are_for_their_owner(empty):
    client.prepare(client.database(empty.parent))  # it is there: nothing happens
    for place in (empty, empty.parent / client.ARTIFACTS):
        assert place.stat().st_mode & 0o077 == 0, place


@pytest.mark.parametrize("step", ["search_experiments", "replace"])
def test_a_database_whose_making_was_cut_off_is_made_again(tmp_path, monkeypatch, step):
    """MLflow would refuse it, for ever."""
    uri = client.database(tmp_path)
    owner = {"search_experiments": MlflowClient, "replace": Path}[step]

    def die(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, die)
        with pytest.raises(KeyboardInterrupt):
            client.prepare(uri)
    assert not (tmp_path / client.DATABASE).exists()
    client.prepare(uri)
    assert client.connect(uri).search_experiments()
    assert not list(tmp_path.glob(".mlflow.db*"))


def test_a_long_note_of_a_sweep_is_cut_at_a_line(uri):
    """PostgreSQL's column takes 8,000 characters."""
    note = "\n".join(f"line {number}" for number in range(2_000))
    run_id = summary.log_sweep_summary("long", uri=uri, note=note)
    kept = client.connect(uri).get_run(run_id).data.tags["mlflow.note.content"]
    assert 7_800 < len(kept) < 8_000
    assert kept.endswith("\n\nThe rest is in the results.")
    assert kept.splitlines()[-3] in note.splitlines()


def test_a_sweeps_summary_is_one_run(uri, tmp_path):
    paths = {name: tmp_path / name for name in ("t.csv", "t.md", "f.png", "report.html")}
    for path in paths.values():
        path.write_text("x")
    for note in ("first", "**second**"):
        run_id = summary.log_sweep_summary(
            "table_09",
            uri=uri,
            note=note,
            tables=[paths["t.csv"], paths["t.md"]],
            figures=[paths["f.png"]],
            report=paths["report.html"],
            metrics={"auroc/itps": 0.8},
        )
    (only,) = runs(uri, mlflow_runs.SWEEPS)
    assert only.info.run_id == run_id
    assert only.data.tags["mlflow.note.content"] == (
        "[Open the results](mimic-reg/table_09)\n\n**second**"
    )
    assert only.data.metrics == {"auroc/itps": 0.8}
    assert artifacts(uri, run_id) == {"tables", "figures", "report.html", "page.html"}
    assert artifacts(uri, run_id, "tables") == {"tables/t.csv", "tables/t.md"}
    with pytest.raises(InputError, match="There is no file"):
        summary.log_sweep_summary("a", uri=uri, note="", figures=[tmp_path / "no.png"])


@pytest.mark.parametrize("name", ["a'b", "", "a b", "x`", ".", "..", "-", "a/b", "a" * 201, "é"])
def test_names_that_cannot_be_searched_are_refused(name, run, uri):
    with pytest.raises(InputError, match="cannot be called"):
        mlflow_runs.log_trial(run, uri=uri, sweep=name)


def test_a_run_that_an_older_version_logged_gets_what_the_comparison_needs(run, uri):
    run_id = mlflow_runs.log_trial(run, uri=uri, sweep="s")
    api = client.connect(uri)
    whole = api.get_run(run_id).data
    with sqlite3.connect(client.sqlite_path(uri)) as database:
        database.execute("delete from tags where key in ('level', 'order')")
        database.execute("delete from params where key in ('strength', 'method')")
        for table in ("metrics", "latest_metrics"):
            for key in ("validation/best_auroc", "selection/at_best"):
                database.execute(f"delete from {table} where key = '{key}'")
    database.close()
    assert api.get_run(run_id).data.params != whole.params
    assert mlflow_runs.log_trial(run, uri=uri, sweep="other") == run_id
    renewed = api.get_run(run_id).data
    assert renewed.params == whole.params
    assert renewed.metrics == whole.metrics
    assert (renewed.tags["level"], renewed.tags["order"]) == ("100 %", whole.tags["order"])
    for name in ("s", "other"):
        assert f"(mimic-reg/{name})" in renewed.tags["mlflow.note.content"]


def test_the_deciding_score_is_logged_first(logged, shared_uri):
    """MLflow's Compare takes the first metric."""
    with sqlite3.connect(client.sqlite_path(shared_uri)) as database:
        rows = database.execute(
            "select key from latest_metrics where run_uuid = ? order by rowid",
            (logged.info.run_id,),
        )
        names = [name for (name,) in rows]
    database.close()
    assert names[0] == "test/auroc"
    sections = list(dict.fromkeys(name.partition("/")[0] for name in names))
    assert sections == ["test", "validation", "selection", "train", "method", "cost"]


def test_the_default_store_is_put_back(uri):
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    with client.default(uri):
        assert mlflow.get_tracking_uri() == uri
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
