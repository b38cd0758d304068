"""Label smoothing against torch's own, and its floor."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.label_smoothing import smoothed
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"rho": 0.1}


def prepared(rho, fit):
    method = methods.create("label_smoothing", rho=rho)
    method.prepare(None, fit)
    return method


def test_it_is_torch_s_with_another_number():
    fit = make_fit(target="multiclass", num_outputs=10)
    x, y = torch.randn(6, 4), torch.tensor([0, 3, 9, 3, 1, 7])
    model, method = linear_model(torch.randn(10, 4)), prepared(0.18, fit)
    got = objective(method, model, method.batch(make_batch(x, y), fit), fit)
    expected = cross_entropy(model(x, torch.ones(6)), y, label_smoothing=0.18 * 10 / 9)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_smallest_loss_is_the_entropy_of_the_target():
    y = smoothed(torch.eye(10)[:1], 0.1, 10)
    assert y.sum().item() == pytest.approx(1)
    logits = y.log()
    assert cross_entropy(logits, y).item() == pytest.approx(0.54481, abs=1e-5)


def test_answers_have_two_classes():
    fit = make_fit(num_outputs=3)
    y = torch.tensor([[0.0, 1.0, 1.0]])
    got = prepared(0.2, fit).batch(make_batch(torch.zeros(1, 1), y), fit).y
    assert got.tolist() == [pytest.approx([0.2, 0.8, 0.8])]
    assert math.isclose(smoothed(torch.ones(1), 0.1, 2).item(), 0.9, rel_tol=1e-6)


@pytest.mark.parametrize(
    ("content", "rho", "rule"),
    [
        ({"num_outputs": 3}, 0.5, "below 0.5 with 2 classes"),
        ({"target": "multiclass", "num_outputs": 10}, 0.95, "below 0.9 with 10 classes"),
    ],
)
def test_a_rho_that_reverses_labels_is_refused(content, rho, rule):
    with pytest.raises(InputError, match=rule):
        prepared(rho, make_fit(**content))
