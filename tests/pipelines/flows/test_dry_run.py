"""Dry runs: what would be extracted and trained, and how long; nothing is written."""

import pytest

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.extraction import extract
from mimic_reg.simulation import synthesis
from mimic_reg_pipelines.flows.dry_run import of_run, of_sweep
from mimic_reg_pipelines.flows.search import comparison, of_compare
from mimic_reg_pipelines.flows.settings import Work
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import experiment


def test_a_dry_run_lists_the_trials_and_their_time():
    found = of_sweep(experiments.load("table_09"))
    assert found.num_trials == 200 == sum(line.trials for line in found.lines)
    assert len(found.lines) == 40
    assert found.seconds == pytest.approx(sum(line.seconds for line in found.lines))
    assert "200 trials. At most about" in found.summary
    assert "samples of the full MIMIC-III" in found.summary
    assert {line.epochs for line in found.lines} == {100}


def test_a_dry_run_of_several_tasks_names_them_all():
    found = of_sweep(experiments.load("table_15"))
    assert found.num_trials == 45
    assert {line.method for line in found.lines} == {
        *("none", "itps", "joint: none", "reptile: none", "reptile: itps"),
    }
    line = next(line for line in found.lines if line.method == "reptile: itps")
    assert line.task == "in_hospital_mortality + decompensation + phenotyping"
    assert line.steps == 5 * 3 * 100 * 1000  # seeds, tasks, epochs, steps


def test_all_methods_of_a_comparison_are_those_that_the_task_can_have(store, tmp_path):
    found = of_compare(
        comparison("length_of_stay", "gru", ["all"]), tmp_path, seeds=[0], store=store
    )
    methods = {line.method.partition(" ")[0] for line in found.lines}
    assert {"none", "itps", "target_replication"} & methods == {"none", "target_replication"}
    assert not {"elr", "ps_kd"} & methods


def test_a_search_of_many_points_is_costed_by_some_of_them():
    space = {"lstm.units": {"low": 1, "high": 10_000_000}}
    many = experiment(methods=["none"], points=10_000, space=space, seeds=2)
    some = experiments.plan(many, most_points=5)
    assert (len(some), sum(p.share for p in some)) == (10, 20_000)
    found = of_sweep(many)
    assert found.num_trials == 20_000
    each = of_sweep(experiment(methods=["none"], seeds=1)).lines[0]
    assert (found.lines[0].steps, found.lines[0].each) == (20_000 * each.steps, each.each)
    few = {"lstm.units": [1, 2, 3], "training.learning_rate": [0.1]}
    assert of_sweep(experiment(methods=["none"], points=500, space=few, seeds=1)).num_trials == 3


def listing(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_finished_trials_are_not_counted_again(store, empty, tmp_path):
    copy_of(empty, tmp_path)
    sweep(experiment(seeds=[0]), tmp_path, store=store, running=Running(runner="in_process"))
    before = listing(tmp_path)
    found = of_sweep(experiment(seeds=3), store, work=tmp_path)
    assert listing(tmp_path) == before
    assert [(line.trials, line.finished) for line in found.lines] == [(3, 1), (3, 1)]
    assert "6 trials. 2 are finished, 4 are to run." in found.summary
    half = of_sweep(experiment(seeds=2), store, work=tmp_path)  # both go by what the two took
    assert found.seconds == pytest.approx(2 * half.seconds)
    all_done = of_run(experiment(seeds=[0]), tmp_path, store=store)
    assert all_done.extraction == f"Nothing would be extracted: {store} is used as it is."
    assert all_done.summary.endswith("2 are finished, 0 are to run.")


def test_what_nobody_measured_is_unknown(monkeypatch):
    monkeypatch.setattr(
        "mimic_reg.experiments.costs.step_costs", lambda: {"jacobian": {"lstm": 6.0}}
    )
    some = of_sweep(experiment(methods=["none", "dropout"], seeds=2))
    assert [line.seconds is None for line in some.lines] == [False, True]
    assert "4 trials. At most about " in some.summary
    assert "; the time of 2 more is unknown." in some.summary
    none = of_sweep(experiment(methods=["dropout"], seeds=2))
    assert "Time unknown: it has not been measured for these settings." in none.summary


def test_a_dry_run_says_what_would_be_extracted_and_writes_nothing(tmp_path):
    raw, work = tmp_path / "raw", tmp_path / "work"
    synthesis.synthesize(raw, patients=20)
    place = Work(work).store
    found = of_run(experiment(), work)
    assert f"no store {place} yet" in found.extraction
    full = of_run(experiment(), work)
    assert full.summary.endswith("Counted with the samples of the full MIMIC-III.")
    found = of_run(experiment(), work, source=raw)
    assert found.extraction.startswith(f"{place} would be extracted from {raw}: 8 tables, ")
    assert "the full MIMIC-III, scaled to the " in found.summary
    assert found.seconds < full.seconds / 100
    assert not work.exists()

    extract(raw, place)
    before = listing(work)
    found = of_run(experiment(), work, source=raw)
    assert f"{place} is up to date with {raw}" in found.extraction
    assert f"samples of {place}" in found.summary
    (raw / "PATIENTS.csv").touch()
    found = of_run(experiment(), work, source=raw)
    assert found.extraction.startswith(f"{place} would be updated from {raw}")
    (place / "manifest.json").write_text('{"schema": 0, "files": {}}')
    assert "full MIMIC-III" in of_run(experiment(), work, source=raw).summary
    with pytest.raises(InputError, match="schema version 0"):
        of_run(experiment(), work)
    (place / "manifest.json").unlink()
    assert {p.name for p in before} == {p.name for p in work.rglob("*")} | {"manifest.json"}


def test_a_dry_run_refuses_what_the_run_would(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        of_run(experiment(), tmp_path, source=tmp_path / "nowhere")
    with pytest.raises(InputError, match="at least 1GB"):
        of_run(experiment(), tmp_path, memory="1MB")
    with pytest.raises(InputError, match="is not a store"):
        of_sweep(experiment(), tmp_path / "nowhere")
    images = experiments.load("cifar10_small")
    assert "known once there is a store" in of_run(images, tmp_path).summary
    with pytest.raises(InputError, match="holds no images"):
        of_run(images, tmp_path, source=tmp_path)
    (tmp_path / "train").mkdir()
    assert "made from the images" in of_run(images, tmp_path, source=tmp_path).extraction
    for name in (
        "FashionMNIST/raw/train-images-idx3-ubyte",
        "cifar-10-batches-bin/data_batch_1.bin",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    named = experiments.load("fashion_mnist")  # of several, as the run would
    assert "made from the images" in of_run(named, tmp_path, source=tmp_path).extraction
    with pytest.raises(InputError, match="is not a folder"):
        of_run(images, tmp_path, source=tmp_path / "nowhere")
