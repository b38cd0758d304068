"""What a report is made from, for all sections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_reg.checks.base import Outcome
from mimic_reg.report.cohort.published import samples_by_split, scored_samples
from mimic_reg.report.evidence import Weighed
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.report.tables import SPLIT, ScoreTable
from mimic_reg.store import Store


@dataclass(frozen=True)
class Given:
    """What a page is made from.

    tables:  of the scores that select checkpoints
    figures: without those that an analysis replaces
    weighed: the comparisons of the tables, with what they show
    leakage: the outcomes of leakage checks; none if they were not made
    """

    results: Results
    stores: Sequence[Store]
    simulated: bool | None
    configuration: str | Mapping[str, Any] | None
    commands: Sequence[str]
    analyses: Sequence[Analysis]
    tables: Sequence[ScoreTable]
    figures: Sequence[Drawn]
    weighed: Sequence[Weighed]
    leakage: Sequence[Outcome] = ()

    def num_samples(self, trial: TrialResult) -> str:
        """Return how many test samples a trial was scored on, as it may be shown."""
        stores = (s for s in self.stores if s.manifest["fingerprint"] == trial.fingerprint)
        return scored_samples(trial, samples_by_split(trial, next(stores, None)))[SPLIT]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """Return the finished trials."""
        return self.results.trials

    def drawn_of(self, table: ScoreTable) -> list[Drawn]:
        """Return the figures of a main table's scores by training size."""
        return [d for d in self.drawn("supervision") if table in self.tables and d.table == table]

    def drawn(self, section: str) -> list[Drawn]:
        """Return the figures with this `section`."""
        return [d for d in self.figures if d.section == section]
