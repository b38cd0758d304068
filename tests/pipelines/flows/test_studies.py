"""Searches at equal budget: points of each space, the same again after a stop, and the report."""

import pytest
import yaml

from mimic_reg.errors import InputError
from mimic_reg.experiments import combinations, plan
from mimic_reg.experiments.planning import space_of
from mimic_reg.learners.trials import compose_trial
from mimic_reg.multitask.changes import change
from mimic_reg.runs import TRIAL
from mimic_reg.settings.budget import Budget, unequal
from mimic_reg_pipelines.flows.compare import compare
from mimic_reg_pipelines.flows.points import Point
from mimic_reg_pipelines.flows.search import check_fair, of_compare
from mimic_reg_pipelines.flows.studies import Study
from mimic_reg_pipelines.flows.sweep import sweep
from mimic_reg_pipelines.flows.tune import tune
from mimic_reg_pipelines.runners.settings import Running
from tests.pipelines.conftest import copy_of
from tests.pipelines.flows.experiments import experiment

HERE = Running(runner="in_process")
SPACE = {
    "lstm.units": [2, 3, 4],
    "training.learning_rate": {"low": 1e-3, "high": 0.1, "log": True},
    "early_stopping.patience": {"low": 1, "high": 3},
    "training.schedule": ["constant"],  # a default, which a trial leaves out
}
GRID = {
    "models": ["lstm"],
    "methods": ["none", "itps"],
    "seeds": 1,
    "stopping": True,
    "points": 2,
    "space": SPACE,
}


def searching(name="equal", training=None, **changes):
    return experiment(name=name, training={"max_epochs": 1} | (training or {}), **GRID | changes)


def trained(work):
    return {path.parent.name: path.stat().st_mtime_ns for path in (work / "runs").rglob(TRIAL)}


@pytest.fixture(scope="module")
def compared(store, empty, tmp_path_factory):
    """A comparison that Ctrl-C stops in the second round of points, and that then goes on."""
    work = tmp_path_factory.mktemp("work")
    copy_of(empty, work)
    rounds = []

    def stopped(*args, **options):
        if len(rounds) == 1:
            raise KeyboardInterrupt
        rounds.append(sweep(*args, **options))
        return rounds[-1]

    options = {"seeds": [0, 1], "store": store, "running": HERE}
    with pytest.raises(KeyboardInterrupt):
        compare(searching(), work, run=stopped, **options)
    before = trained(work)
    return compare(searching(), work, **options), before, work


def test_each_method_tries_as_many_points_and_none_again(compared):
    found, before, work = compared
    points = {c.method: [p.values for p in c.points] for c in found.choices}
    assert {method: len(tried) for method, tried in points.items()} == {"none": 2, "itps": 2}
    assert all({*SPACE} <= {*values} for tried in points.values() for values in tried)
    assert all("itps.tau" in values for values in points["itps"])
    assert len(before) == 2
    assert before.items() <= trained(work).items()
    assert len(found.search.trials) == 4
    assert {t.seed for t in found.result.trials} == {0, 1}
    assert len(trained(work)) == 4 + 2  # seed 0 of the winners is the search's


def test_the_same_points_without_the_stop(store, empty, tmp_path, compared):
    copy_of(empty, tmp_path)
    choices = tune(searching(), tmp_path, store=store, running=HERE).choices
    assert [(c.method, c.best, c.points) for c in choices] == [
        (c.method, c.best, c.points) for c in compared[0].choices
    ]


def test_the_winner_can_be_trained(compared):
    found, _, work = compared
    for choice in found.choices:
        given = dict(zip(choice.options[::2], choice.options[1::2], strict=True))
        trial = compose_trial(given["--task"], given["--model"], given["--method"])
        name, _, value = given["--set"].partition("=")
        trial = change(trial, {name: yaml.safe_load(value)})
        values = dict(choice.best.values)
        assert trial.model.options["units"] == values["lstm.units"]
        assert trial.training.learning_rate == values["training.learning_rate"]
        stopping = trial.regularisers[-1].options
        assert stopping["patience"] == values["early_stopping.patience"]
    assert {path.parent for path in (work / "tuned").iterdir()} == {choice.file.parent}


def test_the_report_states_the_budget_and_compares_all_sizes(compared):
    found, *_ = compared
    page = found.concluded.report.read_text("utf-8")
    assert "How were the values chosen?" in page
    assert "were tuned at the same budget" in page
    assert "TPE, seed 0" in page
    assert "the first ten are random" in page
    assert "training.learning_rate: 0.001 to 0.1 (log)" in page
    assert {row["model"] for row in found.concluded.scores} == {"lstm"}
    assert "Tuned unequally" not in found.concluded.markdown


BUDGET = {"task": "t", "model": "lstm", "points": 20, "different": 20, "complete": 20}
BUDGET |= {"seeds": (0, 1), "space": {}, "way": "TPE, seed 0"}


def test_unequal_budgets_are_told():
    same = [Budget(method="none", **BUDGET), Budget(method="itps", **BUDGET)]
    assert unequal(same) == {}
    fewer = Budget(method="l2", **BUDGET | {"points": 3, "seeds": (0,)})
    assert unequal([*same, fewer]) == {
        "t": "Tuned unequally, so a better score may come from a larger search: 20 points of 2 "
        "runs: none with lstm, itps with lstm; 3 points of 1 run: l2 with lstm."
    }


def test_the_sampler_learns_and_failed_points_do_not_stop_it():
    (combination, *_) = combinations(searching(methods=["none"], points=30))

    def search():
        study = Study(combination)
        for number in range(30):
            study.ask()
            rate = study.tried[-1]["training.learning_rate"]
            missing = (0,) if number % 5 == 4 else ()
            scores = {} if missing else {0: abs(rate - 0.01)}
            study.tell(Point(study.tried[-1], "brier", scores, missing))
        return [point["training.learning_rate"] for point in study.tried]

    rates = search()
    assert search() == rates
    far = [abs(rate - 0.01) for rate in rates]
    assert sum(far[20:]) < sum(far[:10])  # a lower Brier score is better


def test_plans_and_dry_runs_of_a_search(store, tmp_path):
    assert len({p.trial.id("") for p in plan(searching())}) == 4
    plan_of = of_compare(searching(), tmp_path / "work", seeds=range(2), store=store)
    assert plan_of.num_trials == 4 + 2
    with pytest.raises(InputError, match="Run it with `mimic-reg tune` or `mimic-reg compare`"):
        sweep(searching(), tmp_path / "work", store=store)
    assert not (tmp_path / "work").exists()


def test_every_model_of_the_package_has_a_space():
    for model in ("lstm", "logistic_regression"):
        (grid,) = searching(models=[model], methods=["none"], space={}).grids
        assert len(space_of(grid, model, "none")) >= 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"space": {"lstm.unit": [1]}}, "Did you mean 'units'"),
        ({"space": {"gru.units": [1]}}, "no method or model of its grid has 'gru.units'"),
        ({"space": {"training.learning_rat": [1]}}, "Did you mean 'learning_rate'"),
        ({"space": {"lstm.units": []}}, "no values for 'lstm.units'"),
        ({"space": {"lstm.units": {"low": 4, "high": 2}}}, r"low \(4\) must be below high \(2\)"),
        ({"space": {"lstm.units": {"low": 0, "high": 2, "log": True}}}, "low must be above 0"),
        ({"space": {"itps.tau": {"low": 0.1}}}, "tau.range.high' is missing"),
        ({"space": {"itps.tau": {"low": True, "high": 2}}}, "must be a number"),
        ({"space": {"lstm.units": {"low": 1, "high": 10**30}}}, r"number, of at most 1e\+15"),
        ({"space": {"lstm.units": 5}}, r"is 5: write choices, as \[1, 2\], or a range"),
        ({"points": 0}, "points"),
        ({"points": None}, "say how many 'points'"),
        ({"search": {"itps.tau": [1]}}, "both 'points' and 'search'"),
    ],
)
def test_what_cannot_be_searched_is_refused(changes, problem):
    with pytest.raises(InputError, match=problem):
        searching(**changes)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ({"training.plateau_factor": [0.3, 0.5]}, "lstm with none cannot .*plateau_factor=0.3"),
        ({"training.weight_decay": {"low": 0.1, "high": 20}}, "must be below 1"),
        ({"itps.tau": {"low": -1, "high": 1}}, "lstm with itps cannot be trained .*tau=-"),
        ({"lstm.units": {"low": 1.5, "high": 4}}, r"units must be a whole number, got 1\."),
        # the last of many options, which the first rounds might not draw
        (
            {"training.batch_size": [1, 2, 3, 4, 5, 6, 7, 8], "training.clip_norm": [1.0, 0]},
            r"clip_norm=0\. .*Every point of a space must be possible",
        ),
    ],
)
def test_spaces_with_impossible_points_are_refused_before_anything_starts(space, problem, tmp_path):
    with pytest.raises(InputError, match=f"(?s){problem}"):
        tune(searching(space=SPACE | space), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_space_may_have_options_of_one_method_only():
    check_fair(searching(space=SPACE | {"itps.tau": [0.001]}))


def test_a_range_has_the_type_of_its_option():
    ends = {"low": 0, "high": 1}
    space = SPACE | {"itps.tau": ends, "training.weight_decay": ends}
    (grid,) = searching(space=space).grids
    found = space_of(grid, "lstm", "itps")
    assert [found[key].whole for key in ("itps.tau", "training.weight_decay")] == [False, False]
    assert found["early_stopping.patience"].whole


def test_settings_of_networks_are_not_searched_for_other_models():
    training = {"training.learning_rate": [1e-3, 1e-2], "training.clip_norm": [1.0, None]}
    models = ["lstm", "logistic_regression"]
    (grid,) = searching(models=models, methods=["none"], space=training).grids
    assert {key.partition(".")[0] for key in space_of(grid, models[1], "none")} == {models[1]}


def test_unequal_searches_are_refused_before_anything_starts():
    parts = [searching(methods=["none"]), searching(methods=["itps"], points=4)]
    mixed = parts[0].model_copy(update={"grids": (*parts[0].grids, *parts[1].grids)})
    with pytest.raises(InputError, match=r"different numbers of tries.*none 2, itps 4"):
        check_fair(mixed)
