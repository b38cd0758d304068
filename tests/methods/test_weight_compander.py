"""The weight compander: its function, its start, its bound."""

import math

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.learners.trunk import Trunk, load_into
from mimic_reg.methods.weight_compander import Compander, compand, expand, inverse_softplus
from mimic_reg.models.base import recur
from mimic_reg.settings import Component
from tests.methods.fits import make_fit
from tests.networks import create

CONTRACT = {}


def test_the_function_and_its_inverse():
    a, b = torch.tensor(2.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    assert compand(torch.tensor(3.0), a, b).item() == pytest.approx(2 * math.pi / 4)
    v = torch.linspace(-50, 50, 11, dtype=torch.float64)
    w = compand(v, a, b)
    assert w.abs().max() < 2 * math.pi / 2
    assert torch.allclose(expand(w, a, b), v)
    assert torch.nn.functional.softplus(inverse_softplus(a)).item() == pytest.approx(2)


def test_the_slope_at_0_is_1_at_the_start():
    compander = Compander(torch.tensor([[0.3, -0.1]]))
    v = torch.zeros(1, requires_grad=True)
    compander(v).backward()
    assert v.grad.item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("name", ["lstm", "transformer", "dnn", "cnn"])
def test_the_first_forward_pass_is_the_plain_one(name):
    settings = {
        "lstm": {"units": 4},
        "transformer": {"blocks": 1, "key_size": 4},
        "dnn": {"hidden": [8]},
        "cnn": {"filters": [3], "dense": 4},
    }
    model = create(name, 3, **settings[name])
    hourly = name in ("lstm", "transformer")
    shape = (2, 5, 76) if hourly else (2, 1, 28, 28) if name == "dnn" else (2, 3, 32, 32)
    x, lengths = torch.randn(shape), torch.tensor([5, 3] if hourly else [1, 1])
    plain = model(x, lengths)
    count = sum(p.ndim >= 2 for p in model.parameters())
    model = methods.create("weight_compander").prepare(model, make_fit())
    assert (model(x, lengths) - plain).abs().max() < 1e-5
    learned = [n for n, p in model.named_parameters() if n.endswith(("raw_a", "raw_b"))]
    assert len(learned) == 2 * count
    model(x, lengths).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_recurrence_follows_what_is_trained():
    model = create("lstm", units=4)
    x, lengths = torch.randn(2, 5, 76), torch.tensor([5, 3])
    methods.create("weight_compander").prepare(model, make_fit())
    lstm = model.trunk.recurrence.lstm
    with torch.no_grad():
        lstm.parametrizations.weight_ih_l0.original.mul_(2)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
    _, (state, _) = lstm(packed)  # torch's own way, as on a GPU
    assert (torch.cat(tuple(state), 1) - recur(lstm, x, lengths)).abs().max() < 1e-6


def test_its_trunk_is_refused_as_a_start():
    settings, model = Component.model_validate({"lstm": {"units": 4}}), create("lstm", units=4)
    weights = methods.create("weight_compander").prepare(model, make_fit()).trunk.state_dict()
    trunk = Trunk(settings, "weight_compander on phenotyping", ("phenotyping",), weights)
    with pytest.raises(InputError, match="makes weights of other numbers"):
        load_into(create("lstm", units=4), settings, trunk)
