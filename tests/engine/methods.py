"""Methods that use every part of the protocol, to test the engine alone."""

from dataclasses import replace

import torch
from torch.func import functional_call
from torch.nn.utils.parametrize import register_parametrization

from mimic_reg.methods.base import OptimizerWrapper, Regulariser
from mimic_reg.models.base import loss_of


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


class Averaging(Regulariser):
    """Validates the mean of the weights at the ends of epochs, that of the running one included."""

    def __init__(self):
        self.count, self.mean = 0, {}

    def prepare(self, model, fit):
        self.model = model
        return model

    @torch.no_grad()
    def tick(self, event, fit):
        if event == "before_validation":
            self.count += 1
            for name, p in self.model.named_parameters():
                mean = self.mean.setdefault(name, torch.zeros_like(p))
                mean += (p - mean) / self.count

    def predictor(self, predict, model):
        return lambda x, lengths: functional_call(model, self.mean, (x, lengths))

    def state_dict(self):
        return {"count": self.count, "mean": self.mean}

    def load_state_dict(self, state):
        self.count = state["count"]
        self.mean = {name: mean.clone() for name, mean in state["mean"].items()}


class Scaled(Regulariser):
    """Multiplies the logits by what serves the validation samples worst."""

    def prepare(self, model, fit):
        self.model, self.chosen = model, 1.0
        return model

    @torch.no_grad()
    def tick(self, event, fit):
        if event == "before_validation":
            batch = fit.validation.gather(torch.arange(len(fit.validation)))
            logits = self.model.eval()(batch.x, batch.lengths)
            losses = {k: loss_of(fit.target, k * logits, batch.y).mean() for k in (-1.0, 1.0)}
            self.chosen = max(losses, key=losses.get)

    def predictor(self, predict, model):
        return lambda x, lengths: self.chosen * predict(x, lengths)

    def state_dict(self):
        return {"chosen": self.chosen}

    def load_state_dict(self, state):
        self.chosen = state["chosen"]


class NotBefore(Regulariser):
    """Lets no epoch be selected before the given one, as pruning would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def tick(self, event, fit):
        if event == "before_validation" and fit.epoch < self.epoch:
            fit.eligible = False


class KilledBeforeValidation(Regulariser):
    """Ends the process after an epoch's last step, when that may have been saved."""

    def __init__(self, epoch):
        self.epoch = epoch

    def tick(self, event, fit):
        if event == "before_validation" and fit.epoch == self.epoch:
            raise Killed


class RandomWeights(Regulariser):
    """Draws the weights of every linear and recurrent layer anew, whenever they are asked for."""

    class Noise(torch.nn.Module):
        def __init__(self, generator):
            super().__init__()
            self.generator = generator

        def forward(self, w):
            if not self.training:
                return w
            noise = torch.randn(w.shape, generator=self.generator)
            return w + 0.01 * noise

    def prepare(self, model, fit):
        for module in list(model.modules()):
            for name, p in list(module.named_parameters(recurse=False)):
                if p.ndim == 2:
                    register_parametrization(module, name, self.Noise(fit.generator))
        self.stream = fit.generator.get_state()
        return model


class SpoiledLast(Regulariser):
    """Spoils the model after an epoch's last step, which no loss sees."""

    def __init__(self, epoch):
        self.epoch = epoch

    def prepare(self, model, fit):
        self.model = model
        return model

    def tick(self, event, fit):
        if event == "before_validation" and fit.epoch == self.epoch:
            self.model.head.bias.data.fill_(float("nan"))


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
