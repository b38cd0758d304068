"""prefect.yaml and the flows agree; tests/docker/test_stack.py deploys and runs them for real."""

from pathlib import Path

import yaml

from mimic_reg import experiments
from mimic_reg_pipelines.flows.compare import CompareParameters
from mimic_reg_pipelines.flows.current import CurrentParameters
from mimic_reg_pipelines.flows.extract import ExtractParameters
from mimic_reg_pipelines.flows.multitask import MultitaskParameters
from mimic_reg_pipelines.flows.search import check_fair
from mimic_reg_pipelines.flows.sweep import SweepParameters
from mimic_reg_pipelines.flows.train import TrainParameters

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "prefect.yaml"


def test_deployments_are_what_the_flows_take():
    content = yaml.safe_load(FILE.read_text("utf-8"))
    kinds = {
        "nightly": ExtractParameters,
        "weekly": SweepParameters,
        "compare": CompareParameters,
        "once": TrainParameters,
        "together": MultitaskParameters,
        "hourly": CurrentParameters,
    }
    assert [d["name"] for d in content["deployments"]] == list(kinds)
    for deployment in content["deployments"]:
        kinds[deployment["name"]].model_validate(deployment["parameters"]["parameters"])
        file, flow = deployment["entrypoint"].split(":")
        assert f"def {flow}(" in (ROOT / file).read_text("utf-8")
        assert deployment["work_pool"]["name"] == "mimic-reg"
        assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        environment = deployment["work_pool"]["job_variables"]["env"]
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert environment["DO_NOT_TRACK"] == "1"
        assert bool(deployment["schedules"]) == (
            deployment["name"] in ("nightly", "weekly", "hourly")
        )
    weekly, compared = (
        experiments.load(d["parameters"]["parameters"]["experiment"])
        for d in content["deployments"][1:3]
    )
    assert experiments.plan(weekly)
    check_fair(compared)
