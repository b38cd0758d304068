"""A fit as methods see it, and a small model to act on."""

import torch
from torch import nn

from mimic_reg.methods.base import Batch, Fit, Step, differentiation
from mimic_reg.models.base import Model, Site, loss_of


def make_fit(seed=0, **content):
    """A fit whose records are kept in `fit.records`."""
    records = {}
    settings = {
        "target": "multilabel",
        "num_outputs": 1,
        "num_train": 8,
        "epoch_steps": 2,
        "max_epochs": 10,
        "generator": torch.Generator().manual_seed(seed),
        "record": records.__setitem__,
    }
    fit = Fit(**{**settings, **content})
    fit.records = records
    return fit


class Flat(nn.Module):
    """A trunk (B, F) -> (B, F) that is a site only."""

    def __init__(self, dim):
        super().__init__()
        self.site = Site(dim)

    def forward(self, x, lengths):
        return self.site(x)


def linear_model(weight, bias=0.0):
    """z = W x + b behind one site."""
    weight = torch.as_tensor(weight)
    head = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.fill_(bias)
    return Model(Flat(weight.shape[1]), head)


def make_batch(x, y):
    ones = torch.ones(len(x), dtype=torch.int64)
    return Batch(x=x, lengths=ones, y=y, index=torch.arange(len(x)))


def objective(method, model, batch, fit):
    """The loss with the method's part, as the engine makes it."""
    if "input_grad" in method.needs:
        batch.x.requires_grad_()
    with differentiation(method.needs):
        logits = model(batch.x, batch.lengths)
        per_sample = loss_of(fit.target, logits, batch.y, fit.class_weights)
        return method.loss(per_sample.mean(), Step(model, batch, logits, per_sample), fit)
