"""The baseline."""

from mimic_reg import regularisers
from mimic_reg.regularisers.base import Regulariser

CONTRACT = {}


def test_it_overrides_no_hook():
    method = type(regularisers.create("none"))
    hooks = ["prepare", "optimizer", "batch", "loss", "tick", "predictor", "state_dict"]
    assert all(getattr(method, hook) is getattr(Regulariser, hook) for hook in hooks)
