"""Joint multi-task training: one step on the sum of the tasks' losses, one batch for each task.

The sum is over the weighted objectives of the tasks: data loss and penalties as for each task
alone. So a penalty keeps its weight relative to the data loss.

Each task computes gradients on its own copy of the trunk. The gradients of the trunk are then
added, and every engine takes its step with the sum. All optimisers and methods treat each parameter
separately, so the copies stay equal bit for bit, and the result is that of one optimiser for the
trunk and all heads (tests/multitask/test_joint.py). A method that evaluates the objective twice in
a step, such as SAM, would need the sum twice and is refused.
"""

import time
from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor

from mimic_reg.engine.trainer import Trainer
from mimic_reg.errors import InputError
from mimic_reg.methods.base import trainable
from mimic_reg.multitask.base import Strategy, trunk_of
from mimic_reg.settings import Training

IN_WORDS = "one trunk, every step on the sum of the tasks' losses"


@final
class Joint(Strategy):
    """See the module.

    weights: of the tasks' losses, in the order of the tasks; all 1 by default
    """

    def __init__(
        self, epoch_iterations: int = 1000, weights: Sequence[float] | None = None
    ) -> None:
        if epoch_iterations < 1:
            raise InputError(f"joint: epoch_iterations must be at least 1, got {epoch_iterations}.")
        if weights is not None and not all(weight > 0 for weight in weights):
            raise InputError(f"joint: weights must be positive numbers, got {list(weights)}.")
        self.epoch_iterations, self.weights = epoch_iterations, weights

    def epoch_steps(self, num_tasks: int) -> int:
        """Return the iterations of an epoch: each task takes part in every step."""
        if self.weights is not None and len(self.weights) != num_tasks:
            raise InputError(
                f"joint: weights needs a number for each of {num_tasks} tasks, in their order, "
                f"got {list(self.weights)}."
            )
        return self.epoch_iterations

    def check(self, training: Training) -> None:
        """Refuse what depends on a task's head or score: it would act on the trunk's copies."""
        for name, given in (
            ("clip_norm", training.clip_norm),
            ("schedule", training.schedule if training.schedule == "plateau" else None),
        ):
            if given is not None:
                raise InputError(
                    f"joint: training.{name} ({given}) would differ from task to task, but all "
                    "tasks take the same step. Leave it out, or use the strategy reptile."
                )

    def iterate(self, engines: Sequence[Trainer], seed: int, number: int) -> None:
        """Take one step."""
        last = (number + 1) % self.epoch_iterations == 0
        losses = []
        for engine in engines:
            started = time.perf_counter()
            losses.append(engine.objective()())
            engine.stepped(time.perf_counter() - started, measuring=False)
        self._add_up(engines)
        for engine, loss in zip(engines, losses, strict=True):
            started = time.perf_counter()
            measuring = engine.measuring(last=last)
            engine.update(_made(loss), measuring=measuring)
            engine.stepped(time.perf_counter() - started, measuring=measuring)

    @torch.no_grad()
    def _add_up(self, engines: Sequence[Trainer]) -> None:
        """Weight all gradients, then set those of every copy of the trunk to the sum."""
        for engine, weight in zip(engines, self.weights or (), strict=False):
            for parameter in trainable(engine.model):
                if parameter.grad is not None:
                    parameter.grad.mul_(weight)
        for copies in zip(*map(trunk_of, engines), strict=True):
            if gradients := [p.grad for p in copies if p.grad is not None]:
                total = torch.stack(gradients).sum(0)
                for parameter in copies:
                    parameter.grad = total.clone()


def _made(loss: Tensor) -> Callable[[], Tensor]:
    """Return a closure for one call, whose gradients are already computed."""
    made = iter([loss])

    def closure() -> Tensor:
        for given in made:
            return given
        raise InputError(
            "joint: a method evaluates the objective twice in a step, but the gradients of the "
            "tasks are added up only once. Use the strategy reptile, or leave the method out."
        )

    return closure


build = Joint
