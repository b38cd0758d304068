"""Reptile: a trunk from which every task can be learned in a few steps, with any methods.

Nichol, Achiam, Schulman, arXiv 1803.02999; with a method that selects parameters Algorithm 2 of
Thakur et al., IEEE TNNLS 35(5):6478 (2024). One iteration::

    for each task t:  trunk_t <- trunk;  inner_steps optimiser steps on batches of task t
    trunk <- trunk + gamma * mean over tasks of (trunk_t - trunk)

In Algorithm 2, the selection has one accounting variable for the trunk, which the tasks update in
turn, and one for each head.

Algorithm 2 as printed differs from its text. Our decisions: batches are those of the task (line 9
samples from all data); inner steps build on each other (after line 18 only the last would count);
lines 19 and 20 are after the loop over tasks. Heads keep the result of the inner steps
(`head_gamma` 1; the paper does not say). Every task takes the same number of inner steps, because a
pass has 74,638 steps for one task and 459 for another. The inner optimiser is Adam with beta1 = 0,
as in OpenAI's code, and each task keeps its moments, so a parameter that is no longer selected does
not move. The trunk after the last iteration of an epoch is validated with each head.

OpenAI averages, then interpolates, which is the mean of the differences. Each task has its own
buffers, such as the statistics of batch norms.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.methods.base import require, trainable
from mimic_reg.multitask.base import Strategy, copy_trunk, trunk_of
from mimic_reg.seeds import generator

BETA2 = 0.999
IN_WORDS = "one trunk, moved towards what a few steps of each task make of it"


def meta_update(start: Tensor, ends: Sequence[Tensor], gamma: float) -> Tensor:
    """Return start + gamma * mean(ends - start).

    Exactly: a value that no task moved does not change, and one task with gamma 1 gives its end.
    """
    first, *others = ends
    mean = first
    if others:
        mean = first + torch.stack([end - first for end in others]).sum(0) / len(ends)
    return torch.lerp(start, mean, gamma)


@final
class Reptile(Strategy):
    """See the module.

    gamma, head_gamma: how far trunk and heads move towards the result of the inner steps
    beta1:             of the inner Adam
    num_tasks:         number of tasks drawn in every iteration, with equal probability; null: all
    """

    def __init__(
        self,
        epoch_iterations: int = 100,
        inner_steps: int = 10,
        gamma: float = 0.15,
        head_gamma: float = 1.0,
        beta1: float = 0.0,
        num_tasks: int | None = None,
    ) -> None:
        for name, value in (
            ("epoch_iterations", epoch_iterations),
            ("inner_steps", inner_steps),
            ("num_tasks", 1 if num_tasks is None else num_tasks),
        ):
            require(value >= 1, "reptile", f"{name} must be at least 1", value)
        for name, rate in (("gamma", gamma), ("head_gamma", head_gamma)):
            require(0 < rate <= 1, "reptile", f"{name} must be above 0 and at most 1", rate)
        require(0 <= beta1 < 1, "reptile", "beta1 must be at least 0 and below 1", beta1)
        self.epoch_iterations, self.inner_steps = epoch_iterations, inner_steps
        self.gamma, self.head_gamma, self.beta1 = gamma, head_gamma, beta1
        self.num_tasks = num_tasks

    def epoch_steps(self, num_tasks: int) -> int:
        """Return the inner steps of an epoch times the share of iterations that a task is in."""
        if self.num_tasks is not None and self.num_tasks > num_tasks:
            raise InputError(
                f"reptile: num_tasks is {self.num_tasks}, but there are only {num_tasks} tasks."
            )
        steps = self.epoch_iterations * self.inner_steps * (self.num_tasks or num_tasks)
        return -(-steps // num_tasks)

    def start(self, engines: Sequence[Trainer]) -> None:
        """Set beta1, and let the methods share their state of the trunk."""
        for engine in engines:
            for group in engine.optimizer.param_groups:
                if "betas" in group:
                    group["betas"] = (self.beta1, BETA2)
        for engine in engines[1:]:
            engine.method.share(engines[0].method)

    def iterate(self, engines: Sequence[Trainer], seed: int, number: int) -> None:
        """Take the inner steps of each drawn task, then the meta-update."""
        epoch, position = divmod(number, self.epoch_iterations)
        drawn = self.draw(len(engines), seed, epoch)
        start = [parameter.detach().clone() for parameter in trunk_of(engines[0])]
        ends = []
        for index in drawn[position]:
            engine = engines[index]
            ahead = any(index in later for later in drawn[position + 1 :])
            self._learn(engine, last_time=not ahead)
            ends.append([parameter.detach().clone() for parameter in trunk_of(engine)])
        trunk = [
            meta_update(value, of_tasks, self.gamma)
            for value, *of_tasks in zip(start, *ends, strict=True)
        ]
        for engine in engines:
            copy_trunk(trunk, engine)

    def draw(self, num_tasks: int, seed: int, epoch: int) -> list[list[int]]:
        """Return the tasks of every iteration of an epoch; without `num_tasks` all, in order."""
        if self.num_tasks is None:
            return [list(range(num_tasks))] * self.epoch_iterations
        stream = generator("tasks", seed, epoch)
        return [
            sorted(torch.randperm(num_tasks, generator=stream)[: self.num_tasks].tolist())
            for _ in range(self.epoch_iterations)
        ]

    def _learn(self, engine: Trainer, *, last_time: bool) -> None:
        """Take the inner steps of a task; `last_time`: it is not drawn again in this epoch."""
        head = trainable(engine.model.head)
        before = [parameter.detach().clone() for parameter in head]
        for step in range(self.inner_steps):
            engine.step(last=last_time and step + 1 == self.inner_steps)
        with torch.no_grad():
            for parameter, value in zip(head, before, strict=True):
                parameter.copy_(meta_update(value, [parameter], self.head_gamma))


build = Reptile
