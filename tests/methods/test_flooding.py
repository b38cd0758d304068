"""Below the level the gradient turns."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.flooding import flooded
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"level": 0.6}


def test_the_gradient_turns_below_the_level():
    theta = torch.tensor(2.0, requires_grad=True)
    flooded(0.01 * theta.square(), 0.05).backward()
    assert theta.grad.item() == pytest.approx(-0.04)
    assert flooded(torch.tensor(0.3), 0.05).item() == pytest.approx(0.3)


def test_the_data_loss_alone_or_all():
    model = linear_model([[3.0]])
    batch, fit = make_batch(torch.zeros(4, 1), torch.full((4, 1), 0.5)), make_fit()
    penalty = methods.create("norm_penalty", l2=0.1)  # 0.9
    data = 0.6931472
    for scope, expected in (("data", 2 - data + 0.9), ("objective", data + 0.9)):
        flood = methods.create("flooding", level=1.0, scope=scope)
        got = objective(methods.Composite([penalty, flood]), model, batch, fit).item()
        assert got == pytest.approx(expected, rel=1e-5)


def test_impossible_options_are_refused():
    with pytest.raises(InputError, match="level must be at least 0, got -1"):
        methods.create("flooding", level=-1)
    with pytest.raises(InputError, match="scope must be one of"):
        methods.create("flooding", scope="all")
