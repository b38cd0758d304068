"""L2 by hand."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods._penalty import squared_norm, weights
from tests.methods.fits import linear_model, make_batch, make_fit, objective
from tests.networks import create

CONTRACT = {"l2": 0.01}


def test_one_step_follows_keras_not_torch_s_weight_decay():
    model = linear_model([[2.0]])
    batch = make_batch(torch.zeros(4, 1), torch.full((4, 1), 0.5))  # no gradient but the penalty's
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective(methods.create("norm_penalty", l2=0.01), model, batch, make_fit()).backward()
    optimizer.step()
    assert model.head.weight.item() == pytest.approx(1.996, abs=1e-7)
    assert model.head.bias.item() == 0


def test_the_sum_goes_over_all_elements():
    assert squared_norm([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])]) == 14


def test_matrices_only():
    model = create("lstm")
    model = methods.create("guided_dropout").prepare(model, make_fit())
    names = {id(p): name for name, p in model.named_parameters()}
    lstm = "trunk.recurrence.lstm.weight_"
    assert {names[id(w)] for w in weights(model)} == {
        f"{lstm}ih_l0",
        f"{lstm}hh_l0",
        f"{lstm}ih_l0_reverse",
        f"{lstm}hh_l0_reverse",
        "head.weight",
    }
    transformer = weights(create("transformer"))
    assert len(transformer) == 4 * 6 + 2  # no norms


def test_the_strength_is_required_and_not_negative():
    with pytest.raises(InputError, match="needs the option 'l2'"):
        methods.create("norm_penalty")
    with pytest.raises(InputError, match="at least 0, got -1"):
        methods.create("norm_penalty", l2=-1)
