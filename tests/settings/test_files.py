"""Settings in files: by name or by path; a method's values by family; what is wrong in them."""

import os

import pytest

from mimic_reg.errors import InputError
from mimic_reg.learners.trials import compose_trial, resolve
from mimic_reg.settings import CONFIGS, Trial, load_yaml
from mimic_reg.settings.files import MethodFile, families, method_called, read_method, read_task

FAMILIES = """
regularisers:
- dropout: {rate: 0.5}
- itps: {beta: 0.2}
training: {batch_size: 16}
families:
  lstm:
  cnn: {itps: {tau: 0.3, beta: 0.1}, training: {learning_rate: 1e-4}}
"""


def method(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def values(found: MethodFile):
    return {c.name: c.options for c in found.regularisers}, found.training


def test_a_family_replaces_or_joins_what_holds_for_all(tmp_path):
    path = method(tmp_path, FAMILIES)
    common = {"dropout": {"rate": 0.5}, "itps": {"beta": 0.2}}
    assert values(read_method(path, "lstm")) == (common, {"batch_size": 16})
    assert values(read_method(path, "cnn")) == (
        {"dropout": {"rate": 0.5}, "itps": {"beta": 0.1, "tau": 0.3}},
        {"batch_size": 16, "learning_rate": 1e-4},
    )
    trial = compose_trial("image_classification", "cnn", path)
    assert trial.regularisers[1].options["tau"] == 0.3
    assert (trial.training.batch_size, trial.training.learning_rate) == (16, 1e-4)


def test_without_families_a_method_serves_all(tmp_path):
    path = method(tmp_path, "regularisers: [none, dropout]")
    assert list(values(read_method(path, "anything"))[0]) == ["none", "dropout"]


def test_a_name_may_take_the_values_of_another_family():
    assert read_method("itps", "lstm") == read_method("lstm/itps", "transformer")
    assert read_method("resnet50_cifar/itps", "resnet50").training == {"learning_rate": 1e-4}
    assert "resnet50_cifar" in families()


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [
        ("itsp", "lstm", r"There is no method 'itsp' in configs/methods\. Did you mean 'itps'"),
        ("lstm/itsp", "lstm", "There is no method 'itsp'.*Did you mean 'itps'"),
        ("itps", "gru", r"'itps' has no values for 'gru'\. .*Allowed: cnn, dnn.* FAMILY/itps"),
        ("itps", "vgg16", "'itps' has no values for 'vgg16'. Did you mean 'vgg16_stl'"),
        ("lsmt/itps", "lstm", "no values for 'lsmt'. Did you mean 'lstm'"),
        ("../tasks/phenotyping", "lstm", "There is no method 'phenotyping'"),
        ("/etc/passwd", "lstm", "There is no method 'passwd'"),
        ("missing.yaml", "lstm", r"There is no file missing\.yaml"),
    ],
)
def test_an_unknown_method_is_refused_with_suggestions(name, family, message):
    with pytest.raises(InputError, match=message):
        read_method(name, family)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("famlies: {lstm: {}}", r"There is no setting 'famlies'\. Did you mean 'families'"),
        ("families: {gru: {}}", "no values for 'lstm'.*Allowed: gru. Add them to its families"),
        (
            "regularisers: [itps]\nfamilies: {lstm: {itsp: {tau: 1}}}",
            r"families\.lstm has 'itsp', which is not among .* Did you mean 'itps'.*training\.$",
        ),
        (
            "regularisers: [dropout, dropout]\nfamilies: {lstm: {dropout: {rate: 0.1}}}",
            "options of 'dropout', which the regularisers have 2 times",
        ),
        (
            "regularisers: [itps]\nfamilies: {lstm: {itps: 0.3}}",
            "'families.lstm.itps' is 0.3: Input should be a valid dictionary",
        ),
        ("families: [lstm]", "'families' is .*valid dictionary"),
        ("families: {lstm: 3}", "'families.lstm' is 3: Input should be a valid dictionary"),
        ("families: {1: {}}", "families.*valid string"),
        (
            "families: {cnn: {training: {lerning_rate: 1}}}",
            "no setting 'training.lerning_rate'. Did you mean 'learning_rate'",
        ),
        ("regularisers: [itps]\nsearch: {tau: [1]}", "search has 'tau'; write component.option"),
        ("regularisers: [itps]\nsearch: {itps.tau: []}", "search has no values for 'itps.tau'"),
        (
            "regularisers: [itps]\nsearch: {ipts.tau: [1]}",
            "the regularisers have 'ipts' 0 times. Did you mean 'itps'",
        ),
        ("regularisers: [itps]\nsearch: {itps.tau: 1}", "'search.itps.tau' is 1: Input should be"),
        ("training: {batchsize: 1}", "no setting 'training.batchsize'. Did you mean 'batch_size'"),
        ("regularisers: itps", "'regularisers' is 'itps': Input should be a valid list"),
        ("regularisers: [{itps: {tua: 1}}]", "no option 'tua'. Did you mean 'tau'"),
        (
            "regularisers: [itps]\nfamilies: {lstm: {itps: {tua: 1}}}",
            "no option 'tua'. Did you mean 'tau'",
        ),
    ],
)
def test_mistakes_in_a_method_s_file_are_refused_with_advice(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        compose_trial("phenotyping", "lstm", method(tmp_path, text))


def test_a_task_s_file_names_its_task(tmp_path):
    path = method(tmp_path, "training: {max_epochs: 3}\n")
    with pytest.raises(InputError, match="does not name its task"):
        read_task(path)
    path = method(tmp_path, "task: sepsis\ntraining: {max_epochs: 3}\n")
    trial = compose_trial(path, "lstm", "none")
    assert (trial.task, trial.training.max_epochs, trial.regularisers[1:]) == ("sepsis", 3, ())
    assert read_task("sepsis").task == "sepsis"
    assert read_task("sepsis").training["normalizer"] == "fitted"


@pytest.mark.parametrize("text", ["{}", "{lstm: {}, dnn: {}}", "- lstm", "lstm", "lstm: 3"])
def test_a_model_s_file_holds_one_model(text, tmp_path):
    with pytest.raises(InputError, match=r"mine\.yaml"):
        compose_trial("phenotyping", method(tmp_path, text), "none")


def test_files_in_configs_are_read_again_when_they_change(tmp_path, monkeypatch):
    monkeypatch.setattr("mimic_reg.settings.files.CONFIGS", tmp_path)
    (tmp_path / "methods").mkdir()
    for number, rate in enumerate((0.1, 0.25)):
        path = tmp_path / "methods" / "x.yaml"
        path.write_text(f"regularisers: [dropout: {{rate: {rate}}}]")
        os.utime(path, (number, number))
        assert values(method_called("x"))[0] == {"dropout": {"rate": rate}}


@pytest.mark.parametrize("path", sorted((CONFIGS / "tasks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_task_has_settings(path):
    content = load_yaml(path)
    assert content.get("task", "default") == path.stem
    assert isinstance(resolve({"task": "sepsis", **content, "model": "lstm"}), Trial)


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
    with pytest.raises(InputError, match=r"method\.yaml: There is no setting 'seed'"):
        compose_trial("in_hospital_mortality", "lstm", str(method))
    method.write_text("- none\n")
    with pytest.raises(InputError, match="must contain settings"):
        compose_trial("in_hospital_mortality", "lstm", str(method))
