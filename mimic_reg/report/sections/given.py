"""What a report is made from, as all its sections see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.storage import Store


@dataclass(frozen=True)
class Given:
    """What the page is made from."""

    results: Results
    stores: Sequence[Store]
    simulated: bool | None
    configuration: str | Mapping[str, Any] | None
    commands: Sequence[str]
    analyses: Sequence[Analysis]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """The finished trials."""
        return self.results.trials


def count(number: int, noun: str) -> str:
    """A number of things, in the singular or plural."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
