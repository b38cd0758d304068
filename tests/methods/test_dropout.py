"""Dropout against `torch.nn.Dropout`."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.base import draw_keep
from tests.methods.fits import linear_model, make_fit
from tests.networks import create

CONTRACT = {"rate": 0.3}


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_it_is_torch_s_dropout(rate):
    x, ones = torch.randn(4, 30), torch.ones(4, dtype=torch.int64)
    model = methods.create("dropout", rate=rate).prepare(
        linear_model(torch.ones(1, 30)), make_fit(seed=7)
    )
    torch.manual_seed(7)
    expected = torch.nn.Dropout(rate)(x)
    assert torch.equal(model.trunk(x, ones), expected)


def test_patterns_have_mean_one():
    keep = draw_keep(torch.empty(100_000), 0.25, torch.Generator().manual_seed(0))
    assert keep.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert abs(keep.mean().item() - 1) < 0.01


def test_every_site_drops_in_training_only():
    model = create("dnn", 10, hidden=[50, 40])
    x, ones = torch.randn(3, 784), torch.ones(3, dtype=torch.int64)
    plain = model.eval()(x, ones)
    model = methods.create("dropout", rate=0.5).prepare(model, make_fit())
    assert [len(site) for site in model.sites] == [1, 1]
    assert torch.equal(model.eval()(x, ones), plain)
    assert not torch.equal(model.train()(x, ones), model(x, ones))


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(InputError, match=r"rate must be in \[0, 1\), got"):
        methods.create("dropout", rate=rate)
