"""The base class of strategies for several tasks, which work on engines with copies of a trunk.

Each task has its own engine: a copy of the trunk, a head, methods, an optimiser and a history. So
tasks can differ in labels, cohort, batch size and normaliser, and methods are independent of each
other. Between two iterations, all copies of the trunk are equal.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mimic_reg.engine.trainer import Trainer
from mimic_reg.methods.base import trainable
from mimic_reg.settings import Training


class Strategy(ABC):
    """How several tasks are trained together."""

    epoch_iterations: int  # iterations of an epoch, at whose end all tasks are validated

    @abstractmethod
    def epoch_steps(self, num_tasks: int) -> int:
        """Return the steps of a task in an epoch; the expected number if tasks are drawn.

        Raises:
            InputError: the options do not fit this number of tasks.
        """

    def check(self, training: Training) -> None:  # noqa: B027
        """Refuse settings of training with which the copies of the trunk would differ.

        Raises:
            InputError: see above.
        """

    def start(self, engines: Sequence[Trainer]) -> None:  # noqa: B027
        """Prepare the engines, before the first iteration and after states were loaded."""

    @abstractmethod
    def iterate(self, engines: Sequence[Trainer], seed: int, number: int) -> None:
        """Run iteration `number` of the fit, counted from 0; `seed` is for random draws."""


def trunk_of(engine: Trainer) -> list[Tensor]:
    """Return the trainable parameters of the trunk, also those that methods added."""
    return trainable(engine.model.trunk)


@torch.no_grad()
def copy_trunk(values: Sequence[Tensor], engine: Trainer) -> None:
    """Set the trunk of an engine."""
    for parameter, value in zip(trunk_of(engine), values, strict=True):
        parameter.copy_(value)
