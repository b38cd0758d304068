"""One fit of several tasks with a shared trunk: the loop around a strategy, and its folder.

The folder of a fit has `fit.json` (resolved settings, data fingerprint, versions), one
`checkpoint.safetensors`, `trunk.safetensors` with `trunk.yaml` (the shared trunk, see
`learners/trunk.py`), at the end `done.json`, and a folder for each task in the format of a single
run, so all readers of runs can read it.

Rules. Every task is validated after each epoch and keeps its own best checkpoint: trunk and head of
its best epoch. The fit ends when all tasks ask for it in the same epoch (early stopping: no better
validation score for `patience` epochs). Until then, a task that has asked goes on training, because
the others share its trunk; if its score improves again, it no longer asks. The shared trunk that is
kept is that of the epoch with the best mean over the tasks' validation scores, with errors counted
negatively.

Initial weights are those of each task alone: all heads, and the trunk of the first task.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mimic_reg import methods
from mimic_reg.engine.best import Best
from mimic_reg.engine.checkpoint import load_checkpoint, save_checkpoint
from mimic_reg.engine.devices import find_device, reset_peak_memory
from mimic_reg.engine.interruption import stopping
from mimic_reg.engine.trainer import CHECKPOINT_SECONDS, Status, Trainer
from mimic_reg.errors import InputError
from mimic_reg.fitting import Outcome, forget_checkpoints, score_best
from mimic_reg.learners.data import load_data
from mimic_reg.learners.deep import DeepLearner
from mimic_reg.learners.trunk import save_trunk
from mimic_reg.multitask.base import Strategy, trunk_of
from mimic_reg.multitask.trials import resolve_multi
from mimic_reg.progress import SILENT, Epoch, Progress
from mimic_reg.runs import CHECKPOINT, FIT, check_finished, finish, is_done
from mimic_reg.runs.description import check_weights, describe
from mimic_reg.runs.record import read_scores
from mimic_reg.settings import Trial, find_module
from mimic_reg.store import Store, locked
from mimic_reg.threads import torch_threads


def train(
    trial: Trial,
    store: Path,
    out: Path,
    *,
    progress: Progress = SILENT,
    device: str | None = None,
    threads: int | None = None,
) -> Outcome:
    """Fit several tasks in the folder `out`, or go on where the fit stopped.

    The first Ctrl-C ends the current iteration, writes a checkpoint and returns "interrupted".

    threads: of torch; a fit that goes on keeps its number

    Raises:
        InputError: `out` has something else; the data does not fit one of the tasks.
        MimicRegError: the model diverged; another process writes to `out`.
    """
    trial = resolve_multi(trial.model_dump())
    opened = Store.open(store).in_fold(trial.fold)
    data = str(opened.manifest["fingerprint"])
    fit_id = trial.id(data)
    parts = {part.task: part for part in trial.parts()}
    with ExitStack() as locks:
        locks.enter_context(locked(out))
        check_weights(out, trial, FIT)
        if is_done(out, fit_id):
            for folder in (out, *(out / name for name in parts)):
                check_finished(folder)
            progress.note(f"{out} holds this fit, finished; nothing to do.")
            return Outcome("skipped", fit_id, {name: read_scores(out / name) for name in parts})
        where = find_device(device)
        number = describe(out, trial, fit_id, opened, where, threads, progress, FIT)
        locks.enter_context(torch_threads(number))
        reset_peak_memory(where)
        learners = {}
        for name, part in parts.items():
            locks.enter_context(locked(out / name))
            describe(out / name, part, part.id(data), opened, where, number, SILENT)
            shown = Named(progress, name)
            loaded = load_data(part, opened, where, shown)
            learners[name] = DeepLearner(part, loaded, out / name, shown)
        engines = {name: learner.trainer for name, learner in learners.items()}
        trainer = MultiTrainer(trial, engines, out, progress=progress)
        if (out / CHECKPOINT).exists():
            progress.note("Going on from the checkpoint.")
        with stopping(trainer):
            status = trainer.run()
        if status == "interrupted":
            return Outcome(status, fit_id, {}, number)
        scores = {}
        for name, part in parts.items():
            learner = learners[name]
            scores[name] = score_best(*learner.best(), learner.data, out / name)
            finish(out / name, part.id(data))
        finish(out, fit_id)
        forget_checkpoints(out)
        return Outcome(status, fit_id, scores, number)


class MultiTrainer:
    """The engines of several tasks, and the strategy that runs them.

    engines:     by task, in the order of tasks; each writes into its own folder
    folder:      for the checkpoint of all tasks, and the trunk
    interrupted: set to True, for example in a signal handler, to stop after the current iteration
    """

    def __init__(
        self,
        trial: Trial,
        engines: Mapping[str, Trainer],
        folder: Path,
        *,
        progress: Progress = SILENT,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        assert trial.strategy is not None
        name, options = trial.strategy.name, trial.strategy.options
        self.strategy: Strategy = find_module("mimic_reg.multitask", name).build(**options)
        self.trial, self.engines, self.folder = trial, dict(engines), folder
        self.progress = progress
        self.checkpoint_seconds = checkpoint_seconds
        self.interrupted = False
        self.iteration = 0
        self.ended = False
        self.best: Best | None = None
        self._saved_at = time.perf_counter()
        _check_methods(trial)
        _check_trunks(list(self.engines.values()))

    @property
    def num_iterations(self) -> int:
        """Return the most iterations of the whole fit."""
        return self.trial.training.max_epochs * self.strategy.epoch_iterations

    def run(self) -> Status:
        """Train from the last checkpoint, or from the start, to the end or an interruption."""
        state = load_checkpoint(self.folder / CHECKPOINT, self._check, self.progress.note)
        with ExitStack() as stack:
            for name, engine in self.engines.items():
                stack.callback(engine.close)
                engine.open(state["engines"][name] if state else None)
            if state:
                self._load(state)
            self.strategy.start(list(self.engines.values()))
            return self._run()

    def _run(self) -> Status:
        started = self._saved_at = time.perf_counter()
        self.progress.stage("train", self.num_iterations - self.iteration, "iterations")
        engines = list(self.engines.values())
        begun = False
        while not self.ended and self.iteration < self.num_iterations:
            if self._between_epochs() or not begun:
                for engine in engines:
                    engine.begin_epoch(new=self._between_epochs())
                begun = True
            self.strategy.iterate(engines, self.trial.seed, self.iteration)
            self.iteration += 1
            self.progress.advance(1)
            if self._between_epochs():
                self._end_epoch()
            self._save_if_due()
            if self.interrupted and not self.ended:
                return "interrupted"
        self.progress.done(time.perf_counter() - started)
        return "finished"

    def _between_epochs(self) -> bool:
        return self.iteration % self.strategy.epoch_iterations == 0

    def _end_epoch(self) -> None:
        engines = list(self.engines.values())
        for engine in engines:
            engine.fit.stop_reason = None  # asked again after each epoch
            engine.end_epoch()
        scores = [engine.fit.score for engine in engines if engine.fit.score is not None]
        mean = sum(scores) / len(scores)
        learned = all(engine.fit.learned for engine in engines)
        found = Best(engines[0].fit.epoch - 1, mean, learned)
        if all(engine.fit.eligible for engine in engines) and found.beats(self.best):
            self.best = found
            save_trunk(self.folder, engines[0].model, self.trial, self.best)
        self.ended = all(engine.fit.stop_reason for engine in engines)

    def _save_if_due(self) -> None:
        late = time.perf_counter() - self._saved_at > self.checkpoint_seconds
        if self._between_epochs() or self.interrupted or late:
            save_checkpoint(self.folder / CHECKPOINT, self.state_dict())
            self._saved_at = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Return all state that a fit needs to go on, between two iterations."""
        for engine in self.engines.values():
            engine.check_losses()
        return {
            "iteration": self.iteration,
            "ended": self.ended,
            "best": None if self.best is None else self.best.state(),
            "engines": {name: engine.state_dict() for name, engine in self.engines.items()},
        }

    def _check(self, state: Mapping[str, Any]) -> None:
        for name, engine in self.engines.items():
            engine.check(state["engines"][name])

    def _load(self, state: Mapping[str, Any]) -> None:
        self.iteration, self.ended = state["iteration"], state["ended"]
        self.best = None if state["best"] is None else Best(*state["best"])


def _check_methods(trial: Trial) -> None:
    for component in trial.regularisers:
        if methods.create(component.name, **component.options).alone:
            raise InputError(
                f"{component.name} changes a trunk by what one task does with it, so tasks cannot "
                "share a trunk with it. Train them one by one, or leave the method out."
            )


def _check_trunks(engines: list[Trainer]) -> None:
    shapes = {tuple(tuple(p.shape) for p in trunk_of(engine)) for engine in engines}
    if len(shapes) > 1:
        raise InputError(
            "The tasks' trunks differ in their parameters, so they cannot be shared: give all "
            "tasks of a fit the same model and methods."
        )


class Named(Progress):
    """Passes on notes and epochs, with the name of what they are about."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress, self._name = progress, name

    def epoch(self, epoch: Epoch) -> None:
        """Say what it is of."""
        self._progress.epoch(replace(epoch, task=self._name))

    def note(self, text: str) -> None:
        """Say what it is about."""
        self._progress.note(f"{self._name}: {text}")
