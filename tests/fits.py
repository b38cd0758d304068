"""A trainer as a learner makes it, for tests that look into one."""

import torch

from mimic_reg.learners import deep
from mimic_reg.learners.data import load_data
from mimic_reg.progress import Progress


def make_trainer(trial, store, folder, trunk=None):
    """Return the trainer of a trial on an open store, at its first step."""
    data = load_data(trial, store, torch.device("cpu"), Progress())
    return deep.make_trainer(trial, data, folder, Progress(), trunk)
