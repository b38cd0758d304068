"""Every YAML file of configs: it resolves, and an experiment says what it is, costs and expects."""

import re
from functools import cache
from types import SimpleNamespace

import pytest

from mimic_reg import experiments, models, tasks
from mimic_reg.experiments import IMAGE_TASK, combinations, load, plan
from mimic_reg.learners.trials import compose_trial
from mimic_reg.report.paper import other_settings, paper, published, row_of
from mimic_reg.settings import CONFIGS, WHOLE, TrainingSize, load_yaml
from mimic_reg.store.spec import BENCHMARK

FILES = sorted((CONFIGS / "experiments").rglob("*.yaml"))
NAMES = [path.stem for path in FILES]
LSTM_TABLES = ["table_09", "table_10", "table_11"]
TRANSFORMER_TABLES = ["table_12", "table_13", "table_14"]
IMAGE_TABLES = [f"table_0{number}" for number in range(3, 9)]
LSTM_FIGURES = ["figure_03", "figure_06", "figure_07"]
CLINICAL = [*LSTM_TABLES, *TRANSFORMER_TABLES, *LSTM_FIGURES, "tune_lstm_itps", "demo"]
CLINICAL += ["simulated", "simulated_tune", "simulated_itps", "board_simulated"]
CLINICAL += ["indicators", "indicators_demo", "equal_budget"]
DNN_FIGURES = ["figure_02", "figure_04"]
IMAGES = [*IMAGE_TABLES, *DNN_FIGURES, "fashion_mnist", "itps_readings"]
IMAGES += ["cifar10_small", "label_noise", "methods_fashion_mnist", "board_images"]
MULTI = ["table_15", "joint_channels", "multitask_demo", "transfer_demo"]
NUMBERS = ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV"]
TABLES = {roman: f"table_{number:02}" for number, roman in enumerate(NUMBERS, 3)}
OF_THE_PAPER = ["none", "dropout", "guided_dropout", "l2", "data_gradient", "jacobian"]
OF_THE_PAPER += ["spectral_dropout", "itps", "itps_spectral_dropout"]


loaded = cache(load)


@cache
def combined(name):
    return combinations(loaded(name))


@cache
def planned(name):
    return plan(loaded(name))


def test_no_file_is_overlooked():
    assert sorted(NAMES) == sorted(CLINICAL + IMAGES + MULTI) == experiments.names()


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_the_header_says_what_it_is_costs_and_expects(path):
    header = [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    keys = [m.group(1) for line in header if (m := re.match(r"# ([A-Z]\w+): \S", line))]
    assert keys == ["What", "Command", "Cost", "Paper"]
    command = next(line for line in header if line.startswith("# Command"))
    assert f"configs/experiments/{path.name}" in command or path.stem == "demo"
    cost = " ".join(header[header.index(command) + 1 :])
    experiment = loaded(path.stem)
    if any(grid.methods == "all" for grid in experiment.grids):  # how many methods there are varies
        assert re.search(r"method .* has \d+ trials", cost)
    else:
        assert re.search(rf"\b{len(combined(path.stem))} trials", cost)
    assert all(len(line) <= 100 for line in header)
    for missing in ("METHODS", "ARCHITECTURE", "not at hand", "our reading"):
        assert missing not in " ".join(header)
    assert not re.search(r"\bissue \d", " ".join(header))


@pytest.mark.parametrize("name", CLINICAL + IMAGES + MULTI)
def test_experiments_can_be_run(name):
    trials = planned(name)
    assert len(trials) == len(combined(name))
    assert len({p.folder_name("data") for p in trials}) == len(trials)


def test_table_15_has_four_ways_to_train_three_tasks():
    trials = planned("table_15")
    assert len(trials) == 45
    three = "in_hospital_mortality + decompensation + phenotyping"
    assert {(p.label, p.trial.task) for p in trials if " + " in p.trial.task} == {
        ("joint: none", three),
        ("reptile: none", three),
        ("reptile: itps", three),
    }
    for p in trials:
        if p.trial.strategy:  # the same steps of each task, whichever strategy
            assert {t.training.epoch_steps for t in p.trial.trials} == {1000}
    reptile = next(p.trial for p in trials if p.label == "reptile: itps")
    assert reptile.strategy.options["gamma"] == 0.15
    assert reptile.trials[0].training.learning_rate == 1e-3
    assert reptile.regularisers[0].options["beta"] == 0.1


@pytest.mark.parametrize("name", [*LSTM_TABLES, *TRANSFORMER_TABLES, *IMAGE_TABLES])
def test_tables_have_every_method_and_five_seeds(name):
    for grid in loaded(name).grids:
        own = ["variational_lstm"] if name in LSTM_TABLES else []
        assert sorted(grid.methods) == sorted(OF_THE_PAPER + own)
        assert grid.seeds == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("names", "model"), [(LSTM_TABLES, "lstm"), (TRANSFORMER_TABLES, "transformer")]
)
def test_clinical_tables_are_a_task_each_at_all_levels(names, model):
    grids = [loaded(name).grids[0] for name in names]
    assert [g.tasks for g in grids] == [
        ("in_hospital_mortality",),
        ("decompensation",),
        ("phenotyping",),
    ]
    assert {g.models for g in grids} == {(model,)}
    assert {g.supervision for g in grids} == {(0.25, 0.5, 0.75, 1.0)}


def test_figures_of_one_model_share_their_trials():
    first, second = [loaded(name).grids for name in DNN_FIGURES]
    assert first == second
    ids = [{p.trial.id("") for p in planned(name)} for name in LSTM_FIGURES]
    assert len(set.intersection(*ids)) == 3  # ITPS, all samples, three seeds


@pytest.mark.parametrize(("table", "name"), TABLES.items())
def test_tables_are_those_of_the_paper(table, name):
    """Data, tasks, models, levels and methods: every published score has its trials."""
    experiment, facts = loaded(name), paper()["tables"][table]
    assert experiment.title == f"Table {table}: {facts['title']}"
    trials = [
        (task, p.trial.model.name, p.trial.size, p.method)
        for p in planned(name)
        for task in p.trial.task.split(" + ")
    ]
    data = paper()["data"][facts["data"]]["cohort"]
    assert experiment.data == (None if data == BENCHMARK else data)
    methods = paper()["methods"]
    rows = [row for row in published() if row.table == table]
    for row in rows:
        ours = methods[row.method]
        name = ": ".join([*([ours["strategy"]] if "strategy" in ours else []), ours["method"]])
        assert trials.count((row.task, row.model, row.level, name)) == 5, row
    if table != "XV":
        assert {t[2] for t in trials} == {row.level for row in rows}
        assert len(trials) == 5 * (len(rows) * (1 + 1 / len({row.method for row in rows})))


@pytest.mark.parametrize(("table", "name"), TABLES.items())
def test_trials_of_tables_are_in_the_papers_settings(table, name):
    """So that their results count for its claims, and no difference is told beside its scores."""
    data, rows = paper()["tables"][table]["data"], set[str]()
    for p in planned(name):
        for trial in p.trial.parts():
            settings = trial.model_dump(mode="json")
            strategy = trial.together.strategy.name if trial.together else ""
            run = SimpleNamespace(
                settings=settings, task=trial.task, strategy=strategy, supervision=trial.size
            )
            if row := row_of(run):
                rows.add(row)
                assert other_settings(run, data) == ()
    assert rows >= {row.method for row in published() if row.table == table}


def test_the_demonstration_is_what_the_main_job_promises():
    found = [(p.trial.task, p.label, p.trial.size, p.trial.seed) for p in planned("demo")]
    expected = [
        ("in_hospital_mortality", method, TrainingSize(num_samples=size), seed)
        for method in ("none", "dropout", "itps")
        for size in (50, 100, 200, 400)
        for seed in range(8)
    ]
    expected += [(task, "none", WHOLE, 0) for task in ("phenotyping", "decompensation")]
    assert found == expected


def test_every_task_and_model_has_its_file_and_resolves():
    files = {path.stem for path in (CONFIGS / "tasks").glob("*.yaml")}
    assert files == {*tasks.names(), IMAGE_TASK, "default"}
    assert compose_trial("sepsis", "lstm", "none").training.normalizer == "fitted"
    for task in files - {"default"}:
        assert load_yaml(CONFIGS / "tasks" / f"{task}.yaml")["task"] == task
        assert compose_trial(task, "lstm", "none").task == task
    assert {path.stem for path in (CONFIGS / "models").glob("*.yaml")} >= set(models.names())
    for path in (CONFIGS / "models").glob("*.yaml"):
        compose_trial("phenotyping", str(path), "none")
