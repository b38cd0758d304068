"""What several predictions say together."""

import pytest
import torch

from mimic_reg.methods._ensembles import mean_probability, spread


def test_mean_probabilities_also_near_zero_and_one():
    logits = torch.randn(4, 3, 5, dtype=torch.float64)
    got = mean_probability("multilabel", logits).sigmoid()
    assert torch.allclose(got, logits.sigmoid().mean(0))
    got = mean_probability("multiclass", logits).softmax(2 - 1)
    assert torch.allclose(got, logits.softmax(2).mean(0))
    assert torch.equal(mean_probability("regression", logits), logits.mean(0))
    sure = torch.full((2, 1, 1), 60.0)
    assert mean_probability("binary", sure).item() == pytest.approx(60)


def test_spreads():
    logits = torch.randn(4, 3, 5, dtype=torch.float64)
    for target, p in (("binary", logits.sigmoid()), ("multiclass", logits.softmax(2))):
        assert torch.allclose(spread(target, logits), p.std(0, correction=0))
    assert torch.equal(spread("regression", logits[:1]), torch.zeros(3, 5, dtype=torch.float64))
