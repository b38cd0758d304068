"""A trial from settings: every name looked up; what is unknown is refused with the nearest name."""

import json

import pytest
from pydantic import ValidationError

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import resolve
from mimic_reg.settings import load_yaml

MINIMAL = {"task": "in_hospital_mortality", "model": "lstm"}


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


def test_values_of_methods_are_refused_when_settings_are_resolved():
    with pytest.raises(InputError, match=r"dropout: rate must be in \[0, 1\), got 1.5"):
        resolve({**MINIMAL, "regularisers": [{"dropout": {"rate": 1.5}}]})
