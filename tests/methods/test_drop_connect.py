"""DropConnect: patterns of weights have the mean 1, one pattern a forward pass."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from tests.methods.fits import linear_model, make_fit

CONTRACT = {"rate": 0.3}


def test_weights_are_dropped_or_scaled_for_the_whole_batch():
    model = methods.create("drop_connect", rate=0.25).prepare(
        linear_model(torch.ones(1, 50)), make_fit()
    )
    model.train()
    x, ones = torch.eye(50), torch.ones(50, dtype=torch.int64)
    seen = torch.stack([model(x, ones)[:, 0] for _ in range(200)])
    assert seen.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert abs(seen.mean().item() - 1) < 0.03
    both = model(torch.ones(2, 50), ones[:2])
    assert both[0] == both[1]
    assert torch.equal(model.eval()(x, ones), torch.ones(50, 1))


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(InputError, match=r"rate must be in \[0, 1\), got"):
        methods.create("drop_connect", rate=rate)
