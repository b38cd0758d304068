"""How often DisturbLabel leaves a label, and what it makes of it."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import make_batch, make_fit

CONTRACT = {"alpha": 0.3}
NUM = 100_000


def disturbed(y, alpha=0.1, **fit):
    fit = make_fit(**fit)
    method = methods.create("disturb_label", alpha=alpha)
    method.prepare(None, fit)
    return method.batch(make_batch(torch.zeros(len(y), 1), y), fit).y


@pytest.mark.parametrize("soft", [False, True])
def test_shares_of_ten_classes(soft):
    y = torch.full((NUM,), 3)
    y = torch.nn.functional.one_hot(y, 10).float() if soft else y
    got = disturbed(y, target="multiclass", num_outputs=10)
    classes = got.argmax(1) if soft else got
    shares = torch.bincount(classes, minlength=10) / NUM
    expected = torch.full((10,), 0.01)
    expected[3] = 0.91
    assert (shares - expected).abs().max() < 0.004


def test_answers_turn_half_as_often():
    y = torch.tensor([0.0, 1.0]).repeat(NUM, 2)
    turned = disturbed(y, num_outputs=4) != y
    assert abs(turned.float().mean().item() - 0.05) < 0.002
    assert turned.any(0).all()


def test_impossible_values_are_refused():
    with pytest.raises(InputError, match=r"alpha must be in \[0, 1\), got 1"):
        methods.create("disturb_label", alpha=1)
