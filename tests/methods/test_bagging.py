"""Bootstrap samples of patients."""

import numpy as np
import pytest
import torch

from mimic_reg import methods
from mimic_reg.methods.bagging import draw_counts
from tests.methods.fits import linear_model, make_fit, objective
from tests.methods.stays import everything, make_stays

CONTRACT = {}


def test_about_63_percent_of_the_patients_take_part():
    subject = np.repeat(np.arange(20_000), 3)
    factors = draw_counts(subject, torch.Generator().manual_seed(0)).view(-1, 3)
    assert torch.equal(factors[:, 0], factors[:, 1])  # a patient's samples share its count
    assert factors.mean().item() == pytest.approx(1, rel=1e-5)
    assert (factors[:, 0] > 0).float().mean().item() == pytest.approx(1 - np.exp(-1), abs=0.01)
    assert torch.equal(factors, factors.round())  # all have three samples, so counts remain


def test_the_objective_is_that_of_the_drawn_samples():
    train = make_stays(subject=(0, 1, 2))
    batch, method = everything(train), methods.create("bagging")
    fit = make_fit(seed=3, train=train, target="binary")
    method.prepare(None, fit)
    counts = (method.factors / method.factors[method.factors > 0].min()).round().long()
    assert counts.tolist() != [1, 1, 1]
    model = linear_model(torch.ones(1, 3))
    model.trunk.forward = lambda x, lengths: x.sum(1)
    got = objective(method, model, batch, fit)
    drawn = train.gather(torch.arange(3).repeat_interleave(counts))
    expected = objective(methods.create("none"), model, drawn, fit)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_seeds_draw_other_patients():
    subject = np.arange(50)
    one, other = (draw_counts(subject, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(one, other)
