"""Predictions of ensembles, from probabilities as they are stored."""

import numpy as np
import pytest
import torch

from mimic_reg.metrics.ensembles import disagreement, mean_of_logits, mean_of_probabilities


def logits():
    return torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", ["binary", "multilabel", "multiclass"])
def test_the_mean_of_logits_is_recovered_from_probabilities(target):
    z = logits()
    to_probabilities = torch.sigmoid if target != "multiclass" else lambda z: z.softmax(-1)
    got = mean_of_logits(target, to_probabilities(z).numpy())
    assert got == pytest.approx(to_probabilities(z.mean(0)).numpy(), abs=1e-6)


def test_an_ensemble_of_equal_members_equals_them_also_at_0_and_1():
    p = np.repeat(np.float32([[[0.0], [1.0], [0.3]]]), 3, axis=0)
    for together in (mean_of_logits("binary", p), mean_of_probabilities(p)):
        assert together == pytest.approx(p[0], abs=1e-6)
    assert disagreement(p) == 0


def test_a_regression_s_mean_and_how_far_members_are_apart():
    values = np.array([[[1.0]], [[4.0]]])
    assert mean_of_logits("regression", values) == [[2.5]]
    assert mean_of_probabilities(values) == [[2.5]]
    assert disagreement(values) == pytest.approx(np.std([1, 4], ddof=1))
