"""What a report is made from, as all its sections see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.report.tables import ScoreTable
from mimic_reg.store import Store


@dataclass(frozen=True)
class Given:
    """What the page is made from.

    tables:  of the scores that select checkpoints
    figures: without those that an analysis replaces
    """

    results: Results
    stores: Sequence[Store]
    simulated: bool | None
    configuration: str | Mapping[str, Any] | None
    commands: Sequence[str]
    analyses: Sequence[Analysis]
    tables: Sequence[ScoreTable]
    figures: Sequence[Drawn]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """The finished trials."""
        return self.results.trials

    def drawn_of(self, table: ScoreTable) -> list[Drawn]:
        """The figures of a table's scores by training size, if it is a main one."""
        return [d for d in self.drawn("supervision") if table in self.tables and d.table == table]

    def drawn(self, section: str) -> list[Drawn]:
        """The figures of one section of `Drawn`."""
        return [d for d in self.figures if d.section == section]
