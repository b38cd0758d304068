"""The bandit over thresholds: UCB1 by hand, and the threshold of each epoch."""

import pytest
import torch
from torch.optim import SGD

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.itps_auto import best_arm
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"taus": [0.001, 0.002]}


def test_arms_by_hand():
    assert best_arm([0, 0, 0], [0, 0, 0]) == 0
    assert best_arm([1, 0, 0], [1, 0, 1]) == 1  # each once
    assert best_arm([1, 0], [1, 1]) == 0  # 1 + 1.18 against 0 + 1.18
    assert best_arm([2, 0], [20, 1]) == 1  # 0.1 + 0.55 against 0 + 2.47
    assert best_arm([0, 0], [2, 2]) == 0  # the first among equals


def test_each_epoch_has_a_threshold_and_better_scores_are_wins():
    method, fit = methods.create("itps_auto", taus=[0.1, 0.2]), make_fit()
    model = method.prepare(linear_model(torch.ones(1, 3)), fit)
    wrapper = method.optimizer(SGD(model.parameters(), lr=0.1), fit)
    played = []
    for fit.epoch, fit.score in enumerate([0.6, 0.5, 0.7, 0.8]):
        method.tick("epoch_start", fit)
        assert wrapper.high == -wrapper.low
        method.tick("epoch_end", fit)
        played.append(fit.records["tau"])
    assert played == [0.1, 0.2, 0.1, 0.1]
    assert (method.wins, method.plays) == ([3, 0], [3, 1])
    again = methods.create("itps_auto", taus=[0.1, 0.2])
    again.optimizer(SGD(again.prepare(model, fit).parameters(), lr=0.1), fit)
    method.arm = 1
    again.load_state_dict(method.state_dict())
    assert again.wrapper.high == 0.2
    again.plays[0] += 1
    assert method.plays == [3, 1], "a copy"


@pytest.mark.parametrize("taus", [[], [0.1, 0.1], [-1.0]])
def test_impossible_thresholds_are_refused(taus):
    with pytest.raises(InputError, match="must be"):
        methods.create("itps_auto", taus=taus)
