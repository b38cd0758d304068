"""Which epoch of a fit is the best on validation."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Best:
    """The epoch whose validation score is the best so far; the first one wins ties.

    learned: whether the model was better than a constant prediction (`Fit.learned`); where it was
             not, the score is about that of the initial weights, and any later model wins that was
    """

    epoch: int
    score: float
    learned: bool = True

    def beats(self, other: "Best | None") -> bool:
        """Return whether this epoch is to be kept instead of `other`."""
        return other is None or (self.learned, self.score) > (other.learned, other.score)

    def state(self) -> list[Any]:
        """Return what a checkpoint holds of it: `Best(*state)` gives it back."""
        return [self.epoch, self.score, self.learned]
