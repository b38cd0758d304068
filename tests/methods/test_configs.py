"""The configurations hold the values of Table II, and every one of them builds its methods."""

import itertools
import re

import pytest

from mimic_reg import methods, models
from mimic_reg.settings import CONFIGS
from mimic_reg.settings.files import method_called, names, read_method

NAMES = names("methods")

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


# the baseline, one without values in the table, and one of ITPS's readings
OTHERS = {"none": (), "variational_lstm": ("lstm",), "itps_latched": ("dnn",)}


def options_of(name, family):
    return {c.name: c.options for c in read_method(name, family).regularisers}


@pytest.mark.parametrize("row", TABLE_II)
def test_values_are_those_of_table_2(row):
    name, option = OPTION[row]
    assert [options_of(row, model)[name][option] for model in MODELS] == TABLE_II[row]


@pytest.mark.parametrize("model", MODELS)
def test_values_that_all_models_share(model):
    both, alone = options_of("itps_spectral_dropout", model), options_of("spectral_dropout", model)
    assert options_of("itps", model)["itps"]["beta"] == both["itps"]["beta"] == 0.1
    assert both["spectral_dropout"] == alone["spectral_dropout"]
    assert alone["spectral_dropout"]["tau"] == 0.1
    assert list(both) == ["spectral_dropout", "itps"]


@pytest.mark.parametrize("name", NAMES)
def test_every_file_builds_and_tells_its_source(name):
    for family in method_called(name).families or ["lstm"]:
        found = read_method(name, family)
        pretrained = family.startswith(("vgg16", "resnet50", "efficientnet"))
        # of the paper for networks that start from ImageNet's weights
        assert found.training == ({"learning_rate": 1e-4} if pretrained else {})
        methods.compose(c.entry() for c in found.regularisers)
    first_line = (CONFIGS / "methods" / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first_line.startswith("# ")
    if name in TABLE_II or name in OTHERS:
        assert "Table II" in first_line or name == "none"
    else:
        assert re.search(r"\b(19|20)\d\d\b", first_line), "whose method is it, of which year"


@pytest.mark.parametrize("name", [n for n in NAMES if method_called(n).search])
def test_a_search_has_three_points_which_all_families_can_have(name):
    """As many as all others, so that comparisons are fair."""
    found = method_called(name)
    points = list(itertools.product(*found.search.values()))
    assert len(points) == len(set(map(str, points))) == 3
    for family in found.families or ["lstm"]:
        for point in points:
            values = dict(zip(found.search, point, strict=True))
            for component in found.of(family, name).regularisers:
                start = f"{component.name}."
                own = {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
                methods.create(component.name, **{**component.options, **own})


def test_every_method_of_table_2_has_a_search():
    assert all(method_called(name).search for name in NAMES if name in TABLE_II)
    assert not method_called("none").search


def test_no_file_is_overlooked():
    assert {*TABLE_II, *OTHERS} <= set(NAMES)
    assert not list((CONFIGS / "methods").rglob("*/*")), "a file is a method, without folders"
    for row in TABLE_II:
        assert set(method_called(row).families) == {*MODELS, "cnn"}
    for name, only in OTHERS.items():
        assert tuple(method_called(name).families) == only
    for name in NAMES:
        assert all(f.startswith(tuple(models.names())) for f in method_called(name).families)


@pytest.mark.parametrize("row", TABLE_II)
def test_the_small_cnn_has_the_values_of_the_dnn(row):
    assert read_method(row, "cnn") == read_method(row, "dnn")
