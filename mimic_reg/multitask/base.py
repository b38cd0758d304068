"""What a strategy for several tasks is, and what it works on: engines whose trunks are copies.

Each task has an engine of its own: a copy of the trunk, a head, methods, an optimiser, a history.
So tasks may differ in labels, cohort, batch size and normaliser, and methods need not know of each
other. Between two iterations all copies of the trunk are equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mimic_reg.engine.trainer import Trainer
from mimic_reg.methods.base import trainable


class Strategy(ABC):
    """How several tasks are trained together."""

    epoch_iterations: int  # of an epoch, at whose end all tasks are validated

    @abstractmethod
    def epoch_steps(self, num_tasks: int) -> int:
        """Steps of a task in an epoch; where tasks are drawn, the number to be expected.

        Raises:
            InputError: the options do not fit so many tasks.
        """

    def start(self, engines: Sequence[Trainer]) -> None:  # noqa: B027
        """Prepare the engines: called before the first iteration, and after states were loaded."""

    @abstractmethod
    def iterate(self, engines: Sequence[Trainer], seed: int, number: int) -> None:
        """Iteration `number` of the fit, counted from 0; the fit's `seed` is for what it draws."""


def trunk_of(engine: Trainer) -> list[Tensor]:
    """The trunk's parameters that are trained, also those that methods added."""
    return trainable(engine.model.trunk)


@torch.no_grad()
def copy_trunk(values: Sequence[Tensor], engine: Trainer) -> None:
    """Set the trunk of an engine."""
    for parameter, value in zip(trunk_of(engine), values, strict=True):
        parameter.copy_(value)
