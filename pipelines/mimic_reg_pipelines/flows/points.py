"""Points of a search: their values, and the validation scores of their trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimic_reg.metrics.scores import improves
from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.runs import HISTORY, read_history, read_scored
from mimic_reg_pipelines.flows.result import SweepResult, TrialStatus


@dataclass(frozen=True)
class Point:
    """A point of a search: its values, and the validation scores of its seeds.

    score:   the name of the score
    scores:  seed → score
    missing: seeds without a result; a point that lacks one cannot win
    hardly_trained: seeds whose score is about that of the initial model; a point with one wins only
             where all have
    """

    values: Mapping[str, Any]
    score: str
    scores: Mapping[int, float]
    missing: tuple[int, ...]
    hardly_trained: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else math.nan

    @property
    def mark(self) -> str:
        """Return what to say of a mean that includes seeds which hardly trained; else ""."""
        num, total = len(self.hardly_trained), len(self.scores)
        return f", {num} of {total} hardly trained" if num else ""


def format_values(values: Mapping[str, Any]) -> str:
    """Return a point of a search as a text."""
    return ", ".join(f"{key}={value}" for key, value in values.items())


def beats(point: Point, other: Point) -> bool:
    """Return whether a point is better; one that hardly trained is not."""
    if bool(point.hardly_trained) != bool(other.hardly_trained):
        return not point.hardly_trained
    return improves(point.score, point.mean, other.mean)


def point_of(result: SweepResult, trials: Sequence[TrialStatus]) -> Point:
    """Return a point from its trials, which differ in seed only."""
    scores: dict[int, float] = {}
    name, hardly = "", []
    for trial in trials:
        if trial.done:
            folder = result.run_folder(trial)
            scored = read_scored(folder)
            if hardly_trained(read_history(folder / HISTORY), scored["best_epoch"]):
                hardly.append(trial.seed)
            name = scored["selected_by"]
            scores[trial.seed] = scored["scores"]["validation"][name]["value"]
    missing = tuple(t.seed for t in trials if not t.done)
    return Point(dict(trials[0].searched), name, scores, missing, tuple(hardly))
