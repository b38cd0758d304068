"""Runners for themselves; `test_sweep.py` compares what they come to."""

import os
import signal
import sys

import pytest

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.store import Store
from mimic_reg_pipelines.runners import Order, Pool, open_runner
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.flows.experiments import experiment


def test_without_ray_the_runner_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install .*\[ray\]"):
        open_runner(Running(runner="ray"), 2)


def test_a_process_that_dies_takes_no_other_trial_with_it(store, tmp_path):
    (planned,) = experiments.plan(experiment(methods=["none"], seeds=[0]))
    order = Order(
        trial=planned.trial.model_dump(mode="json"),
        store=str(store),
        data=Store.open(store).manifest["fingerprint"],
        folder=str(tmp_path / "run"),
        threads=1,
    )
    with Pool(1, 1) as pool:
        child = pool._children[0]
        child._start().submit(os.kill, child._pid, signal.SIGKILL)
        dead = pool.run(order)
        assert dead.status == "failed"
        assert dead.again
        assert "ended unexpectedly" in dead.error
        assert pool.run(order).status == "finished"


@pytest.mark.parametrize(
    "wrong",
    [
        {"runner": "threads"},
        {"runner": "pool", "address": "auto"},
        {"runner": "ray", "gpus_per_run": 2},
        {"runner": "ray", "device": "cuda"},
        {"runner": "ray", "gpus_per_run": 0.5, "device": "cpu"},
        {"runner": "in_process", "workers": 2},
        {"workers": 0},
        {"wokers": 2},
    ],
)
def test_wrong_settings_of_runners_are_refused(wrong):
    with pytest.raises(ValueError, match=r"validation error"):
        Running(**wrong)
