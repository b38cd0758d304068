"""Entropy of predictions against scipy's."""

import pytest
import torch
from scipy.stats import entropy as reference

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.confidence_penalty import entropy
from tests.methods.fits import linear_model, make_batch, make_fit, objective

CONTRACT = {"weight": 0.2}


def test_it_is_the_entropy():
    logits = torch.randn(5, 4, dtype=torch.float64)
    expected = reference(logits.softmax(1).numpy(), axis=1)
    assert entropy("multiclass", logits).tolist() == pytest.approx(expected.tolist())
    p = logits.sigmoid().numpy()
    two = reference([p, 1 - p], axis=0).mean(1)
    assert entropy("multilabel", logits).tolist() == pytest.approx(two.tolist())


def test_sure_predictions_have_no_entropy_and_a_gradient():
    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    found = entropy("binary", logits)
    assert found.tolist() == [0, 0]
    found.sum().backward()
    assert logits.grad.isfinite().all()


def test_it_is_subtracted():
    model, fit = linear_model([[0.0]]), make_fit()
    batch = make_batch(torch.ones(2, 1), torch.ones(2, 1))
    loss = objective(methods.create("confidence_penalty", weight=0.25), model, batch, fit)
    assert loss.item() == pytest.approx(0.75 * 0.6931472)


def test_impossible_values_are_refused():
    with pytest.raises(InputError, match="weight must be at least 0, got -1"):
        methods.create("confidence_penalty", weight=-1)
