"""Grids of trials that start from a trunk."""

import json

import pytest

from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import load_trunk
from mimic_reg.multitask.pretrain import compose, pretrain
from mimic_reg.report.results import collect
from mimic_reg.runs import TRIAL
from mimic_reg.settings import Component
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import MODEL, experiment

HERE = Running(runner="in_process")


@pytest.fixture(scope="module")
def work(store, empty, tmp_path_factory):
    """A work folder with a trunk."""
    folder = tmp_path_factory.mktemp("work")
    copy_of(empty, folder)
    settings = compose(
        "in_hospital_mortality", "lstm", training={"max_epochs": 1, "normalizer": "fitted"}
    ).model_copy(update={"model": Component.model_validate(MODEL)})
    (folder / "trunks").mkdir()
    pretrain(settings, store, folder / "trunks" / "masked")
    return folder


def two_grids(fingerprint, trunk="trunks/masked"):
    """From a trunk, and expressly from scratch."""
    found = experiment(
        methods=["none"], seeds=1, start={"trunk": trunk, "fingerprint": fingerprint}
    )
    scratch = experiment(methods=["none"], seeds=1, start={})
    return found.model_copy(update={"grids": (*found.grids, *scratch.grids)})


def test_a_grid_takes_a_trunk_and_compares_it_with_scratch(work, store):
    fingerprint = load_trunk(work / "trunks" / "masked").fingerprint
    swept = sweep(two_grids(fingerprint), work, store=store, running=HERE)
    assert [t.status for t in swept.trials] == ["finished"] * 2
    found = collect([swept.run_folder(t) for t in swept.trials])
    assert {t.method for t in found.trials} == {"scratch", "trunk of trunks/masked"}
    starts = [json.loads((swept.run_folder(t) / TRIAL).read_text())["trial"] for t in swept.trials]
    assert {s["start"]["fingerprint"] for s in starts} == {fingerprint, None}
    again = sweep(two_grids(fingerprint), work, store=store, running=HERE)
    assert [t.done for t in again.trials] == [True, True]


def test_another_trunk_is_refused_before_anything_starts(work, store):
    with pytest.raises(InputError, match=r"has the fingerprint \w{16}, the experiment names 0000"):
        sweep(two_grids("0000"), work, store=store)
    with pytest.raises(InputError, match="holds no trained trunk"):
        sweep(two_grids("0000", "trunks/none"), work, store=store)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": {"trunk": "a"}}, "needs both 'trunk' and 'fingerprint'"),
        ({"start": {"trunk": "../a", "fingerprint": "b"}}, "within the work folder only"),
        (
            {
                "start": {"trunk": "a", "fingerprint": "b"},
                "tasks": ["in_hospital_mortality", "phenotyping"],
                "strategy": "joint",
            },
            "start is for tasks that are trained one by one",
        ),
    ],
)
def test_wrong_starts_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        experiment(**changes)
