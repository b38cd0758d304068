"""Comparisons: a fair search of each method's strength, then seeds of what won, then the report."""

import shutil

import pytest

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.experiments import combinations
from mimic_reg.settings import files
from mimic_reg_pipelines.flows.compare import compare
from mimic_reg_pipelines.flows.search import check_fair, comparison, notes, of_compare
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import experiment

HERE = Running(runner="in_process")
FILES = {
    "taus": "regularisers: [itps]\nsearch: {itps.tau: [1e-4, 1e9]}",
    "norms": "regularisers: [norm_penalty]\nsearch: {norm_penalty.l2: [1e-3, 1e38]}",
    "diverges": "regularisers: [norm_penalty]\nsearch: {norm_penalty.l2: [1e38, 9e37]}",
    "fixed": "regularisers: [dropout: {rate: 0.2}]",
    "three": "regularisers: [dropout]\nsearch: {dropout.rate: [0.1, 0.2, 0.3]}",
    "same": "regularisers: [itps: {beta: 0.1}]\nsearch: {itps.tau: [1e-4, 1]}",
    "images": "regularisers: [dropout]\nfamilies: {dnn: {}}",
}


@pytest.fixture(autouse=True)
def _methods(tmp_path, monkeypatch):
    """Files of these methods beside those of the package."""
    configs = tmp_path / "configs"
    shutil.copytree(files.CONFIGS, configs)
    for name, text in FILES.items():
        (configs / "methods" / f"{name}.yaml").write_text(text)
    files._files_by_modules()  # kept for the process: without these files, whichever test is first
    monkeypatch.setattr(files, "CONFIGS", configs)


FOUR = ("none", "taus", "norms", "fixed")


def searching(*methods, name="fair", **changes):
    return experiment(name=name, methods=list(methods), own_search=True, seeds=1, **changes)


def test_each_method_tries_its_own_values_and_the_winners_get_all_seeds(store, empty, tmp_path):
    copy_of(empty, tmp_path)
    found = compare(
        searching("none", "taus", "norms", "fixed"),
        tmp_path,
        seeds=[0, 1],
        store=store,
        running=HERE,
    )
    assert found.search.name == "fair"
    assert len(found.search.trials) == 1 + 2 + 2 + 1
    assert {c.method: len(c.points) for c in found.choices} == {"taus": 2, "norms": 2}
    assert {c.method: c.best.values for c in found.choices}["norms"] == {"norm_penalty.l2": 1e-3}
    for choice in found.choices:  # by validation
        means = [p.mean for p in choice.points if not p.missing]
        assert choice.best.mean == max(means)
    of_method = {}
    for trial in found.result.trials:
        of_method.setdefault(trial.method, []).append((trial.seed, trial.status))
    # what the search has trained is not trained again
    assert list(of_method) == [*FOUR]
    assert all(s == [(0, "skipped"), (1, "finished")] for s in of_method.values())
    assert found.exit_code == 1  # a point of norms diverged
    assert found.concluded.report.is_file()
    assert "dropout" in found.concluded.markdown
    again = compare(
        searching("none", "taus", "norms", "fixed"),
        tmp_path,
        seeds=[0, 1],
        store=store,
        running=HERE,
    )
    assert {t.status for t in again.result.trials} == {"skipped"}


def test_a_method_of_which_all_points_fail_stops_no_other(store, empty, tmp_path):
    copy_of(empty, tmp_path)
    found = compare(
        searching("none", "taus", "diverges"), tmp_path, seeds=[0], store=store, running=HERE
    )
    assert len(found.problems) == 1
    assert "No point of diverges" in found.problems[0]
    assert [t.method for t in found.result.trials] == ["none", "taus"]
    assert found.exit_code == 1
    with pytest.raises(MimicRegError, match="No point of diverges"):
        compare(
            searching("none", "diverges", name="all"),
            tmp_path,
            seeds=[0],
            store=store,
            running=HERE,
        )


def test_a_dry_run_counts_search_and_winners_and_writes_nothing(store, tmp_path):
    work = tmp_path / "work"
    found = of_compare(searching("none", "taus", "norms"), work, seeds=range(3), store=store)
    assert found.num_trials == (1 + 2 + 2) + 2 * 3  # seed 0 of the winners is the search's
    assert not work.exists()


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["taus"], "two methods or more, but in_hospital_mortality with lstm has taus only.*tune`"),
        (["none", "fixed"], "^$"),
        (["taus", "three"], "different numbers of tries.* taus 2, three 3. Give their files"),
        (["taus", "same"], "4 trials, but only 3 different ones"),
        (["none", "images"], "'images' has no values for 'lstm'"),
        (["none", "itsp"], "Did you mean 'itps'"),
    ],
)
def test_what_is_not_fair_is_refused_before_anything_starts(methods, message, tmp_path):
    if message == "^$":
        check_fair(searching(*methods))
        assert notes(searching(*methods)) == [
            "fixed has no 'search' in its file, so it is trained with the values there."
        ]
        return
    with pytest.raises(InputError, match=message):
        compare(searching(*methods), tmp_path / "work", seeds=[0])
    assert not (tmp_path / "work").exists()


def test_methods_may_take_the_values_of_another_family():
    (grid,) = comparison("phenotyping", "gru", ["none", "lstm/dropout"]).grids
    assert (grid.methods, grid.families) == (("none", "dropout"), {"gru": "lstm"})
    with pytest.raises(InputError, match="one family at a time, not of cnn and lstm"):
        comparison("phenotyping", "gru", ["lstm/dropout", "cnn/l2"])


def test_comparisons_as_the_command_line_names_them(store):
    found = comparison("phenotyping", "lstm", ["none", "taus"], supervision=0.25)
    assert found.name == "compare-phenotyping-lstm-25"
    assert [c.searched.get("itps.tau") for c in combinations(found)] == [None, 1e-4, 1e9]
    every = [c.name for c in combinations(comparison("phenotyping", "lstm", ["all"]))]
    assert every[0] == "none"
    assert {*FILES, "variational_lstm"} - {"images"} <= set(every)
    assert not {"images", "itps_latched"} & set(every)
    with pytest.raises(InputError, match="names 'taus' twice"):
        comparison("phenotyping", "lstm", ["taus", "taus"])
    with pytest.raises(InputError, match="'sepsis' is not a task of the benchmark"):
        comparison("sepsis", "lstm", ["none", "taus"])
    with pytest.raises(InputError, match="both 'search' and 'own_search'"):
        searching("taus", search={"itps.tau": [1]})
