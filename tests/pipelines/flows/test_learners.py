"""A learner without gradients beside a network: swept, registered, reported, predicted with."""

import numpy as np
import polars as pl
import pytest

from mimic_reg.runs import read_trial
from mimic_reg_pipelines.flows import run as whole
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client
from tests.pipelines.conftest import copy_of, predict
from tests.pipelines.flows.experiments import MODEL, experiment

NAME = "mimic-reg-in_hospital_mortality-"
NAMES = ("lstm", "logistic_regression", "boosting")


@pytest.fixture(scope="module")
def done(store, empty, tmp_path_factory):
    work = tmp_path_factory.mktemp("learners")
    copy_of(empty, work)
    two = [{"logistic_regression": {"C": 0.01}}, {"boosting": {"max_rounds": 5}}]
    both = experiment(models=[MODEL, *two], methods=["none"])
    return whole.run(both, work, store=store, running=Running(runner="in_process"))


def test_each_has_its_champion_and_its_place_in_the_report(done):
    assert [t.status for t in done.result.trials] == ["finished"] * 6
    champions = {r.name for r in done.concluded.registered if r.champion}
    assert champions == {NAME + name for name in NAMES}
    page = done.concluded.report.read_text("utf-8")
    assert all(name in page for name in NAMES)


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_champion_predicts_as_its_run(done, store, tmp_path, name):
    (champion,) = (r for r in done.concluded.registered if r.champion and r.name == NAME + name)
    out, uri = tmp_path / "p.parquet", client.database(done.result.work)
    predict(champion.uri, store, out, uri=uri)
    folders = [done.result.run_folder(t) for t in done.result.trials]
    (run,) = (f for f in folders if read_trial(f)["id"] == champion.trial_id)
    engine = pl.read_parquet(run / "predictions_test.parquet")
    both = pl.read_parquet(out).join(engine, on="row")
    assert both.height == engine.height
    assert np.allclose(both["probability"], both["p0"], atol=1e-6)
