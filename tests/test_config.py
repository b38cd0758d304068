"""Settings: frozen, typed, resolved once; what is unknown is refused with the nearest name."""

import json
from collections.abc import Sequence
from typing import Literal

import pytest
from pydantic import ValidationError

from mimic_reg.config import (
    CONFIGS,
    Trial,
    compose_trial,
    find_module,
    load_yaml,
    module_names,
    resolve,
    resolve_options,
    suggest,
)
from mimic_reg.errors import InputError

MINIMAL = {"task": "in_hospital_mortality", "model": "lstm"}


def test_a_name_is_a_module():
    assert {"lstm", "dnn"} <= set(module_names("mimic_reg.models"))
    assert "base" not in module_names("mimic_reg.models")
    assert find_module("mimic_reg.tasks", "phenotyping").__name__ == "mimic_reg.tasks.phenotyping"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "lstmm"}, "Did you mean 'lstm'"),
        ({"model": {"lstm": {"unit": 3}}}, "has no option 'unit'. Did you mean 'units'"),
        ({"regularisers": ["nnone"]}, "Did you mean 'none'"),
        ({"regularisers": [{"none": {"x": 1}}]}, "'none' has no option 'x'"),
        ({"sed": 3}, "no setting 'sed'. Did you mean 'seed'"),
        (
            {"training": {"lerning_rate": 3}},
            "'training.lerning_rate'. Did you mean 'learning_rate'",
        ),
        ({"training": {"learning_rate": 0}}, "'training.learning_rate' is 0. .*greater than 0"),
        ({"training": {"learning_rate": "fast"}}, "should be a valid number"),
        ({"training": {"batch_size": 1.5}}, "'training.batch_size' is 1.5"),
        ({"training": {"by_length": "False"}}, "'training.by_length' is 'False'"),
        ({"training": {"normalizer": "none"}}, "'published', 'fitted', 'unit' or 'raw'"),
        ({"training": {"optimizer": "adamw"}}, "'adam', 'sgd' or 'adagrad'"),
        ({"supervision": 1.5}, "'supervision' is 1.5"),
        ({"regularisers": [{"none": {}, "other": {}}]}, "a name with its options"),
    ],
)
def test_mistakes_are_refused_with_advice(change, message):
    with pytest.raises(InputError, match=message):
        resolve({**MINIMAL, **change})


def test_what_is_missing_is_named():
    with pytest.raises(InputError, match="'task' is missing"):
        resolve({"model": "lstm"})


def test_every_default_is_written_out():
    trial = resolve({**MINIMAL, "regularisers": [{"none": None}]})
    content = trial.model_dump(mode="json")
    assert content["model"] == {"lstm": {"units": 256}}
    assert content["regularisers"] == [{"none": {}}]
    assert content["training"]["learning_rate"] == 1e-3
    assert content["training"]["batch_size"] == 32
    assert json.loads(json.dumps(content)) == content


def test_the_printed_configuration_is_the_configuration(tmp_path):
    trial = resolve({**MINIMAL, "seed": 4, "training": {"learning_rate": 1e-4}})
    path = tmp_path / "trial.yaml"
    path.write_text(trial.to_yaml())
    assert resolve(load_yaml(path)) == trial
    assert resolve(load_yaml(path)).id("data") == trial.id("data")


def test_settings_cannot_be_changed():
    trial = resolve(MINIMAL)
    with pytest.raises(ValidationError, match="frozen"):
        trial.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        trial.training.batch_size = 3
    trial.model.options["units"] = 1
    assert trial.model.options["units"] == 256


def test_identity_is_that_of_configuration_and_data():
    trial = resolve(MINIMAL)
    same = resolve({"model": {"lstm": {"units": 256}}, "seed": 0, **{"task": MINIMAL["task"]}})
    assert trial.id("a") == same.id("a")
    others = [
        trial.id("b"),
        resolve({**MINIMAL, "seed": 1}).id("a"),
        resolve({**MINIMAL, "regularisers": ["none"]}).id("a"),
        resolve({**MINIMAL, "training": {"batch_size": 31}}).id("a"),
    ]
    assert len({trial.id("a"), *others}) == 5
    assert len(trial.id("a")) == 16


def test_options_are_the_signature():
    def build(*, tau=(-0.1, 0.1), beta=0.1, generator=None):
        pass

    resolved = resolve_options(build, {"beta": 0.2}, "X", skip=("generator",))
    assert resolved == {"tau": [-0.1, 0.1], "beta": 0.2}
    with pytest.raises(InputError, match="X has no option 'generator'"):
        resolve_options(build, {"generator": 1}, "X", skip=("generator",))
    with pytest.raises(InputError, match="X needs the option 'a'"):
        resolve_options(lambda a: a, {}, "X")


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("rate", "0.5", "a number"),
        ("rate", None, "a number"),
        ("rate", 10**400, "a number"),
        ("rate", True, "a number"),
        ("count", 1.5, "a whole number"),
        ("count", False, "a whole number"),
        ("flag", "no", "true or false"),
        ("flag", 1, "true or false"),
        ("name", 3, "a text"),
        ("sizes", 3, "a list, each a whole number"),
        ("sizes", [1, 2.5], "a list, each a whole number"),
        ("tau", "0.1", "a number or a list, each a number"),
        ("tau", [0.1, "x"], "a number or a list, each a number"),
        ("limit", "5", "a whole number or null"),
    ],
)
def test_options_are_of_the_kind_that_the_signature_says(option, value, kind):
    def build(
        rate: float = 0.1,
        count: int = 1,
        flag: bool = False,
        name: str = "x",
        sizes: tuple[int, ...] = (),
        tau: float | Sequence[float] = 0.1,
        limit: int | None = None,
        mode: Literal["a", "b"] = "a",
    ):
        pass

    allowed = {"rate": 1, "sizes": [1, 2], "tau": (0, 1.5), "limit": None, "mode": "c"}
    assert resolve_options(build, allowed, "X")["tau"] == [0, 1.5]
    with pytest.raises(InputError) as error:
        resolve_options(build, {option: value}, "X")
    assert str(error.value) == f"X: {option} must be {kind}, got {value!r}."


def test_values_of_methods_are_refused_when_settings_are_resolved():
    with pytest.raises(InputError, match=r"dropout: rate must be in \[0, 1\), got 1.5"):
        resolve({**MINIMAL, "regularisers": [{"dropout": {"rate": 1.5}}]})


def test_suggestions():
    assert (
        suggest("droput", ["dropout", "itps"]) == "Did you mean 'dropout'? Allowed: dropout, itps."
    )
    assert suggest("zzz", []) == "Allowed: none."


def test_yaml(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1e-3\nb: [1.5e2, 5E-1, 1e-3x, 12]\n")
    assert load_yaml(path) == {"a": 1e-3, "b": [150.0, 0.5, "1e-3x", 12]}
    path.write_text("a: 1\nb:\n  c: 1\n  c: 2\n")
    with pytest.raises(InputError, match="'c' is given twice"):
        load_yaml(path)
    path.write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        load_yaml(path)
    path.write_text("a: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        load_yaml(path)
    with pytest.raises(InputError, match="no file"):
        load_yaml(tmp_path / "y.yaml")


@pytest.mark.parametrize("path", sorted((CONFIGS / "tasks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_task_has_settings(path):
    content = load_yaml(path)
    assert content.get("task", "default") == path.stem
    trial = resolve({"task": "sepsis", **content, "model": "lstm"})
    assert isinstance(trial, Trial)


def test_a_trial_is_composed_of_files(tmp_path):
    method, model = tmp_path / "method.yaml", tmp_path / "model.yaml"
    method.write_text("regularisers:\n- none:\n")
    model.write_text("lstm: {units: 8}\n")
    trial = compose_trial(
        "in_hospital_mortality",
        str(model),
        str(method),
        supervision=0.25,
        seed=2,
        training={"max_epochs": 3},
    )
    assert trial.model.options["units"] == 8
    assert trial.regularisers[0].name == "none"
    assert (trial.supervision, trial.seed, trial.training.max_epochs) == (0.25, 2, 3)
    method.write_text("regularisers: [none]\ntraining: {batch_size: 8, max_epochs: 4}\n")
    trial = compose_trial("in_hospital_mortality", "lstm", str(method), training={"max_epochs": 5})
    assert (trial.training.batch_size, trial.training.max_epochs) == (8, 5)
    assert [r.name for r in trial.regularisers] == ["none", "early_stopping"]
    method.write_text("regularisers: [none]\nseed: 3\n")
    with pytest.raises(InputError, match="has no business with 'seed'"):
        compose_trial("in_hospital_mortality", "lstm", str(method))
    method.write_text("- none\n")
    with pytest.raises(InputError, match="must hold settings"):
        compose_trial("in_hospital_mortality", "lstm", str(method))
