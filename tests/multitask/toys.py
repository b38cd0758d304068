"""Tasks small enough to be worked out by hand, in the real engines."""

import numpy as np
import torch
from torch import nn

from mimic_reg.engine.trainer import Trainer
from mimic_reg.methods.base import Composite, Regulariser
from mimic_reg.models.base import Model
from mimic_reg.multitask.fit import MultiTrainer
from mimic_reg.samples import from_arrays
from mimic_reg.seeds import Streams
from mimic_reg.settings import Component, Training, Trial


class Trunk(nn.Module):
    """One number w for every sample: (B, 1) -> (B, 1)."""

    def __init__(self, start=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def forward(self, x, lengths):
        return self.w * torch.ones_like(x)


class Head(nn.Module):
    """h + the features, with h a number of the task's own; frozen unless asked for."""

    def __init__(self, learned=False):
        super().__init__()
        self.h = nn.Parameter(torch.zeros(()), requires_grad=learned)

    def forward(self, features):
        return features + self.h


class Constant(Regulariser):
    """Replaces the loss by g times (w + h): the gradients are g, whatever the parameters are."""

    def __init__(self, g):
        self.g = g

    def loss(self, loss, step, fit):
        return self.g * (step.model.trunk.w + step.model.head.h)


def engine(folder, target, *methods, learned_head=False, num=4, **training):
    """An engine whose objective is (w + h - target)², a batch of `num` equal samples."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = from_arrays(
        np.zeros((num, 1), np.float32), np.full((num, 1), target, np.float32), "regression"
    )
    settings = {"optimizer": "sgd", "learning_rate": 0.05, "batch_size": num, "epoch_steps": 4}
    return Trainer(
        Model(Trunk(), Head(learned_head)),
        Composite(methods),
        samples,
        samples,
        num_outputs=1,
        selected_by="mean_absolute_deviation",
        training=Training(**{**settings, "max_epochs": 1, **training}),
        streams=Streams(0, folder.name),
        folder=folder,
    )


def together(folder, strategy, engines, max_epochs=1):
    """The fit of several engines."""
    trials = [
        Trial(
            task=name,
            model=Component.model_validate("toy"),
            training=Training(max_epochs=max_epochs, epoch_steps=1),
        )
        for name in engines
    ]
    return MultiTrainer(
        Trial(strategy=Component.model_validate(strategy), trials=tuple(trials)),
        engines,
        folder,
    )
