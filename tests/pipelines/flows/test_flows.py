"""The flows: states, artifacts, names, typed parameters, in one Prefect server for all tests."""

import json
import subprocess
import sys

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.exceptions import PrefectHTTPStatusError

from mimic_reg.errors import InputError
from mimic_reg.simulation.synthesis import synthesize
from mimic_reg.store import Store
from mimic_reg_pipelines.flows.artifacts import artifact_key
from mimic_reg_pipelines.flows.compare import CompareParameters, compare_flow
from mimic_reg_pipelines.flows.current import CurrentParameters, predict_current_flow
from mimic_reg_pipelines.flows.extract import ExtractParameters, extract_flow
from mimic_reg_pipelines.flows.multitask import MultitaskParameters, train_multitask_flow
from mimic_reg_pipelines.flows.report import ReportParameters, report_flow
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.run import RunParameters, run, run_flow
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.flows.sweep import SweepParameters, sweep_flow
from mimic_reg_pipelines.flows.train import TrainParameters, train_flow
from mimic_reg_pipelines.flows.tune import TuneParameters, tune_flow
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client
from mimic_reg_pipelines.tracking.registry import model_name
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import DIVERGING, TRAINING, experiment
from tests.serving.conftest import mimic  # noqa: F401  # a fixture

HERE = Running(runner="in_process")
pytestmark = pytest.mark.slow  # the server takes ten seconds


@pytest.fixture(scope="session")
def server():
    """One server for all tests of the session."""
    from prefect.testing.utilities import prefect_test_harness  # imports the server: seconds

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def work(empty, tmp_path, server):
    folder = tmp_path / "work"
    folder.mkdir()
    copy_of(empty, folder)
    return folder


@pytest.fixture
def write(tmp_path):
    """An experiment's file."""

    def make(settings):
        path = tmp_path / f"{settings.name}.yaml"
        path.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_defaults=True)))
        return str(path)

    return make


def artifact(key):
    """The newest artifact of a key."""
    with get_client(sync_client=True) as api:
        found = api.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
    data = found["data"]
    return json.loads(data) if found["type"] == "table" else data


def flow_run(state):
    with get_client(sync_client=True) as api:
        return api.read_flow_run(state.state_details.flow_run_id)


def task_runs(state):
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as api:
        return api.read_task_runs(flow_run_filter=chosen)


def test_extraction_shows_the_cohort_flow(server, tmp_path):
    synthesize(tmp_path / "raw", patients=40)
    parameters = ExtractParameters(source=tmp_path / "raw", store=tmp_path / "store")
    state = extract_flow(parameters, return_state=True)
    assert state.is_completed()
    done = state.result()
    assert done["status"] == "written"
    assert done["fingerprint"] == Store.open(tmp_path / "store").manifest["fingerprint"]
    assert artifact("cohort-flow")[0]["step"] == "all ICU stays"
    assert {row["task"] for row in artifact("samples")} >= {"Phenotyping", "Decompensation"}
    assert flow_run(state).name == f"extract {tmp_path / 'store'}"
    assert [run.tags for run in task_runs(state)] == [["mimic-reg"]]
    assert extract_flow(parameters)["status"] == "unchanged"


def test_a_wrong_source_fails_at_once_without_retries(server, tmp_path):
    parameters = ExtractParameters(source=tmp_path, store=tmp_path / "store")
    state = extract_flow(parameters, return_state=True)
    assert state.is_failed()
    (run,) = task_runs(state)
    assert run.run_count == 1
    with pytest.raises(InputError):
        state.result()


def test_a_trial_is_trained_logged_and_registered(work, store):
    parameters = TrainParameters(
        work=work, store=store, set={"training.max_epochs": 1}, method="none"
    )
    state = train_flow(parameters, return_state=True)
    done = state.result()
    assert done["registered"] == "models:/mimic-reg-in_hospital_mortality-lstm/1"
    assert done["champion"]
    name = "in_hospital_mortality-lstm-none-100-seed0"
    assert flow_run(state).name == f"train {name}"
    assert {row["split"] for row in artifact(artifact_key("trial", name))} == {
        "validation",
        "test",
    }
    assert train_flow(parameters)["status"] == "skipped"
    refused = train_flow(TrainParameters(work=work, store=store, model="lstn"), return_state=True)
    assert refused.is_failed()
    assert "Did you mean 'lstm'" in refused.message


def test_tasks_are_trained_together_logged_and_registered(work, store):
    parameters = MultitaskParameters(
        work=work,
        store=store,
        tasks=["in_hospital_mortality", "phenotyping"],
        method="none",
        set={"training.max_epochs": 1, "training.normalizer": "fitted"},
        options={"epoch_iterations": 1, "inner_steps": 1},
    )
    state = train_multitask_flow(parameters, return_state=True)
    done = state.result()
    assert done["registered"] == done["champions"]
    assert [uri.split("/")[1] for uri in done["registered"]] == [
        "mimic-reg-in_hospital_mortality-lstm",
        "mimic-reg-phenotyping-lstm",
        "mimic-reg-trunk-in_hospital_mortality-phenotyping-lstm",
    ]
    assert flow_run(state).name == f"train {parameters.name}"
    rows = artifact(artifact_key("fit", parameters.name))
    assert {row["task"] for row in rows} == {"in_hospital_mortality", "phenotyping"}
    assert train_multitask_flow(parameters)["status"] == "skipped"
    wrong = parameters.model_copy(update={"tasks": ["phenotyping", "fenotyping"]})
    refused = train_multitask_flow(wrong, return_state=True)
    assert refused.is_failed()
    assert "Did you mean 'phenotyping'" in refused.message


def test_a_sweep_fails_with_a_list_and_everything_else_is_there(work, store, write):
    failing = experiment(methods=["none", [DIVERGING], {"itps": {"tau": 1e-4}}], seeds=[0])
    parameters = SweepParameters(
        experiment=write(failing),
        work=work,
        store=store,
        running=Running(runner="pool", workers=2),
    )
    state = sweep_flow(parameters, return_state=True)
    assert state.is_failed()
    assert "1 of 3 trials have no result: in_hospital_mortality, lstm, l2" in (state.message)
    found = {run.name: run.state_type.value for run in task_runs(state)}
    assert sorted(found.values()) == ["COMPLETED", "COMPLETED", "COMPLETED", "FAILED"]
    assert found["in_hospital_mortality, lstm, none, 100 %, seed 0"] == "COMPLETED"
    table = artifact("sweep-small")
    assert [row["status"] for row in table] == ["finished", "failed", "finished"]
    assert artifact("sweep-small-progress") == 100.0
    assert "/sweeps/small/report.html" in artifact("report-small")
    assert flow_run(state).name == "sweep small"
    assert {row["method"] for row in artifact("scores-small")} == {"none", "itps"}
    assert (Work(work).sweep("small") / "report.html").is_file()
    api = client.connect(client.database(work))
    name = f"{model_name('in_hospital_mortality', 'lstm')}@champion"
    assert api.get_model_version_by_alias(*name.split("@"))

    here = parameters.model_copy(update={"running": HERE})
    again = sweep_flow(here, return_state=True)
    assert again.is_failed()
    tried = [run.name for run in task_runs(again)]
    assert sorted(tried) == [
        "conclude small",
        "in_hospital_mortality, lstm, l2, 100 %, seed 0",
    ]

    done = report_flow(ReportParameters(work=work, sweep="small"))
    assert done["registered"] == ["models:/mimic-reg-in_hospital_mortality-lstm/1"]


def test_a_search_shows_its_points_and_what_won(work, store, write):
    searched = experiment(name="tau", methods=["itps"], seeds=1, search={"itps.tau": [1e-4, 1e9]})
    parameters = TuneParameters(experiment=write(searched), work=work, store=store, running=HERE)
    assert tune_flow(parameters, return_state=True).is_completed()
    key = artifact_key("tuned", "in_hospital_mortality", "lstm", "itps")
    assert [row["itps.tau"] for row in artifact(key)] == [1e-4, 1e9]
    assert "regularisers:" in artifact(f"{key}-yaml")


def test_a_comparison_shows_the_best_of_each_search_and_the_report(work, store, write):
    searched = {"search": {"itps.tau": [1e-4, 1e9]}, "seeds": 1}
    compared = experiment(name="fair", methods=["none", "itps"], **searched)
    parameters = CompareParameters(
        experiment=write(compared), work=work, store=store, running=HERE, seeds=1
    )
    assert compare_flow(parameters, return_state=True).is_completed()
    key = artifact_key("tuned", "in_hospital_mortality", "lstm", "itps")
    assert [row["itps.tau"] for row in artifact(key)] == [1e-4, 1e9]
    assert "/sweeps/fair-chosen/report.html" in artifact("report-fair-chosen")


def test_the_main_job_is_the_same_with_and_without_prefect(server, empty, tmp_path, write):
    """Training is an epoch: it is the way from the tables to the report that is looked at."""
    synthesize(tmp_path / "raw", patients=150)
    small = experiment(name="main", methods=["none"], seeds=[0], training=TRAINING)
    results = []
    for name in ("plain", "flow"):
        copy = tmp_path / name
        copy.mkdir()
        copy_of(empty, copy)
    done = run(small, tmp_path / "plain", source=tmp_path / "raw", running=HERE)
    assert done.exit_code == 0
    assert "The patients are simulated" in done.concluded.report.read_text("utf-8")
    results.append(done.result)
    state = run_flow(
        RunParameters(
            experiment=write(small),
            work=tmp_path / "flow",
            source=tmp_path / "raw",
            running=HERE,
        ),
        return_state=True,
    )
    assert state.is_completed()
    results.append(SweepResult.read(tmp_path / "flow", "main"))
    one, other = ([t.identity for t in r.trials] for r in results)
    assert one == other
    assert results[1].simulated is True
    assert (results[1].folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (ExtractParameters, {"source": "a", "store": "b", "mode": "fast"}),
        (ExtractParameters, {"source": "a", "store": "b", "memory": "much"}),
        (ExtractParameters, {"sorce": "a", "store": "b"}),
        (TrainParameters, {"work": "w", "supervision": 25}),
        (TrainParameters, {"work": "w", "seed": -1}),
        (SweepParameters, {"work": "w"}),
        (SweepParameters, {"work": "w", "experiment": "demo", "store_": "s"}),
        (SweepParameters, {"work": "w", "experiment": "demo", "running": {"runner": "dask"}}),
        (TuneParameters, {"work": "w", "experiment": "demo", "trials": 3}),
        (RunParameters, {"work": "w", "experiment": "demo", "running": {"threads": 0}}),
    ],
)
def test_wrong_parameters_are_refused_at_submission(kind, given):
    with pytest.raises(ValueError, match=r"validation error|memory"):
        kind.model_validate(given)


def test_a_secret_in_the_parameters_of_a_run_is_refused_before_it_is_kept(server):
    deployed = sweep_flow.to_deployment("secret").apply()
    given = {"experiment": "x", "work": "w", "tracking_uri": "postgresql://u:SECRET@h/db"}
    with get_client(sync_client=True) as api, pytest.raises(PrefectHTTPStatusError, match="409"):
        api.create_flow_run_from_deployment(deployed, parameters={"parameters": given})


def test_settings_are_made_before_prefect_and_mlflow_read_theirs():
    code = (
        "import mimic_reg_pipelines, prefect.settings as s, os;"
        "c = s.get_current_settings();"
        "assert c.results.default_serializer == 'json', c.results.default_serializer;"
        "assert c.server.analytics_enabled is False;"
        "assert os.environ['DO_NOT_TRACK'] == '1'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["Tüpfel 1/2", "a_b.c"])
def test_keys_of_artifacts_are_what_prefect_takes(name):
    key = artifact_key("Sweep", name)
    assert key == key.lower()
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in key)


def test_current_stays_are_predicted_by_a_flow(work, mimic, tmp_path):  # noqa: F811
    given = CurrentParameters(source=mimic.raw, model=str(mimic.run), work=work, device="cpu")
    done = predict_current_flow(given)
    assert done["predictions"] > 100
    assert predict_current_flow(given)["predictions"] == 0
    (row,) = artifact("drift-decompensation")
    assert row["stays"] == 12
    assert row["output"] == "probability"
