"""L1 and elastic net by hand."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.elastic_net import absolute_norm
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"l1": 1e-3, "l2": 1e-3}


def gradient(name, **options):
    """Of the penalty alone: a data loss without a gradient for the weights."""
    model = linear_model([[2.0, -3.0]])
    batch = make_batch(torch.zeros(4, 2), torch.full((4, 1), 0.5))
    objective(methods.create(name, **options), model, batch, make_fit()).backward()
    return model.head.weight.grad


def test_the_gradient_is_the_sign_and_twice_the_weight():
    got = gradient("elastic_net", l1=0.1, l2=0.01)
    assert torch.allclose(got, torch.tensor([[0.14, -0.16]]), rtol=0, atol=1e-7)
    assert absolute_norm([torch.tensor([[1.0, -2.0]]), torch.tensor([[-3.0]])]) == 6


def test_without_l1_it_is_the_norm_penalty():
    expected = gradient("norm_penalty", l2=0.3)
    assert torch.equal(gradient("elastic_net", l1=0.0, l2=0.3), expected)


def test_weights_near_zero_are_counted():
    fit, method = make_fit(), methods.create("elastic_net")
    method.prepare(linear_model([[0.0, 1e-9, 1e-7, 1.0]]), fit)
    method.tick("epoch_end", fit)
    assert fit.records["near_zero"] == 2


@pytest.mark.parametrize("option", ["l1", "l2"])
def test_negative_strengths_are_refused(option):
    with pytest.raises(InputError, match=f"{option} must be at least 0, got -1"):
        methods.create("elastic_net", **{option: -1})
