"""A grid in YAML: what is refused, which trials it stands for, what makes two of them the same."""

import shutil

import pytest

from mimic_reg import experiments, tasks
from mimic_reg.errors import InputError
from mimic_reg.experiments import (
    combinations,
    estimate,
    identity,
    left_out,
    parse,
    plan,
    sizes,
    step_cost,
)
from mimic_reg.learners.trials import compose_trial
from mimic_reg.settings import CONFIGS, load_yaml
from mimic_reg.sources.images import cohort
from mimic_reg.store import Store
from tests.report import runs as made_up
from tests.stores import write_store

GRID = {"tasks": ["in_hospital_mortality"], "models": ["lstm"], "methods": ["itps"]}
SMALL = {"lstm": {"units": 8}}


def grid(**changes):
    return parse({"name": "x", "title": "X", "grids": [GRID | changes]})


def labels(experiment):
    return [p.label for p in plan(experiment)]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["in_hospital_mortalty"]}, "Did you mean 'in_hospital_mortality'"),
        ({"models": ["lstn"]}, "no model 'lstn'. Did you mean 'lstm'"),
        ({"models": [{"lstm": {"unit": 8}}]}, "Did you mean 'units'"),
        ({"methods": ["ipts"]}, "no method 'ipts' in configs/methods. Did you mean 'itps'"),
        ({"methods": ["../../tasks/phenotyping"]}, "no method"),
        ({"methods": ["lstm/itps"]}, "no method 'lstm/itps'.*Did you mean 'itps'"),
        ({"methods": [{"itps": {"taw": 0.1}}]}, "no option 'taw'. Did you mean 'tau'"),
        ({"model": ["lstm"]}, r"no setting 'grids.0.model'. Did you mean 'models'"),
        ({"models": "lstm"}, "'grids.0.models' is 'lstm': Input should be a valid list"),
        ({"methods": []}, "'grids.0.methods' is .*at least 1 item"),
        ({"training": {"max_epoch": 3}}, "Did you mean 'max_epochs'"),
        ({"training": {"max_epochs": "many"}}, "training.max_epochs"),
        ({"supervision": [25]}, "share of the training samples"),
        ({"num_samples": [1]}, "greater than or equal to 2"),
        ({"num_samples": [50], "supervision": [1]}, "both 'supervision' and 'num_samples'"),
        ({"num_samples": [50], "supervision_unit": "subject"}, "supervision_unit must be 'sample'"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"seeds": 0}, "at least 1 item"),
        ({"families": {"lstm": "lstn"}}, "no family 'lstn'. Did you mean 'lstm'"),
        ({"search": {"itps.tua": [1]}}, "Did you mean 'tau'"),
        ({"search": {"l2.tau": [1]}}, "no method or model of its grid has 'l2.tau'"),
        ({"search": {"tau": [1]}}, "write component.option"),
        ({"search": {"itps.tau": []}}, "no values for 'itps.tau'"),
        ({"probes": ["hessian_prob"]}, "no probe 'hessian_prob'. Did you mean 'hessian_probe'"),
        ({"probes": ["dropout"]}, "no probe 'dropout'. Allowed: hessian_probe"),
        ({"probes": [{"hessian_probe": {"each": 2}}]}, "no option 'each'"),
        ({"strategy": "reptil"}, "no strategy 'reptil'. Did you mean 'reptile'"),
        ({"data": "CIFAR 10"}, "match pattern"),
    ],
)
def test_errors_name_what_is_unknown_or_wrong(changes, message):
    with pytest.raises(InputError, match=message):
        grid(**changes)


def test_an_unknown_analysis_is_refused_by_name():
    with pytest.raises(InputError, match=r"Unknown analysis 'hesian'\. Did you mean 'hessian'"):
        parse({"name": "x", "title": "X", "grids": [GRID], "analyses": ["hesian"]})


def test_the_focus_is_a_method_of_the_grids():
    settings = {"name": "x", "title": "X", "grids": [GRID]}
    method = GRID["methods"][0]
    assert parse({**settings, "focus": method}).focus == method
    with pytest.raises(InputError, match="The focus 'itsp' is not a method of the grids"):
        parse({**settings, "focus": "itsp"})


def test_probes_join_every_method_without_changing_its_name():
    planned = plan(grid(methods=["none", "itps"], probes=[{"hessian_probe": {"every": 5}}]))
    assert [p.label for p in planned] == ["none", "itps"]
    for p in planned:
        names = [r.name for r in p.trial.regularisers]
        assert names[-2:] == ["hessian_probe", "early_stopping"]
        assert p.trial.regularisers[-2].options["every"] == 5
        assert "probe" not in p.folder_name("data")


def test_one_mistake_gives_one_line_of_error():
    with pytest.raises(InputError) as caught:
        grid(model=["lstm"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["/data/store", "../store", "a/../../store"])
def test_configurations_cannot_name_paths_outside_the_work_folder(path):
    with pytest.raises(InputError, match="within the work folder"):
        parse({"name": "x", "title": "X", "grids": [GRID], "store": path})


def test_a_link_out_of_the_work_folder_is_refused(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match="leads out of"):
        experiments.within(tmp_path / "work", "link/store")
    assert experiments.within(tmp_path / "work", "store") == tmp_path / "work" / "store"


@pytest.mark.parametrize("name", ["../x", "a/b", "", "X Y", ".hidden"])
def test_names_that_would_lead_elsewhere_are_refused(name):
    with pytest.raises(InputError, match="small letters"):
        parse({"name": name, "title": "X", "grids": [GRID]})


def test_files(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: T\ngrids:\n- {tasks: [phenotyping], models: [lstm], methods: [l2]}\n")
    assert experiments.load(path).name == "mine"
    path.write_text("- title")
    with pytest.raises(InputError, match="must have settings"):
        experiments.load(path)
    path.write_text("titel: T\ngrids: []\n")
    with pytest.raises(InputError, match=r"mine\.yaml: [\s\S]*Did you mean 'title'"):
        experiments.load(path)
    with pytest.raises(InputError, match=r"no experiment 'table_9'[\s\S]*Did you mean 'table_"):
        experiments.load("table_9")


# --- which trials ---------------------------------------------------------------------------------


def test_a_trial_is_the_one_that_the_command_line_composes():
    (planned,) = plan(grid(supervision=[0.25], seeds=[3], training={"max_epochs": 7}))
    told = compose_trial(
        "in_hospital_mortality",
        "lstm",
        "lstm/itps",
        supervision=0.25,
        seed=3,
        training={"max_epochs": 7},
    )
    assert planned.trial == told
    assert planned.label == planned.method == "itps"


def test_an_experiment_is_the_union_of_its_grids_each_trial_once():
    first = GRID | {"methods": ["none", "itps"], "seeds": 2}
    second = GRID | {"methods": ["itps", "dropout"], "seeds": [1]}
    experiment = parse({"name": "x", "title": "X", "grids": [first, second]})
    assert len(combinations(experiment)) == 6
    found = [(p.label, p.trial.seed) for p in plan(experiment)]
    assert found == [("none", 0), ("none", 1), ("itps", 0), ("itps", 1), ("dropout", 1)]


def test_methods_come_from_the_models_family_or_from_the_grid():
    experiment = grid(
        models=["lstm", "transformer"],
        methods=["itps", {"itps": {"tau": 0.3}}, [{"dropout": {"rate": 0.1}}, "itps"]],
    )
    trials = [p.trial for p in plan(experiment)]
    assert [t.regularisers[0].options.get("tau") for t in trials] == [
        *(0.15, 0.3, None),
        *(0.05, 0.3, None),
    ]
    assert labels(experiment)[2] == "dropout + itps"
    assert [r.name for r in trials[2].regularisers] == ["dropout", "itps", "early_stopping"]
    other = plan(grid(families={"lstm": "transformer"}))[0].trial
    assert other.regularisers[0].options["tau"] == 0.05


def test_training_of_the_grid_comes_before_that_of_experiment_and_task():
    one = GRID | {"training": {"max_epochs": 2}}
    experiment = parse(
        {"name": "x", "title": "X", "grids": [one, GRID], "training": {"max_epochs": 5}}
    )
    assert [p.trial.training.max_epochs for p in plan(experiment)] == [2, 5]
    assert {p.trial.training.learning_rate for p in plan(experiment)} == {1e-3}


def test_early_stopping_is_the_tasks_and_can_be_left_out():
    (kept,), (left_out,) = plan(grid()), plan(grid(stopping=False))
    assert [r.name for r in kept.trial.regularisers] == ["itps", "early_stopping"]
    assert [r.name for r in left_out.trial.regularisers] == ["itps"]


def test_a_search_multiplies_the_methods_that_have_its_options():
    experiment = grid(
        methods=["none", "itps", "itps_spectral_dropout"],
        search={"itps.tau": [0.1, 0.2], "itps.beta": [0.3], "spectral_dropout.eta": [0.5]},
    )
    assert labels(experiment) == [
        "none",
        "itps (tau=0.1, beta=0.3)",
        "itps (tau=0.2, beta=0.3)",
        "itps_spectral_dropout (tau=0.1, beta=0.3, eta=0.5)",
        "itps_spectral_dropout (tau=0.2, beta=0.3, eta=0.5)",
    ]
    last = plan(experiment)[-1]
    assert last.trial.regularisers[0].options == {
        **last.trial.regularisers[0].options,
        "eta": 0.5,
    }
    assert last.trial.regularisers[1].options["tau"] == 0.2
    assert last.method == "itps_spectral_dropout"
    assert last.searched == {"itps.tau": 0.2, "itps.beta": 0.3, "spectral_dropout.eta": 0.5}


def test_a_model_that_is_not_a_network_takes_only_none_of_a_grid():
    experiment = grid(models=["lstm", "logistic_regression"], methods=["none", "itps", "l2"])
    found = [(p.trial.model.name, p.label) for p in plan(experiment)]
    lstm = [("lstm", method) for method in ("none", "itps", "l2")]
    assert found == [*lstm, ("logistic_regression", "none")]
    (sentence,) = left_out(experiment)
    assert sentence.endswith("trained with 'none' only, not with itps, l2.")
    assert left_out(grid(models=["lstm"], methods=["none", "itps"])) == []
    with pytest.raises(InputError, match=r"'itps' .*logistic_regression"):  # nothing would be left
        grid(models=["lstm", "logistic_regression"], methods=["itps"])


# --- identity -------------------------------------------------------------------------------------


def test_identity_is_settings_seed_data_and_code():
    (planned,) = plan(grid(models=[SMALL]))
    same = plan(grid(models=[SMALL]))[0].identity("data")
    assert planned.identity("data") == same
    others = [
        planned.identity("other data"),
        plan(grid(models=[SMALL], seeds=[1]))[0].identity("data"),
        plan(grid(models=[SMALL], training={"max_epochs": 3}))[0].identity("data"),
        plan(grid(models=[{"lstm": {"units": 9}}]))[0].identity("data"),
    ]
    assert len({same, *others}) == 5


def test_the_name_of_a_folder_is_readable():
    experiment = grid(methods=["itps_spectral_dropout"], supervision=[0.125], seeds=[4])
    (planned,) = plan(experiment)
    name = planned.folder_name("data")
    start = "in_hospital_mortality-lstm-spectral_dropout+itps-12.5-seed4-"
    assert name == start + planned.identity("data")
    assert "-none-" in plan(grid(methods=["none"]))[0].folder_name("data")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A copy of the package: what a change of a file makes of the code of a few trials."""
    package = tmp_path / "mimic_reg"
    shutil.copytree(CONFIGS.parent / "mimic_reg", package, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(identity, "_ROOT", tmp_path)
    trials = {label: plan(grid(methods=[label]))[0].trial for label in ("none", "itps", "dropout")}
    for model in ("transformer", "logistic_regression"):
        trials[model] = plan(grid(models=[model], methods=["none"]))[0].trial
    together = grid(tasks=["in_hospital_mortality", "phenotyping"], strategy="reptile")
    trials["reptile"] = plan(together)[0].trial
    turned = grid(methods=["none"], training={"indicators": "missing"})
    trials["turned"] = plan(turned)[0].trial

    def codes():
        identity._hash.cache_clear()
        identity._read.cache_clear()
        return {label: identity.code_of(trial) for label, trial in trials.items()}

    before = codes()
    assert len(set(before.values())) == len(before)

    def changed(file, edit):
        path = package / file
        was = path.read_text("utf-8") if path.exists() else None
        path.write_text(edit(was), "utf-8")
        after = codes()
        path.write_text(was, "utf-8") if was is not None else path.unlink()
        return {label for label in before if before[label] != after[label]}

    yield changed
    identity._hash.cache_clear()
    identity._read.cache_clear()


def test_edits_that_do_not_change_results_retrain_nothing(code):
    def add(text):
        return lambda was: f"{was or ''}\n{text}\n"

    assert code("methods/sam.py", add("x = 1")) == set()
    assert code("report/page.py", add("x = 1")) == set()
    assert code("models/cnn.py", add("x = 1")) == set()
    assert code("errors.py", add("x = 1")) == set()
    assert code("settings/trial.py", add("x = 1")) == set()
    assert code("learners/trials.py", add("x = 1")) == set()
    assert code("multitask/trials.py", add("x = 1")) == set()
    assert code("tasks/phenotyping.py", add("x = 1")) == set()
    assert code("store/indicators.py", add("x = 1")) == {"turned"}
    assert code("samples/__init__.py", lambda was: was.replace("turn(read", "turn(1, read")) == {
        "turned"
    }
    assert code("engine/trainer.py", add("# why")) == set()
    assert code("engine/trainer.py", lambda was: was.replace('"""', '"""Other words. ', 1)) == set()


def test_an_edit_retrains_the_trials_whose_results_it_can_change(code):
    def edit(was):
        return f"{was}\nx = 1\n"

    every = {"none", "itps", "dropout", "transformer", "logistic_regression", "reptile", "turned"}
    assert code("engine/trainer.py", edit) == every
    assert code("samples/stays.py", edit) == every
    assert code("store/spec.py", edit) == every
    assert code("models/base.py", edit) == every
    assert code("metrics/bootstrap.py", edit) == every
    assert code("methods/itps.py", edit) == {"itps", "reptile"}
    assert code("methods/dropout.py", edit) == {"dropout"}
    assert code("models/transformer.py", edit) == {"transformer"}
    assert code("multitask/reptile.py", edit) == {"reptile"}
    assert code("learners/logistic_regression.py", edit) == {"logistic_regression"}


# --- images ---------------------------------------------------------------------------------------

IMAGES = {"tasks": ["image_classification"], "models": ["dnn"], "data": "fashion_mnist"}


def test_a_grid_of_images_needs_a_data_set():
    assert grid(**IMAGES).data == "fashion_mnist"
    assert grid().data is None
    for wrong in ({"data": None}, {"tasks": ["image_classification", "phenotyping"]}):
        with pytest.raises(InputError, match="cannot have other tasks"):
            grid(**{**IMAGES, **wrong})
    with pytest.raises(InputError, match="cannot have other tasks"):
        grid(data="stl10")


def test_an_experiment_has_one_store():
    common = {"methods": ["none"], "tasks": ["image_classification"], "models": ["dnn"]}
    with pytest.raises(InputError, match="Invalid settings: its grids differ in 'data'"):
        experiments.parse(
            {
                "name": "two",
                "title": "two",
                "grids": [{**common, "data": "cifar10"}, {**common, "data": "stl10"}],
            }
        )


HOURS = tasks.cohort(["in_hospital_mortality"])
CIFAR = cohort("CIFAR 10", (3, 32, 32), ("cat", "dog"))


def store_of(folder, spec):
    return Store(folder, {"cohort": spec.model_dump(mode="json")})


def test_a_store_with_other_data_is_refused(tmp_path):
    hours, cifar = (store_of(tmp_path, spec) for spec in (HOURS, CIFAR))
    assert cifar.spec.name == "cifar-10"
    experiments.check_data(grid(), hours)
    experiments.check_data(grid(**{**IMAGES, "data": "cifar-10"}), cifar)
    experiments.check_data(grid(**{**IMAGES, "data": "images"}), cifar)
    with pytest.raises(InputError, match=r"needs the cohort 'cifar10', but .* holds 'cifar-10'"):
        experiments.check_data(grid(**{**IMAGES, "data": "cifar10"}), cifar)
    with pytest.raises(InputError, match=r"needs a set of images, but .*import-images"):
        experiments.check_data(grid(**{**IMAGES, "data": "images"}), hours)
    with pytest.raises(InputError, match="not a task of the cohort 'cifar-10'"):
        experiments.check_data(grid(), cifar)


def test_too_many_samples_are_refused_before_training(tmp_path):
    store = Store.open(write_store(tmp_path, num_subjects=40, hours=(48, 49)))
    there = sizes(store)["in_hospital_mortality", "train"]
    experiments.check_data(grid(num_samples=[2, there]), store)
    with pytest.raises(InputError, match=f"asks for {there + 1} training samples of in_hosp.* has"):
        experiments.check_data(grid(num_samples=[2, there + 1]), store)


def test_your_own_cohort_can_have_other_tasks(tmp_path):
    mine = grid(tasks=["sepsis"], data="eicu")
    spec = HOURS.model_copy(update={"name": "eicu"})
    with pytest.raises(InputError, match="'sepsis' is not a task of the cohort 'eicu'"):
        experiments.check_data(mine, store_of(tmp_path, spec))
    with pytest.raises(InputError, match="no task 'sepsis'"):
        grid(tasks=["sepsis"])


def test_images_are_counted_by_data_set():
    counts = sizes(images="stl10")
    assert [counts["image_classification", s] for s in ("train", "val", "test")] == [
        4_000,
        1_000,
        8_000,
    ]


def test_a_family_s_methods_are_checked():
    images = {"tasks": ["image_classification"], "data": "cifar10", "models": ["vgg16"]}
    with pytest.raises(InputError, match="'variational_lstm' has no values for 'vgg16_cifar'"):
        grid(**images, families={"vgg16": "vgg16_cifar"}, methods=["variational_lstm"])
    with pytest.raises(InputError, match=r"no values for 'vgg16'\. .*families: \{vgg16: FAMILY\}"):
        grid(**images, methods=["itps"])


# --- several tasks together -----------------------------------------------------------------------

TWO = {"tasks": ["in_hospital_mortality", "phenotyping"], "strategy": "reptile"}


def test_a_strategy_of_several_tasks_is_one_fit():
    experiment = grid(**TWO, seeds=2)
    found = combinations(experiment)
    assert [(c.tasks, c.seed) for c in found] == [
        (("in_hospital_mortality", "phenotyping"), 0),
        (("in_hospital_mortality", "phenotyping"), 1),
    ]
    assert [p.label for p in plan(experiment)] == ["reptile: itps"] * 2
    (trial, _) = (p.trial for p in plan(experiment))
    assert trial.task == "in_hospital_mortality + phenotyping"
    assert trial.strategy.options == {
        **{"epoch_iterations": 100, "inner_steps": 10, "gamma": 0.15, "head_gamma": 1.0},
        **{"beta1": 0.0, "num_tasks": None},
    }
    name = plan(experiment)[0].folder_name("data")
    assert name.startswith("reptile-in_hospital_mortality+phenotyping-lstm-itps-100-seed0-")


def test_training_may_differ_from_task_to_task():
    experiment = grid(
        **TWO,
        training={"max_epochs": 3, "batch_size": 16},
        training_of={"phenotyping": {"batch_size": 8, "by_length": True}},
    )
    first, second = plan(experiment)[0].trial.trials
    assert (first.training.batch_size, first.training.by_length) == (16, False)
    assert (second.training.batch_size, second.training.by_length) == (8, True)
    assert first.training.epoch_steps == second.training.epoch_steps == 1000


def test_options_of_a_strategy_are_part_of_the_identity():
    one = plan(grid(**TWO))[0]
    same = plan(grid(**{**TWO, "strategy": {"reptile": {"gamma": 0.15}}}))[0]
    other = plan(grid(**{**TWO, "strategy": {"reptile": {"gamma": 0.1}}}))[0]
    assert one.identity("d") == same.identity("d") != other.identity("d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": {"reptile": {"inner": 3}}}, "no option 'inner'. Did you mean 'inner_steps'"),
        ({"strategy": "multitask"}, "no strategy 'multitask'. .*Allowed: joint, reptile, single"),
        ({"training": {"epoch_steps": 5}}, "has no effect with the strategy reptile"),
        ({"training_of": {"fenotyping": {}}}, "Did you mean 'phenotyping'"),
        ({"training_of": {"phenotyping": {"batch": 8}}}, "Did you mean 'batch_size'"),
        ({"training_of": {"phenotyping": {"max_epochs": 8}}}, "one max_epochs"),
        ({"tasks": ["phenotyping", "phenotyping"]}, "the task 'phenotyping' is given twice"),
    ],
)
def test_grids_that_cannot_be_one_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        grid(**{**TWO, **changes})


def test_the_cost_of_several_tasks_is_their_sum():
    counts = sizes()
    (planned,) = plan(grid(**TWO))
    parts = [estimate(trial, counts) for trial in planned.trial.trials]
    assert estimate(planned.trial, counts).steps == sum(p.steps for p in parts) == 2 * 100 * 1000
    assert estimate(planned.trial, counts).seconds == sum(p.seconds for p in parts)


# --- cost -----------------------------------------------------------------------------------------


def test_steps_of_an_estimate_are_exact():
    trials = plan(grid(supervision=[0.25, 1], training={"max_epochs": 10}))
    counts = sizes()
    assert counts["in_hospital_mortality", "train"] == 14_681
    assert [estimate(p.trial, counts).steps for p in trials] == [10 * 115, 10 * 459]
    long = plan(grid(tasks=["decompensation"], training={"max_epochs": 2}))[0].trial
    assert (
        estimate(long, counts).steps
        == 2 * load_yaml(CONFIGS / "tasks" / "decompensation.yaml")["training"]["epoch_steps"]
    )


def test_numbers_of_samples_replace_shares():
    planned = plan(grid(num_samples=[50, 500], training={"max_epochs": 10}))
    assert [p.trial.num_samples for p in planned] == [50, 500]
    assert [p.trial.size.num_samples for p in planned] == [50, 500]
    assert ["-n50-" in p.folder_name("d") for p in planned] == [True, False]
    assert [estimate(p.trial, sizes()).steps for p in planned] == [10 * 2, 10 * 16]


def test_costly_methods_cost_more():
    counts = sizes()
    trials = plan(grid(methods=["none", "dropout", "variational_lstm", "jacobian"]))
    seconds = [estimate(p.trial, counts).seconds for p in trials]
    assert seconds[0] < seconds[2] < seconds[3]
    assert seconds[1] == pytest.approx(seconds[0], rel=0.2)


@pytest.fixture
def measured(monkeypatch):
    """Costs that were measured, in place of those of the package."""
    costs = {"jacobian": {"lstm": 6.0, "dnn": 2.0}, "none": {"lstm": 1.0}}
    monkeypatch.setattr("mimic_reg.experiments.costs.step_costs", lambda: costs)


def test_methods_that_need_classes_are_refused_for_a_regression_and_all_leaves_them_out(tmp_path):
    store = Store.open(write_store(tmp_path / "store", num_subjects=20, hours=(6, 10)))
    stays = {"tasks": ["length_of_stay"], "models": ["lstm", "transformer"]}
    with pytest.raises(InputError, match="elr acts on probabilities of classes, and length_of_sta"):
        experiments.for_store(grid(**stays, methods=["none", "elr"]), store)
    fitted = experiments.for_store(grid(**stays, methods="all"), store)
    found = [{c.name for c in combinations(fitted) if c.model == m} for m in stays["models"]]
    assert [names & {"variational_lstm", "elr", "none"} for names in found] == [
        {"variational_lstm", "none"},
        {"none"},
    ]
    search = {"lstm.units": [16, 32], "elr.beta": [0.5, 0.7]}
    searched = experiments.for_store(grid(**stays, methods="all", search=search), store)
    assert {c.searched.get("lstm.units") for c in combinations(searched)} == {16, 32, None}
    both = grid(tasks=["length_of_stay", "phenotyping"], models=["lstm"], methods="all")
    with_elr = {
        c.tasks for c in combinations(experiments.for_store(both, store)) if c.name == "elr"
    }
    assert with_elr == {("phenotyping",)}
    same = grid(methods="all")
    assert experiments.for_store(same, store) == same


def test_a_cost_is_measured_taken_from_other_models_or_unknown(measured):
    assert step_cost("jacobian", "dnn") == 2.0
    assert step_cost("jacobian", "cnn") == 6.0  # the dearest
    assert step_cost("dropout", "lstm") is None
    assert step_cost("none", "cnn") == step_cost("early_stopping", "lstm") == 1.0


def test_a_method_without_measurements_has_an_unknown_cost(measured):
    counts = sizes()
    none, dropout, both = (
        p.trial
        for p in plan(
            grid(methods=["none", "dropout", [{"jacobian": {"weight": 0.1}}, {"dropout": {}}]])
        )
    )
    assert estimate(none, counts).seconds > 0
    assert estimate(dropout, counts).seconds is None
    assert estimate(dropout, counts).steps == estimate(none, counts).steps
    assert estimate(both, counts).seconds is None
    together = plan(grid(**TWO, methods=["dropout"]))[0].trial
    assert estimate(together, counts).seconds is None
    small = plan(grid(tasks=["image_classification"], data="cifar10", models=["cnn"]))[0].trial
    assert estimate(small, sizes(images="cifar10")).seconds is None


def test_a_past_run_gives_the_time_of_a_trial(tmp_path, measured):
    (planned,) = plan(grid(methods=["dropout"], training={"max_epochs": 10}))
    settings = planned.trial.model_dump(mode="json")
    cost = {"training_seconds": 30.0, "validation_seconds": 2.0}
    row = {"event": "epoch", "loss": 1.0, "validation": {}, "recorded": {}, "cost": cost}
    rows = [{**row, "epoch": e, "step": 100 * (e + 1)} for e in range(3)]
    for name, done in (("finished", True), ("not", False)):
        made_up.write_run(tmp_path / name, settings, {}, epochs=rows, done=done)
    known = experiments.past(tmp_path)
    found = estimate(planned.trial, sizes(), known)
    assert found.seconds == pytest.approx(found.steps * 0.3 + 10 * 2)
    other = plan(grid(methods=[{"dropout": {"rate": 0.1}}]))[0].trial  # other options, same steps
    assert estimate(other, sizes(), known).seconds > 0
    wider = plan(grid(methods=["dropout"], models=[{"lstm": {"units": 300}}]))[0].trial
    assert estimate(wider, sizes(), known).seconds is None
    assert experiments.past(tmp_path / "nowhere") == {}
    (tmp_path / "finished" / "history.jsonl").write_text("damaged\n")
    assert experiments.past(tmp_path) == {}


def test_a_probe_costs_its_passes():
    options = {"every": 10, "vectors": 8, "samples": 320}
    plain = grid(methods=["none"], training={"max_epochs": 40})
    probed = grid(
        methods=["none"], training={"max_epochs": 40}, probes=[{"hessian_probe": options}]
    )
    counts = {("in_hospital_mortality", s): 1000 for s in ("train", "val", "test")}
    seconds = [estimate(plan(e)[0].trial, counts).seconds for e in (plain, probed)]
    looks = 5  # after epochs 1, 10, 20, 30, 40
    assert seconds[1] - seconds[0] == pytest.approx(looks * 8 * 320 * 2.5 * 0.035 / 32)


def test_a_method_s_file_may_say_how_it_is_trained():
    def rate(method, **changed):
        found = grid(
            tasks=["image_classification"],
            data="cifar10",
            models=["vgg16"],
            families={"vgg16": "vgg16_cifar"},
            methods=[method],
            **changed,
        )
        return plan(found)[0].trial.training.learning_rate

    assert rate("itps") == 1e-4
    assert rate("itps", training={"learning_rate": 1e-2}) == 1e-2
    assert rate("none") == 1e-3
