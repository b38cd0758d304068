"""Methods that use every part of the protocol, to test the engine alone."""

from dataclasses import replace

import torch

from mimic_reg.regularisers.base import OptimizerWrapper, Regulariser


class Halving(OptimizerWrapper):
    """Halves gradients where a running sum is negative: state of its own, that decides updates."""

    def __init__(self, base):
        super().__init__(base)
        self.sums = [torch.zeros_like(p) for p in self.parameters()]

    def update(self):
        for total, parameter in zip(self.sums, self.parameters(), strict=True):
            if parameter.grad is not None:
                total += parameter.grad
                parameter.grad.mul_(torch.where(total < 0, 0.5, 1.0))
        self.base.step()

    def own_state(self):
        return {"sums": self.sums}

    def load_own_state(self, state):
        for total, loaded in zip(self.sums, state["sums"], strict=True):
            total.copy_(loaded)


class Busy(Regulariser):
    """Draws noise, wraps the optimiser, adds a penalty, counts, records, changes by schedule."""

    def __init__(self):
        self.scale = 0.01
        self.calls = []

    def optimizer(self, optimizer, fit):
        return Halving(optimizer)

    def batch(self, batch, fit):
        noise = torch.randn(batch.x.shape, generator=fit.generator)
        return replace(batch, x=batch.x + self.scale * noise)

    def loss(self, loss, step, fit):
        return loss + 1e-3 * sum(p.square().sum() for p in step.model.head.parameters())

    def tick(self, event, fit):
        self.calls.append((event, fit.epoch, fit.step, fit.score is not None))
        if event == "epoch_start":
            self.scale *= 0.9
        if event == "step":
            fit.record("noise", self.scale * fit.step)

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


class Killed(BaseException):
    """Stands for the end of the process."""


class KilledAt(Regulariser):
    """Ends the process after a step, before anything is written about it."""

    def __init__(self, step):
        self.step = step

    def tick(self, event, fit):
        if event == "step" and fit.step == self.step:
            raise Killed


class StopsAfter(Regulariser):
    """Asks for the end."""

    def __init__(self, epoch):
        self.epoch = epoch

    def tick(self, event, fit):
        if event == "epoch_end" and fit.epoch == self.epoch:
            fit.stop("enough")


class Poison(Regulariser):
    """Makes the loss a value that is not a number, from a step on."""

    def __init__(self, step):
        self.step = step

    def loss(self, loss, step, fit):
        return loss * float("nan") if fit.step >= self.step else loss


class Spy(Regulariser):
    """Keeps which samples every step saw, and the weights at the start."""

    def __init__(self):
        self.indices = []
        self.start = None

    def prepare(self, model, fit):
        self.start = {name: value.clone() for name, value in model.state_dict().items()}
        return model

    def batch(self, batch, fit):
        self.indices.append(batch.index.tolist())
        return batch
