"""What the values of a method were chosen from, before its trials: for reports."""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from mimic_reg.settings.base import Settings
from mimic_reg.settings.size import TrainingSize
from mimic_reg.settings.space import Range, Values

FIXED = "the values of its file"


class Budget(Settings):
    """The search of a task, model, method and level.

    points:    tried; 1 where nothing was searched
    different: of them, points with different values
    complete:  of these, points with all their results
    seeds:     trials of each point, by seed
    folds:     by fold, for each seed, where all folds chose together; such searches are of earlier
               versions
    chosen:    fold → the values that it chose by itself, in words; empty without folds
    space:     component.option → its values, in words
    way:       how points are chosen
    """

    task: str
    model: str
    method: str
    supervision: float | None = None
    num_samples: int | None = None
    points: int
    different: int
    complete: int
    seeds: tuple[int, ...]
    folds: int | None = None
    chosen: dict[str, str] = Field(default_factory=dict)
    space: dict[str, str]
    way: str

    @property
    def size(self) -> TrainingSize:
        """Return the training size."""
        return TrainingSize(self.supervision, self.num_samples)


def in_words(values: Values) -> str:
    """Return the values of an option as a text."""
    if isinstance(values, Range):
        return f"{values.low:g} to {values.high:g}{' (log)' if values.log else ''}"
    return ", ".join(map(str, values))


def chosen_in_folds(budgets: Iterable[Budget]) -> bool:
    """Return whether each fold of a cross-validation chose values of its own."""
    return any(budget.chosen for budget in budgets)


def unequal(budgets: Iterable[Budget]) -> dict[str, str]:
    """Return task → a sentence on unequal budgets, for each task that has them."""
    found: dict[Any, dict[Any, list[str]]] = {}
    for b in budgets:
        spent = b.points, len(b.seeds), b.folds
        groups = found.setdefault((b.task, b.size), {})
        groups.setdefault(spent, []).append(f"{b.method} with {b.model}")
    sentences: dict[str, str] = {}
    for (task, _), groups in found.items():
        if len(groups) > 1:
            told = "; ".join(f"{_spent(*k)}: {', '.join(who)}" for k, who in groups.items())
            sentences[task] = (
                f"Tuned unequally, so a better score may come from a larger search: {told}."
            )
    return sentences


def _spent(points: int, seeds: int, folds: int | None) -> str:
    runs = seeds * (folds or 1)
    text = f"{points} point{'' if points == 1 else 's'}"
    return f"{text} of {runs} run{'' if runs == 1 else 's'}"
