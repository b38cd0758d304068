"""Means of weights against `torch.optim.swa_utils`."""

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, update_bn

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.swa import renew_statistics
from mimic_reg.models.base import Model
from tests.methods.fits import linear_model, make_fit
from tests.methods.stays import make_images

CONTRACT = {"start": 0.0}


def after_epochs(model, method, fit, num):
    """Let a fit of `num` epochs pass, in which the weights move; the eligible ones."""
    eligible, states = [], []
    for fit.epoch in range(num):
        fit.eligible = True
        with torch.no_grad():
            for p in model.parameters():
                p.add_(fit.epoch + 1)
        states.append(model.head.weight.detach().clone())
        method.tick("before_validation", fit)
        eligible.append(fit.eligible)
    return eligible, states


def test_it_is_torch_s_mean_of_the_last_quarter():
    model, fit = linear_model([[1.0, 2.0]]), make_fit(max_epochs=12)
    method = methods.create("swa")
    method.prepare(model, fit)
    eligible, states = after_epochs(model, method, fit, 12)
    assert eligible == [False] * 9 + [True] * 3
    oracle = AveragedModel(torch.nn.Linear(2, 1))
    for state in states[9:]:
        linear = torch.nn.Linear(2, 1)
        linear.weight.data = state
        oracle.update_parameters(linear)
    assert torch.allclose(method.mean["head.weight"], oracle.module.weight)
    x, ones = torch.ones(1, 2), torch.ones(1, dtype=torch.int64)
    expected = (oracle.module.weight.sum() + method.mean["head.bias"]).item()
    assert method.predictor(model, model)(x, ones).item() == pytest.approx(expected)
    assert torch.equal(model.head.weight, states[-1])  # training goes on from there


def test_some_epochs_only():
    model, fit = linear_model([[0.0]]), make_fit(max_epochs=4)
    method = methods.create("swa", start=0.25, every=2)
    method.prepare(model, fit)
    after_epochs(model, method, fit, 4)
    assert method.count == 2
    assert method.mean["head.weight"].item() == pytest.approx((3 + 10) / 2)


def test_statistics_of_batch_norm_are_those_of_the_mean():
    class Trunk(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)

        def forward(self, x, lengths):
            return self.norm(x).flatten(1)

    model, train = Model(Trunk(), torch.nn.Linear(25, 3)), make_images()
    model(torch.randn(4, 1, 5, 5), None)  # statistics of something else
    renew_statistics(model, train)
    oracle = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    update_bn([train.units.values], oracle)
    assert torch.equal(model.trunk.norm.running_mean, oracle[0].running_mean)
    assert torch.equal(model.trunk.norm.running_var, oracle[0].running_var)
    assert model.trunk.norm.momentum == 0.1
    assert model.training
    assert model.trunk.norm.training


def test_without_a_start_every_epoch_can_be_the_best():
    model, fit = linear_model([[0.0]]), make_fit(max_epochs=2)
    method = methods.create("swa", start=1.0)
    method.prepare(model, fit)
    assert after_epochs(model, method, fit, 2)[0] == [True, True]
    assert method.predictor(model, model) is model


@pytest.mark.parametrize(("option", "value"), [("start", 1.5), ("every", 0)])
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, got {value}"):
        methods.create("swa", **{option: value})
