"""The baseline."""

from mimic_reg import methods
from mimic_reg.methods.base import Regulariser

CONTRACT = {}


def test_it_overrides_no_hook():
    method = type(methods.create("none"))
    hooks = ["prepare", "optimizer", "batch", "loss", "tick", "predictor", "state_dict"]
    assert all(getattr(method, hook) is getattr(Regulariser, hook) for hook in hooks)
