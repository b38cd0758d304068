"""Current stays: patients in the unit now, whose outcome is not known yet."""

from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

# A stay without a time of discharge counts as over this long after its last measurement.
QUIET_HOURS = 24.0


@dataclass(frozen=True)
class Current:
    """The hours of current stays, as a store has them, up to now.

    hourly:   the stay's key, hour (0, 1, …), channels; sorted; before normalisation
    measured: the same rows; continuous channels with values only where they were measured, or the
              imputed ones where the cohort's normaliser was fitted to these
    observed: the same rows; for each variable whether it was measured in that hour
    stays:    a row for each stay in `hourly`: its key; first: hours until its first measurement;
              reached: hours that it has lasted so far; lasted: the same, if measurements went on
    excluded: reason → number of stays that are left out
    notes:    sentences on rows and columns that are left out
    now:      measurements after this time are left out; None where times count from admission
    """

    hourly: pl.DataFrame
    measured: pl.DataFrame
    observed: pl.DataFrame
    stays: pl.DataFrame
    excluded: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    now: datetime | None = None
