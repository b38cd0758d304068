"""Whether a fit trained at all: one rule for messages, tables, warnings and tracking.

The reference is the loss of the best constant prediction (the prevalence of each label). A model is
hardly trained if its training loss over the selected epoch was not below this reference by at least
the share `MIN_EXPLAINED`. The share means the same for models, methods and tasks of any size. A
hardly trained model knows only how common the labels are, and its other scores may be about those
of the initial weights.

The number of parameters that moved is not a criterion: a few hundred of 682,497 can explain a tenth
of the loss. It is used only for older histories, which do not have the losses, if the method has
recorded how many parameters it selected: less than the share `MIN_MOVED` is hardly trained.
"""

from collections.abc import Iterable, Mapping
from typing import Any

MIN_EXPLAINED = 0.01
MIN_MOVED = 0.001

# For older histories, which do not have the number of parameters: that of the clinical models.
_PARAMETERS = 1_000_000


def hardly_trained(history: Iterable[Mapping[str, Any]], best_epoch: int | None) -> str | None:
    """Return why the model of the selected epoch is hardly trained, as a clause; else None.

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
