"""The training size of a trial: a share of the training samples, or their number."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSize:
    """One of both, the other is None. Shares come before numbers.

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
        """Whether it is a share."""
        return self.num_samples is None

    @property
    def value(self) -> float:
        """The share in percent, or the number: for axes."""
        return 100 * (self.supervision or 0.0) if self.is_share else float(self.num_samples or 0)

    @property
    def name(self) -> str:
        """What files and folders are called after: 25, or n200."""
        return f"{self.value:g}" if self.is_share else f"n{self.num_samples}"

    def tags(self) -> dict[str, str]:
        """Return the one that it is, as text by its name."""
        if self.is_share:
            return {"supervision": f"{self.supervision:g}"}
        return {"num_samples": str(self.num_samples)}


WHOLE = TrainingSize(supervision=1.0)


def training_size(supervision: float, num_samples: int | None = None) -> TrainingSize:
    """Return the size that the settings of a trial say; a number goes before a share."""
    if num_samples is None:
        return TrainingSize(supervision=float(supervision))
    return TrainingSize(num_samples=num_samples)
