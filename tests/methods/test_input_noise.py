"""Noise on inputs: where it acts, and what it does to a linear regression."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import linear_model, make_batch, make_fit
from tests.methods.stays import everything, make_images, make_stays

CONTRACT = {"sigma": 0.3}


def test_measurements_within_a_stay_and_nothing_else():
    fit = make_fit(train=make_stays())
    batch = everything(fit.train)
    method = methods.create("input_noise")
    method.prepare(None, fit)
    changed = method.batch(batch, fit).x != batch.x
    assert changed[..., 0].sum() == 6 + 3 + 1
    assert changed[..., 1:].sum() == 0
    assert changed[1, 3:].sum() == 0


def test_all_pixels():
    fit = make_fit(train=make_images())
    batch = everything(fit.train)
    method = methods.create("input_noise", sigma=5.0)
    method.prepare(None, fit)
    assert (method.batch(batch, fit).x != batch.x).all()
    assert batch.x[0, 0, 0, 1] == 1  # a new tensor


def test_a_linear_regression_gains_an_l2_penalty():
    w = torch.tensor([[1.0, -2.0]])
    x, fit = torch.zeros(200_000, 2), make_fit(target="regression")
    method = methods.create("input_noise", sigma=0.5)
    method.prepare(None, fit)
    noisy = method.batch(make_batch(x, torch.zeros(len(x), 1)), fit)
    squares = linear_model(w)(noisy.x, noisy.lengths).square()
    expected, error = 0.25 * 5, squares.std().item() / len(x) ** 0.5
    assert abs(squares.mean().item() - expected) < 4 * error


def test_negative_noise_is_refused():
    with pytest.raises(InputError, match="sigma must be at least 0, got -1"):
        methods.create("input_noise", sigma=-1)
