"""Mean losses of a fit, added without waiting for the device; the error if they diverge."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mimic_reg.errors import MimicRegError
from mimic_reg.methods.base import Fit
from mimic_reg.settings import Training


@dataclass(frozen=True)
class EpochLosses:
    """Mean losses of an epoch: objective, data loss, and that of the best constant prediction."""

    objective: float
    data: float
    constant: float

    @property
    def explained(self) -> float:
        """Return `Fit.explained`; 0 if the constant prediction makes no error."""
        return 1 - self.data / self.constant if self.constant > 0 else 0.0


class Losses:
    """Mean losses since last taken, and of the epoch; only taking them waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, device=device)  # as in EpochLosses
        self._count = 0
        self._epoch_sums, self._epoch_count = [0.0] * 3, 0

    def add(self, objective: Tensor, data: Tensor, constant: Tensor) -> None:
        """Add a step."""
        self._sums += torch.stack([objective, data, constant])
        self._count += 1

    def mean(self) -> float:
        """Return the mean objective since losses were last taken."""
        return float(self._sums[0]) / max(1, self._count)

    def take(self) -> tuple[float, int]:
        """Take the mean objective since losses were last taken, and the number of steps."""
        mean, count = self.mean(), self._count
        means = [total / max(1, count) for total in self._sums.tolist()]
        self._epoch_sums = [a + m * count for a, m in zip(self._epoch_sums, means, strict=True)]
        self._epoch_count += count
        self._sums.zero_()
        self._count = 0
        return mean, count

    def take_epoch(self) -> EpochLosses | None:
        """Take the epoch's means; None if it had no step."""
        count = self._epoch_count
        means = [total / count for total in self._epoch_sums] if count else None
        self._epoch_sums, self._epoch_count = [0.0] * 3, 0
        return EpochLosses(*means) if means else None

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, for a checkpoint."""
        epoch = [*self._epoch_sums, self._epoch_count]
        return {"sums": self._sums, "count": self._count, "epoch": epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self._sums.copy_(state["sums"])
        self._count = state["count"]
        *self._epoch_sums, self._epoch_count = state["epoch"]


def diverged(what: str, fit: Fit, training: Training) -> MimicRegError:
    """Return the error for a fit whose losses or predictions are no longer finite."""
    return MimicRegError(
        f"{what} in the steps up to {fit.step} (epoch {fit.epoch + 1}): the model has diverged. "
        f"Lower the learning rate ({training.learning_rate}) or the strength of the method. The "
        "checkpoint before is kept; continuing from it would end in the same way."
    )
