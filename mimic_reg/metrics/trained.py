"""Whether a fit trained at all: one rule for messages, tables, verdicts and tracking.

A model is hardly trained if, over the epoch that was selected, its training loss was not below that
of the best constant prediction (the prevalence of each label) by `MIN_EXPLAINED` of that loss. The
share means the same for models, methods and tasks of every size. It knows no more than how common
the labels are then, and its other scores may be about those of the initial weights.

How many parameters moved decides nothing: a few hundred of 682,497 can be a model that explains a
tenth of the loss. Only an older history, which does not have the losses, is judged by that, where a
method says how many it selected: less than `MIN_MOVED` of all is hardly trained.
"""

from collections.abc import Iterable, Mapping
from typing import Any

MIN_EXPLAINED = 0.01
MIN_MOVED = 0.001

# Older histories do not say how many parameters the model has; the clinical ones have so many.
_PARAMETERS = 1_000_000


def hardly_trained(history: Iterable[Mapping[str, Any]], best_epoch: int | None) -> str | None:
    """Return why the model of the selected epoch is hardly trained, as a clause; None if it is not.

    history: the rows of a run's history
    """
    for row in history:
        if row["event"] == "epoch" and row["epoch"] == best_epoch:
            return _why(row)
    return None


def _why(row: Mapping[str, Any]) -> str | None:
    explained, moved = row.get("explained"), row["recorded"].get("selected_ever")
    few = moved is not None and moved < MIN_MOVED * row.get("parameters", _PARAMETERS)
    reasons = []
    if explained is not None and explained < MIN_EXPLAINED:
        below = f"only {explained:.1%} below" if explained >= 0 else "above"
        reasons.append(f"its training loss was {below} that of a constant prediction")
    if few and (reasons or explained is None):
        reasons.append(f"only {int(moved):,} of its parameters had ever been selected")
    return " and ".join(reasons) or None
