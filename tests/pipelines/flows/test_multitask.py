"""Several tasks with one trunk: sweeps, MLflow's runs, registered models and trunks, the report."""

import re

import mlflow
import polars as pl
import pytest

from mimic_reg import fitting
from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask.finetune import Plan, finetune
from mimic_reg.report.results import collect
from mimic_reg.store import read_json
from mimic_reg_pipelines.flows.multitask import MultitaskParameters, as_experiment
from mimic_reg_pipelines.flows.report import conclude
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.flows.tune import check
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client, mlflow_runs, trunks
from tests.pipelines.conftest import copy_of, predict
from tests.pipelines.flows.experiments import DIVERGING, experiment

HERE = Running(runner="in_process")
TASKS = ["in_hospital_mortality", "phenotyping"]
GRID = {
    "tasks": TASKS,
    "strategy": {"reptile": {"epoch_iterations": 2, "inner_steps": 2}},
    "seeds": [0],
    "training_of": {"phenotyping": {"batch_size": 8, "by_length": True}},
}


@pytest.fixture(scope="module", autouse=True)
def _few_replicates():
    before, fitting.NUM_REPLICATES = fitting.NUM_REPLICATES, 20
    yield
    fitting.NUM_REPLICATES = before


@pytest.fixture(scope="module")
def swept(store, empty, tmp_path_factory):
    """A finished sweep of Reptile and ITPS-Reptile."""
    folder = tmp_path_factory.mktemp("together")
    copy_of(empty, folder)
    return sweep(experiment(name="together", **GRID), folder, store=store, running=HERE)


@pytest.fixture(scope="module")
def uri(swept):
    return client.database(swept.work)


@pytest.fixture(scope="module")
def concluded(swept):
    return conclude(swept)


def test_a_fit_is_one_trial_with_a_run_folder_for_each_task(swept):
    assert [t.status for t in swept.trials] == ["finished"] * 2
    assert {t.label for t in swept.trials} == {"reptile: none", "reptile: itps"}
    assert SweepResult.read(swept.work, "together") == swept
    for trial in swept.trials:
        assert trial.task == "in_hospital_mortality + phenotyping"
        folders = swept.run_folders(trial)
        assert [f.name for f in folders] == TASKS
        assert all((f / "done.json").is_file() for f in folders)
        assert read_json(swept.run_folder(trial) / "fit.json")["trial"]["strategy"]


def test_started_again_nothing_is_trained(swept, store):
    again = sweep(experiment(name="together", **GRID), swept.work, store=store, running=HERE)
    assert [t.status for t in again.trials] == ["skipped"] * 2


def test_each_task_is_an_ordinary_run_in_mlflow(swept, uri):
    for task in TASKS:
        runs = client.connect(uri).search_runs(
            [mlflow_runs.experiment_id(uri, task)], mlflow_runs.sweep_filter("together")
        )
        tags = {run.data.tags["method"]: run.data.tags for run in runs}
        assert set(tags) == {"reptile: none", "reptile: itps"}
        for of_run in tags.values():
            assert of_run["strategy"] == "reptile"
            assert of_run["fit_tasks"] == "in_hospital_mortality, phenotyping"
            assert re.fullmatch(r"[0-9a-f]{16}", of_run["fit"])
            assert "mlflow.parentRunId" not in of_run
        assert {run.data.params["trial.reptile.inner_steps"] for run in runs} == {"2"}
        assert {run.data.params["tasks"] for run in runs} == {", ".join(TASKS)}
        score = "auroc" if task == TASKS[0] else "macro_auroc"
        assert all(f"test/{score}" in run.data.metrics for run in runs)


def test_a_single_run_says_that_it_is_one(run, tmp_path, empty):
    uri = copy_of(empty, tmp_path / "tracking")
    tags = client.connect(uri).get_run(mlflow_runs.log_trial(run, uri=uri)).data.tags
    assert tags["strategy"] == "single"
    assert "fit" not in tags


def test_each_task_and_the_trunk_are_registered(concluded, uri):
    trunk = "mimic-reg-trunk-in_hospital_mortality-phenotyping-lstm"
    assert {m.name for m in concluded.registered} == {
        "mimic-reg-in_hospital_mortality-lstm",
        "mimic-reg-phenotyping-lstm",
        trunk,
    }
    assert all(m.champion for m in concluded.registered)
    version = client.connect(uri).get_model_version_by_alias(trunk, "champion")
    assert version.tags["tasks"] == "in_hospital_mortality, phenotyping"
    assert version.tags["selected_by"] == "mean_score"


def test_the_registered_trunk_is_the_better_one_and_can_be_fine_tuned(
    concluded, swept, store, uri, tmp_path
):
    (registered,) = (m for m in concluded.registered if "trunk" in m.name)
    trunks = [load_trunk(swept.run_folder(t)) for t in swept.trials]
    best = max(trunks, key=lambda trunk: trunk.score)
    with client.default(uri):
        path = mlflow.artifacts.download_artifacts(
            artifact_uri=registered.uri, dst_path=str(tmp_path / "trunk"), tracking_uri=uri
        )
    assert load_trunk(tmp_path / "trunk").fingerprint == best.fingerprint, path
    plan = Plan(
        task="decompensation", samples=(40,), seeds=1, training={"max_epochs": 1, "epoch_steps": 2}
    )
    folders = finetune(plan, [tmp_path / "trunk"], store, tmp_path / "tuned")
    assert {t.method for t in collect(folders).trials} == {
        "scratch",
        f"trunk of {best.origin}",
    }
    with pytest.raises(InputError, match="holds no model"):
        predict(registered.uri, store, tmp_path / "p.parquet", uri=uri)


def test_registering_again_changes_nothing(concluded, swept, uri):
    trial = next(t for t in swept.trials)
    first = trunks.register_trunk(swept.run_folder(trial), uri=uri, sweep="together")
    again = trunks.register_trunk(swept.run_folder(trial), uri=uri, sweep="together")
    assert (first.version, first.run_id) == (again.version, again.run_id)
    with pytest.raises(InputError, match="no finished fit of several tasks"):
        trunks.register_trunk(swept.run_folders(trial)[0], uri=uri)


def test_a_task_of_a_fit_predicts_like_any_run(swept, store, tmp_path):
    folder = swept.run_folders(swept.trials[0])[1]
    count = predict(str(folder), store, tmp_path / "p.parquet")
    table = pl.read_parquet(tmp_path / "p.parquet")
    kept = pl.read_parquet(folder / "predictions_test.parquet")
    served = table.filter(pl.col("split") == "test").sort("row")
    assert count == table.height
    assert (served["row"] == kept.sort("row")["row"]).all()
    assert served[table.columns[-25]].to_numpy() == pytest.approx(
        kept.sort("row")["p0"].to_numpy(), abs=1e-5
    )


def test_the_report_has_the_tasks_side_by_side(concluded):
    page = concluded.report.read_text("utf-8")
    section = page[page.index('<section id="together">') :].partition("</section>")[0]
    for text in ("reptile: none", "reptile: itps", "Phenotyping: macro AUROC"):
        assert text in section, text
    assert "reptile-in_hospital_mortality+phenotyping-lstm-itps" in page  # the run's folder
    assert "reptile: epoch_iterations 2, inner_steps 2, gamma 0.15" in page
    assert "reptile: itps" in concluded.markdown


def test_a_failing_fit_is_listed_with_its_tasks_and_the_others_go_on(store, empty, tmp_path):
    copy_of(empty, tmp_path / "work")
    failing = experiment(name="failing", **{**GRID, "methods": ["none", [DIVERGING]]})
    result = sweep(failing, tmp_path / "work", store=store, running=HERE)
    assert [t.status for t in result.trials] == ["finished", "failed"]
    found = conclude(result)
    assert "diverged" in found.report.read_text("utf-8")
    uri = client.database(result.work)
    for task in TASKS:
        runs = client.connect(uri).search_runs([mlflow_runs.experiment_id(uri, task)])
        assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_a_search_over_several_tasks_is_refused():
    searching = experiment(**{**GRID, "methods": ["itps"], "search": {"itps.tau": [0.1, 0.2]}})
    with pytest.raises(InputError, match="searches a fit of several tasks"):
        check(searching)


def test_parameters_of_the_flow_are_an_experiment():
    given = MultitaskParameters(
        work="w", options={"inner_steps": 3}, training_of={"phenotyping": {"batch_size": 8}}
    )
    made = as_experiment(given)
    assert made.grids[0].strategy.entry() == {"reptile": {"inner_steps": 3}}
    assert given.name.startswith("reptile-in_hospital_mortality-decompensation-phenotyping-lstm-")
    with pytest.raises(InputError, match="Did you mean 'inner_steps'"):
        as_experiment(MultitaskParameters(work="w", options={"iner_steps": 3}))
    for name in ("reptil", "single"):
        with pytest.raises(ValueError, match=f"no strategy '{name}'.* Allowed: joint, reptile"):
            MultitaskParameters(work="w", strategy=name)
