"""Gaussian dropout has the mean and variance of dropout."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import linear_model, make_fit
from tests.networks import create

CONTRACT = {"rate": 0.3}


def test_mean_and_variance():
    model = linear_model(torch.ones(1, 100_000))
    methods.create("gaussian_dropout", rate=0.2).prepare(model, make_fit())
    factor = model.trunk.site(torch.ones(100_000))
    assert abs(factor.mean().item() - 1) < 0.01
    assert abs(factor.var().item() - 0.25) < 0.01


def test_every_site_is_filled_and_evaluation_is_plain():
    model = create("dnn", 10, hidden=[50, 40])
    x, ones = torch.randn(3, 784), torch.ones(3, dtype=torch.int64)
    plain = model.eval()(x, ones)
    model = methods.create("gaussian_dropout").prepare(model, make_fit())
    assert [len(site) for site in model.sites] == [1, 1]
    assert torch.equal(model.eval()(x, ones), plain)
    assert not torch.equal(model.train()(x, ones), model(x, ones))


def test_impossible_rates_are_refused():
    with pytest.raises(InputError, match=r"rate must be in \[0, 1\), got 1"):
        methods.create("gaussian_dropout", rate=1)
