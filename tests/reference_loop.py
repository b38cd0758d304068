"""The engine's step, written down once more and as plainly as it can be: an oracle for tests."""

import io
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Adam

from mimic_reg.methods.base import Batch, Fit, Regulariser, Step, differentiation, trainable
from mimic_reg.models.base import Model, loss_of


@dataclass
class Loop:
    """A fit of `method`: `batches(epoch)` gives the epoch's batches, `score(predict)` validates."""

    model: Model
    method: Regulariser
    fit: Fit
    batches: Any
    score: Any

    def __post_init__(self):
        self.model = self.method.prepare(self.model, self.fit)
        adam = Adam(trainable(self.model), lr=1e-3, fused=True)
        self.optimizer = self.method.optimizer(adam, self.fit)
        self.losses = []  # of the epoch's steps: the model's, and the best constant prediction's

    def run(self, until: int | None = None) -> None:
        """Train to the end, or until so many steps are done."""
        fit, method = self.fit, self.method
        while fit.epoch < fit.max_epochs and fit.stop_reason is None:
            if fit.step == fit.epoch * fit.epoch_steps:
                method.tick("epoch_start", fit)
            for batch in self.batches(fit.epoch)[fit.step - fit.epoch * fit.epoch_steps :]:
                if fit.step == until:
                    return
                self.step(method.batch(batch, fit))
            data, constant = (sum(column) for column in zip(*self.losses, strict=True))
            fit.explained = 1 - data / constant
            self.losses = []
            fit.eligible = fit.learned = True
            method.tick("before_validation", fit)
            fit.score = self.score(self.predictor())
            method.tick("epoch_end", fit)
            fit.epoch += 1

    def step(self, batch: Batch) -> None:
        """One step."""
        batch.x.requires_grad_("input_grad" in self.method.needs)
        self.model.train()
        prevalence = self.fit.train.label.double().mean(0)
        constant = prevalence.logit().float().expand(len(batch.y), -1)
        data = []

        def closure():
            self.optimizer.zero_grad()
            with differentiation(self.method.needs):
                logits = self.model(batch.x, batch.lengths)
                per_sample = loss_of(self.fit.target, logits, batch.y)
                data.append(per_sample.mean().item())
                step = Step(self.model, batch, logits, per_sample)
                loss = self.method.loss(per_sample.mean(), step, self.fit)
                loss.backward()
            return loss.detach()

        self.optimizer.step(closure)
        self.losses.append((data[0], loss_of(self.fit.target, constant, batch.y).mean().item()))
        self.fit.step += 1
        self.method.tick("step", self.fit)

    def predictor(self):
        """How the model is evaluated now."""
        self.model.eval()
        predict = self.method.predictor(self.model, self.model)
        return torch.no_grad()(predict)

    def save(self) -> bytes:
        """Everything a checkpoint holds."""
        fit = {k: getattr(self.fit, k) for k in ("epoch", "step", "score", "started")}
        stored = io.BytesIO()
        states = [s.state_dict() for s in self._parts()]
        torch.save([*states, self.losses, fit, self._stream()], stored)
        return stored.getvalue()

    def load(self, saved: bytes) -> None:
        """Continue from `save()`, in a new loop of the same settings."""
        *states, self.losses, fit, stream = torch.load(io.BytesIO(saved), weights_only=True)
        for part, state in zip(self._parts(), states, strict=True):
            part.load_state_dict(state)
        for name, value in fit.items():
            setattr(self.fit, name, value)
        self.fit.generator.set_state(stream)

    def _parts(self):
        return self.model, self.optimizer, self.method

    def _stream(self):
        return self.fit.generator.get_state()
