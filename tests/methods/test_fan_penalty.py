"""The fan-in and fan-out penalty by hand."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.fan_penalty import group_norms
from tests.methods.fits import make_batch, make_fit, objective
from tests.networks import create

CONTRACT = {"weight": 0.01}
MODEL = {"dnn": {"hidden": [6, 4]}}

W = torch.tensor([[1.0, -2.0], [3.0, 0.0]])


@pytest.mark.parametrize(
    ("fan", "p", "expected"), [("in", 2, 5.23607), ("out", 2, 5.16228), ("in", 1, 6), ("out", 1, 6)]
)
def test_norms_of_rows_and_columns(fan, p, expected):
    assert group_norms(W, fan, p).item() == pytest.approx(expected, abs=5e-6)


def test_the_gradient_of_a_silent_unit_is_0():
    weight = torch.zeros(2, 3, requires_grad=True)
    group_norms(weight, "in", 2).backward()
    assert weight.grad.eq(0).all()


def test_all_layers_of_a_dense_network_are_penalised():
    fit = make_fit(target="multiclass", num_outputs=3)
    method = methods.create("fan_penalty", weight=0.5)
    model = create("dnn", 3, shape=(1, 2, 2), hidden=[5, 4])
    method.prepare(model, fit)
    batch = make_batch(torch.randn(2, 4), torch.tensor([0, 2]))
    plain = objective(methods.create("none"), model, batch, fit)
    layers = [model.trunk.blocks[0][0], model.trunk.blocks[1][0], model.head]
    expected = plain + 0.5 * sum(layer.weight.norm(dim=1).sum() for layer in layers)
    assert objective(method, model, batch, fit).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("name", ["lstm", "transformer", "cnn"])
def test_other_networks_are_refused(name):
    with pytest.raises(InputError, match="dense layers"):
        methods.create("fan_penalty").prepare(create(name), make_fit())


@pytest.mark.parametrize("options", [{"weight": -1}, {"fan": "both"}, {"p": 0.5}])
def test_impossible_options_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        methods.create("fan_penalty", **options)
