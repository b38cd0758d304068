"""The configurations hold the values of Table II, and every one of them builds its methods."""

import re
from pathlib import Path

import pytest

from mimic_reg import methods, models
from mimic_reg.config import CONFIGS, load_yaml

FOLDER = CONFIGS / "regularisers"
FILES = sorted(FOLDER.rglob("*.yaml"))

MODELS = (
    *("lstm", "transformer", "dnn"),
    *("vgg16_cifar", "resnet50_cifar", "efficientnet_b0_cifar"),
    *("vgg16_stl", "resnet50_stl", "efficientnet_b0_stl"),
)
TABLE_II = {
    "dropout": [0.5] * 9,
    "guided_dropout": [0.5, 0.5, 0.5, 0.5, 0.4, 0.3, 0.5, 0.4, 0.5],
    "l2": [5e-3, 1e-3, 1e-3, 5e-4, 1e-4, 1e-4, 5e-4, 1e-4, 1e-4],
    "data_gradient": [0.01, 5e-3, 0.01, 5e-3, 1e-3, 1e-3, 0.01, 5e-3, 1e-3],
    "jacobian": [0.015, 5e-3, 0.01, 0.01, 1e-3, 1e-3, 0.01, 1e-3, 1e-3],
    "spectral_dropout": [0.1, 0.05, 0.1, *[0.01] * 6],
    "itps": [0.15, 0.05, 0.25, *[0.05] * 6],
    "itps_spectral_dropout": [0.1, 0.05, 0.1, *[0.05] * 6],
}
OPTION = {
    "dropout": ("dropout", "rate"),
    "guided_dropout": ("guided_dropout", "rate"),
    "l2": ("norm_penalty", "l2"),
    "data_gradient": ("data_gradient", "weight"),
    "jacobian": ("jacobian", "weight"),
    "spectral_dropout": ("spectral_dropout", "eta"),
    "itps": ("itps", "tau"),
    "itps_spectral_dropout": ("itps", "tau"),
}


OTHERS = {"none", "lstm/variational_lstm", "dnn/itps_latched"}  # the paper's, and ITPS's readings


def name_of(path):
    return str(path.relative_to(FOLDER).with_suffix(""))


def entries_of(path):
    entries = load_yaml(path)["regularisers"]
    return {name: options for e in entries if isinstance(e, dict) for name, options in e.items()}


@pytest.mark.parametrize("row", TABLE_II)
def test_values_are_those_of_table_2(row):
    name, option = OPTION[row]
    values = [entries_of(FOLDER / model / f"{row}.yaml")[name][option] for model in MODELS]
    assert values == TABLE_II[row]


@pytest.mark.parametrize("model", MODELS)
def test_values_that_all_models_share(model):
    itps = entries_of(FOLDER / model / "itps.yaml")["itps"]
    both = entries_of(FOLDER / model / "itps_spectral_dropout.yaml")
    alone = entries_of(FOLDER / model / "spectral_dropout.yaml")
    assert itps["beta"] == both["itps"]["beta"] == 0.1
    assert both["spectral_dropout"] == alone["spectral_dropout"]
    assert alone["spectral_dropout"]["tau"] == 0.1
    assert list(both) == ["spectral_dropout", "itps"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_every_file_builds_and_tells_its_source(path):
    content = load_yaml(path)
    cnn = path.parent.name.startswith(("vgg16", "resnet50", "efficientnet"))
    assert list(content) == ["regularisers", *["training"] * cnn]
    assert content.get("training", {}) == (
        {"learning_rate": 1e-4} if cnn else {}
    )  # the paper, section 0 of our methods
    methods.compose(content["regularisers"])
    first_line = path.read_text("utf-8").splitlines()[0]
    assert first_line.startswith("# ")
    if path.stem in TABLE_II or name_of(path) in OTHERS:
        assert "Table II" in first_line or path.stem in ("none", "variational_lstm")
    else:
        assert re.search(r"\b(19|20)\d\d\b", first_line), "whose method is it, of which year"


def test_no_file_is_overlooked():
    names = {name_of(path) for path in FILES}
    rows = {f"{model}/{row}" for model in (*MODELS, "cnn") for row in TABLE_II}
    assert {name for name in names if Path(name).name in TABLE_II} == rows
    assert names >= OTHERS
    folders = {path.parent.name for path in FILES} - {"regularisers"}
    assert folders >= {*MODELS, "cnn"}
    assert all(folder.startswith(tuple(models.names())) for folder in folders)


@pytest.mark.parametrize("row", TABLE_II)
def test_the_small_cnn_has_the_values_of_the_dnn(row):
    assert entries_of(FOLDER / "cnn" / f"{row}.yaml") == entries_of(FOLDER / "dnn" / f"{row}.yaml")
