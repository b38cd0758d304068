"""The training size of a trial: a share of the training samples, or a number of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSize:
    """A share or a number; the other is None. Shares are sorted before numbers.

    supervision: share of the training samples, above 0, at most 1
    num_samples: their number
    """

    supervision: float | None = None
    num_samples: int | None = None

    def __lt__(self, other: "TrainingSize") -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, float]:
        return self.num_samples or 0, self.supervision or 0.0

    @property
    def is_share(self) -> bool:
        """Return whether it is a share."""
        return self.num_samples is None

    @property
    def value(self) -> float:
        """Return the share in percent, or the number; for axes."""
        return 100 * (self.supervision or 0.0) if self.is_share else float(self.num_samples or 0)

    @property
    def name(self) -> str:
        """Return the name in files and folders: 25, or n200."""
        return f"{self.value:g}" if self.is_share else f"n{self.num_samples}"

    def tags(self) -> dict[str, str]:
        """Return the one that is set, as text, by its name."""
        if self.is_share:
            return {"supervision": f"{self.supervision:g}"}
        return {"num_samples": str(self.num_samples)}


WHOLE = TrainingSize(supervision=1.0)


def training_size(supervision: float, num_samples: int | None = None) -> TrainingSize:
    """Return the size in the settings of a trial; a number takes precedence over a share."""
    if num_samples is None:
        return TrainingSize(supervision=float(supervision))
    return TrainingSize(num_samples=num_samples)
