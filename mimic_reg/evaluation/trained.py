"""Whether a fit trained at all: one rule for messages, tables, verdicts and tracking.

A model is hardly trained if, at the epoch that was selected,

- its training loss was not below that of the best constant prediction (the prevalence of each
  label) by `MIN_EXPLAINED` of that loss; or
- less than `MIN_MOVED` of its parameters had ever been changed.

Both are shares, so they mean the same for models and tasks of every size. What is scored is about
the initial model then, whatever the method and the score.
"""

from collections.abc import Iterable, Mapping
from typing import Any

MIN_EXPLAINED = 0.01
MIN_MOVED = 0.001

# An older history does not say how many parameters the model has: the clinical ones have about so
# many, those for images more.
_PARAMETERS = 1_000_000


def hardly_trained(history: Iterable[Mapping[str, Any]], best_epoch: int | None) -> str | None:
    """Return why the model of the selected epoch is hardly trained, as a clause; None if it is not.

    history: the rows of a run's history. Of older runs it does not have the training loss of the
             constant prediction, so only parameters are counted, where a method says how many moved
    """
    for row in history:
        if row["event"] == "epoch" and row["epoch"] == best_epoch:
            return _why(row)
    return None


def _why(row: Mapping[str, Any]) -> str | None:
    reasons = []
    explained = row.get("explained")
    if explained is not None and explained < MIN_EXPLAINED:
        below = f"only {explained:.1%} below" if explained >= 0 else "above"
        reasons.append(f"its training loss was {below} that of a constant prediction")
    moved = row["recorded"].get("selected_ever")
    if moved is not None and moved < MIN_MOVED * row.get("parameters", _PARAMETERS):
        reasons.append(f"only {int(moved):,} of its parameters had ever been selected")
    return " and ".join(reasons) or None
