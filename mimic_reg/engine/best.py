"""The best epoch of a fit on validation."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The epoch with the best validation score so far; the first one wins ties.

    learned: whether the model was better than a constant prediction (`Fit.learned`). If not, its
             score is about that of the initial weights, and any later model that learned is better
    """

    epoch: int
    score: float
    learned: bool = True

    def beats(self, other: "Best | None") -> bool:
        """Return whether this epoch is better than `other`."""
        return other is None or (self.learned, self.score) > (other.learned, other.score)

    def state(self) -> list[Any]:
        """Return its content for a checkpoint, from which `Best(*state)` makes it again."""
        return [self.epoch, self.score, self.learned]
