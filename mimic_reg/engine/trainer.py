"""The training loop. It uses no task, model, method or data set by name.

One step: batch → closure (zero gradients, forward, loss, penalties, backward) → optimiser, which
may wrap others → the methods' tick. The checkpoint has everything that decides the next step, so an
interrupted and continued run ends as an uninterrupted one: bit for bit on one CPU with the same
versions and number of threads.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mimic_reg.engine.best import Best
from mimic_reg.engine.checkpoint import load_checkpoint, load_state, save_checkpoint, save_state
from mimic_reg.engine.devices import peak_memory
from mimic_reg.engine.forward import training_forward
from mimic_reg.engine.losses import Losses, diverged
from mimic_reg.engine.optimizers import make_optimizer
from mimic_reg.engine.prediction import predict
from mimic_reg.engine.recorder import Recorder
from mimic_reg.engine.schedule import Schedule
from mimic_reg.errors import InputError
from mimic_reg.methods.base import Attributes, Fit, Regulariser, Step, differentiation, trainable
from mimic_reg.metrics.scores import metric, score
from mimic_reg.models.base import Model, balanced_weights, constant_logits, loss_of
from mimic_reg.progress import Epoch, Progress
from mimic_reg.runs import BEST, CHECKPOINT, HISTORY
from mimic_reg.samples import Samples
from mimic_reg.seeds import Streams, restore
from mimic_reg.settings import Training
from mimic_reg.store import reading

RECORD_STEPS = 50  # steps between two rows of the history, and two checks of the loss
CHECKPOINT_SECONDS = 300.0  # longest work to repeat after a kill

Status = Literal["finished", "interrupted"]


class Trainer:
    """One fit of one model.

    train, validation: the samples, on the device to train on
    selected_by: validation score that selects the best epoch
    folder:      folder of checkpoint, best model and history
    attributes:  see `Fit`
    interrupted: set it to True, for example in a signal handler, to stop after the running step
    """

    def __init__(
        self,
        model: Model,
        method: Regulariser,
        train: Samples,
        validation: Samples,
        *,
        num_outputs: int,
        selected_by: str,
        training: Training,
        streams: Streams,
        folder: Path,
        progress: Progress | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        attributes: Attributes | None = None,
    ) -> None:
        self.device = train.units.values.device
        self.method, self.train, self.validation = method, train, validation
        self.selected_by, self.training, self.streams = selected_by, training, streams
        self.folder, self.progress = folder, progress or Progress()
        self.checkpoint_seconds = checkpoint_seconds
        self.interrupted = False
        self.best: Best | None = None
        self.pass_steps = -(-len(train) // training.batch_size)
        classes = train.target, train.label, num_outputs
        weights = balanced_weights(*classes) if training.class_weights == "balanced" else None
        self.recorder = Recorder(folder / HISTORY)
        self.fit = Fit(
            target=train.target,
            num_outputs=num_outputs,
            num_train=len(train),
            epoch_steps=training.epoch_steps or self.pass_steps,
            max_epochs=training.max_epochs,
            generator=streams.stochastic(self.device),
            record=self.recorder.record,
            train=train,
            validation=validation,
            attributes=attributes,
            class_weights=weights,
        )
        # move in eval mode: a recurrent layer then reads its weights, which a method may have made
        # random in training
        self.model = method.prepare(model.to(self.device), self.fit).eval().to(self.device)
        self.optimizer = method.optimizer(make_optimizer(self.model, training), self.fit)
        self.schedule = Schedule(self.optimizer, training)
        self._forward = training_forward(self.model, training, self.device)
        self._constant = constant_logits(*classes, weights)
        self._losses = Losses(self.device)
        self._batch_losses: list[Tensor] = []  # the constant prediction's, then the model's
        self._norms: list[Tensor] = []
        self._order: tuple[int, Tensor] | None = None
        self._saved_at = time.perf_counter()
        self._seconds = self._epoch_seconds = 0.0

    def run(self) -> Status:
        """Train from the last checkpoint, or from the start, until the end or an interruption."""
        state = load_checkpoint(self.folder / CHECKPOINT, self.check, self.progress.note)
        try:
            self.open(state)
            return self._run()
        finally:
            self.close()

    def open(self, state: dict[str, Any] | None) -> None:
        """Begin, or continue from `state`; call it before taking steps without `run`."""
        with reading(self.folder / CHECKPOINT, "a checkpoint of this model"):
            self.recorder.open(state["recorder"] if state else None)
            if state:
                self.load_state_dict(state)

    def check(self, state: dict[str, Any]) -> None:
        """Raise InputError if the history or the best model beside a checkpoint is damaged."""
        self.recorder.check(state["recorder"])
        if state["best"] is not None:
            load_state(self.folder / BEST)

    def close(self) -> None:
        """Close the history."""
        self.recorder.close()

    def _run(self) -> Status:
        fit = self.fit
        started = self._saved_at = time.perf_counter()
        self.progress.stage("train", fit.max_epochs * fit.epoch_steps - fit.step, "steps")
        while fit.epoch < fit.max_epochs and fit.stop_reason is None:
            if self.interrupted:
                return "interrupted"  # all is saved, at the end of the epoch before
            if not self._run_epoch():
                self._save(CHECKPOINT)
                return "interrupted"
        self.progress.done(time.perf_counter() - started)
        return "finished"

    def _run_epoch(self) -> bool:
        """Run the rest of the epoch; return False if it was interrupted."""
        fit = self.fit
        first, end = fit.epoch * fit.epoch_steps, (fit.epoch + 1) * fit.epoch_steps
        self.begin_epoch(new=fit.step == first)
        while fit.step < end:
            self.step(last=fit.step + 1 == end)
            if self.interrupted:
                return False
            if time.perf_counter() - self._saved_at > self.checkpoint_seconds:
                self._save(CHECKPOINT)
        self.end_epoch()
        self._save(CHECKPOINT)
        return True

    def begin_epoch(self, *, new: bool) -> None:
        """Begin an epoch; `new`: it had no step yet, so methods get "epoch_start"."""
        if new:
            self.method.tick("epoch_start", self.fit)
        self.model.train()
        self._seconds = self._epoch_seconds = 0.0

    def step(self, *, last: bool) -> None:
        """Take one optimiser step; `last`: of the epoch, so the history gets a row."""
        started = time.perf_counter()
        measuring = self.measuring(last=last)
        self.update(self.objective(), measuring=measuring)
        self.stepped(time.perf_counter() - started, measuring=measuring)

    def measuring(self, *, last: bool) -> bool:
        """Return whether the history gets a row with the next step."""
        return last or (self.fit.step + 1) % RECORD_STEPS == 0

    def objective(self) -> Callable[[], Tensor]:
        """Return the closure of the next step, which computes gradients and returns the loss."""
        fit, method = self.fit, self.method
        self.schedule.begin_step(fit)
        index = self._indices(fit.step)
        batch = method.batch(self.train.gather(index, by_stay=self.training.by_stay), fit)
        if "input_grad" in method.needs:
            batch.x.requires_grad_()
        constant = self._constant.expand(len(batch.y), -1)
        weights = fit.class_weights
        self._batch_losses = [loss_of(fit.target, constant, batch.y, weights).mean()]

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            with differentiation(method.needs):
                logits = self._forward(batch.x, batch.lengths)
                per_sample = loss_of(fit.target, logits, batch.y, weights)
                step = Step(self.model, batch, logits, per_sample)
                data_loss = per_sample.mean()
                self._batch_losses.append(data_loss.detach())
                loss = method.loss(data_loss, step, fit)
                loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()

        return closure

    def update(self, closure: Callable[[], Tensor], *, measuring: bool) -> None:
        """Take the optimiser's step, with the gradients that `closure` makes or has made."""

        def measured() -> Tensor:
            loss = closure()
            if measuring:
                self._norms = [self._gradient_norm()]
            return loss

        loss: Any = self.optimizer.step(measured)  # type: ignore[arg-type]  # a tensor will do
        self._losses.add(loss, *self._batch_losses[1::-1])  # a closure may run more than once
        if measuring:
            self._norms.append(self._gradient_norm())
        self.fit.step += 1
        self.method.tick("step", self.fit)

    def stepped(self, seconds: float, *, measuring: bool) -> None:
        """Count a step that took so many seconds."""
        self._seconds += seconds
        if measuring:
            self._record_steps()

    def _indices(self, step: int) -> Tensor:
        """Return the samples of a step, which depend only on the seed and the step's number."""
        number, position = divmod(step, self.pass_steps)
        if self._order is None or self._order[0] != number:
            order = self.train.training_order(
                self.training.batch_size,
                self.streams.batches(number),
                by_length=self.training.by_length,
                by_stay=self.training.by_stay,
            )
            self._order = number, order
        size = self.training.batch_size
        return self._order[1][position * size : (position + 1) * size]

    def _gradient_norm(self) -> Tensor:
        """Return the norm of gradients: raw before the optimiser, as methods left them after."""
        gradients = [p.grad for p in trainable(self.model) if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _record_steps(self) -> None:
        """Write a row about the steps since the last row; only this waits for the device."""
        started = time.perf_counter()
        mean, count = self._losses.take()
        seconds = self._seconds + time.perf_counter() - started
        self._check_loss(mean)
        raw, applied = self._norms
        self.recorder.write(
            "steps",
            epoch=self.fit.epoch,
            step=self.fit.step,
            loss=mean,
            gradient_norm=raw,
            applied_gradient_norm=applied,
            cost={"seconds_per_step": seconds / count},
        )
        self._epoch_seconds += seconds
        self._seconds = 0.0
        self.progress.advance(count)

    def _check_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            self.recorder.write("failed", epoch=self.fit.epoch, step=self.fit.step, loss=loss)
            raise diverged(f"The loss became {loss}", self.fit, self.training)

    def end_epoch(self) -> None:
        """Validate, keep the best model, inform methods, and write the history."""
        fit = self.fit
        started = time.perf_counter()
        losses = self._losses.take_epoch()
        if losses is not None:
            fit.explained = losses.explained
        fit.eligible = fit.learned = True
        self.method.tick("before_validation", fit)
        predictions = self.predict(self.validation)
        if not np.isfinite(predictions).all():
            what = "Predictions of validation samples became infinite or nan"
            raise diverged(what, fit, self.training)
        scores = score(fit.target, self.validation.label.cpu().numpy(), predictions)
        selecting = scores[self.selected_by]
        if selecting.value is None:
            raise InputError(
                f"The validation score {self.selected_by} is undefined: {selecting.reason}. "
                "Without it no checkpoint can be selected."
            )
        lower_is_better = metric(self.selected_by).lower_is_better
        fit.score = -selecting.value if lower_is_better else selecting.value
        found = Best(fit.epoch, fit.score, fit.learned)
        if fit.eligible and found.beats(self.best):
            self.best = found
            self._save(BEST)
        self.schedule.end_epoch(fit)
        self.method.tick("epoch_end", fit)
        self.recorder.write(
            "epoch",
            epoch=fit.epoch,
            step=fit.step,
            loss=losses.objective if losses else None,
            data_loss=losses.data if losses else None,
            explained=losses.explained if losses else None,
            # also those that methods added
            parameters=sum(p.numel() for g in self.optimizer.param_groups for p in g["params"]),
            validation={name: s.value for name, s in scores.items()},
            best_epoch=self.best.epoch if self.best else None,
            stop_reason=fit.stop_reason,
            cost={
                "training_seconds": self._epoch_seconds,
                "validation_seconds": time.perf_counter() - started,
                "peak_memory_bytes": peak_memory(self.device),
            },
        )
        self.progress.epoch(
            Epoch(
                number=fit.epoch + 1,
                most=fit.max_epochs,
                loss=losses.objective if losses else None,
                score=self.selected_by,
                value=selecting.value,
                best=self.best is not None and self.best.epoch == fit.epoch,
                may_end_in=fit.may_end_in,
                stopped=fit.stop_reason,
            )
        )
        fit.epoch += 1

    def predict(self, samples: Samples) -> np.ndarray:
        """Return predictions (N, C) of all samples, as the method evaluates the model."""
        self.model.eval()
        predictor = self.method.predictor(self.model, self.model)
        by_stay = self.model.causal and not self.method.not_by_stay()
        return predict(predictor, samples, self.model.unit_numbers, by_stay=by_stay)

    def load_best(self) -> None:
        """Load the state of the best validation score.

        Raises:
            InputError: no epoch was eligible.
        """
        path = self.folder / BEST
        if not path.exists():
            raise InputError(
                f"{self.folder} has no best model: no epoch was eligible, because a method had not "
                "reached its final state. Train for more epochs, or let the method begin earlier."
            )
        with reading(path, "a checkpoint of this model"):
            self.load_state_dict(load_state(path))

    def check_losses(self) -> None:
        """Raise MimicRegError if the model has diverged; called before a checkpoint is written."""
        self._check_loss(self._losses.mean())

    def _save(self, name: str) -> None:
        self.check_losses()
        save = save_checkpoint if name == CHECKPOINT else save_state
        save(self.folder / name, self.state_dict())
        self._saved_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides how the fit continues; batches follow from the step."""
        fit = self.fit
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": self.method.state_dict(),
            "generator": fit.generator.get_state(),
            "fit": {name: getattr(fit, name) for name in _FIT_STATE},
            "best": None if self.best is None else self.best.state(),
            "losses": self._losses.state_dict(),
            "recorder": self.recorder.state_dict(),
            **self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`, except for the recorder's part."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.method.load_state_dict(state["method"])
        moved = ("moved", self.streams.purpose, self.streams.seed, state["fit"]["step"])
        restore(self.fit.generator, state["generator"], *moved)
        for name in _FIT_STATE:
            setattr(self.fit, name, state["fit"][name])
        self.best = None if state["best"] is None else Best(*state["best"])
        self._losses.load_state_dict(state["losses"])
        self.schedule.load_state_dict(state)


_FIT_STATE = ("epoch", "step", "score", "started", "explained", "stop_reason")
