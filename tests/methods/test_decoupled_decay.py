"""Decoupled weight decay by hand and against torch's AdamW."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.decoupled_decay import DecayingOptimizer
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"decay": 0.1}


def test_a_weight_without_a_gradient_shrinks_a_bias_does_not():
    model = linear_model([[1.0]], bias=1.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    methods.create("decoupled_decay", decay=0.01).optimizer(adam, make_fit()).step()
    assert model.head.weight.item() == pytest.approx(0.99999, abs=3e-8)  # float32
    assert model.head.bias.item() == 1


def test_it_is_adamw():
    ours, theirs = torch.randn(3, 4).requires_grad_(), None
    theirs = ours.detach().clone().requires_grad_()
    wrapped = DecayingOptimizer(torch.optim.Adam([ours], lr=0.01), 0.3)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.3)
    for _ in range(5):
        for weight, optimizer in ((ours, wrapped), (theirs, adamw)):
            optimizer.zero_grad()
            (weight - 2).square().sum().backward()
            optimizer.step()
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=0)


def test_with_sgd_it_is_half_as_much_l2():
    start, decay, lr = torch.tensor([[2.0]]), 0.4, 0.1
    ours = start.clone().requires_grad_()
    ours.grad = torch.ones_like(start)
    DecayingOptimizer(torch.optim.SGD([ours], lr=lr), decay).step()
    l2 = start - lr * (1 + 2 * (decay / 2) * start)
    assert torch.allclose(ours, l2)


def test_a_decay_that_changes_signs_is_refused():
    with pytest.raises(InputError, match="at least 0, got -1"):
        methods.create("decoupled_decay", decay=-1)
    adam = torch.optim.Adam(linear_model([[1.0]]).parameters(), lr=1e-3)
    with pytest.raises(InputError, match=r"learning rate \(0.001\) times decay must be below 1"):
        methods.create("decoupled_decay", decay=1000).optimizer(adam, make_fit())
