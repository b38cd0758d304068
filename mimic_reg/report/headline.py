"""The answer of a report in a few plain sentences: what the methods do, and what more data do.

Each method is compared with no regularisation at each training size, paired by seed. The p values
are Holm-corrected over all comparisons of one headline, so that "better" and "worse" are wrong in
at most 5 % of headlines where all methods are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mimic_reg.metrics.comparison import LEVEL, MIN_PAIRS, Comparison, holm, paired
from mimic_reg.report.formats import (
    format_difference,
    format_interval,
    format_level,
    format_score,
    name_score,
)
from mimic_reg.report.tables import ScoreTable
from mimic_reg.report.verdicts import verdicts
from mimic_reg.settings import BASELINE, TrainingSize

NO_METHOD = "no regularisation"


@dataclass(frozen=True)
class Headline:
    """A question and its answer.

    sentences: the answer, the most important first
    """

    question: str
    sentences: tuple[str, ...]


def headline(table: ScoreTable, best_possible: float | None = None) -> Headline | None:
    """Return what a table answers; None where it compares nothing.

    best_possible: the score of the true risk on the test samples, where the patients are simulated
    """
    if len(table.methods) < 2:
        return None
    sentences = [*_methods(table), *_hardly_trained(table), *_more_data(table)]
    if best_possible is not None:
        score = format_score(best_possible, table.score)
        sentences.append(f"The true risk itself scores {score}: no model can do better on average.")
    return Headline(_question(table), tuple(sentences))


def _question(table: ScoreTable) -> str:
    if BASELINE not in table.methods:
        return "Which method is best?"
    others = [m for m in table.methods if m != BASELINE]
    who = others[0] if len(others) == 1 else "a regulariser"
    return f"Does {who} help, and at how much data?"


@dataclass(frozen=True)
class _Effect:
    """A method against none at a training size; good: its difference with larger as better."""

    method: str
    level: TrainingSize
    result: Comparison
    good: float


def _effects(table: ScoreTable) -> list[_Effect]:
    sign = -1 if table.lower_is_better else 1
    found = []
    for method in table.methods:
        for level in table.levels:
            scores = table.by_seed(level)
            if method != BASELINE and {method, BASELINE} <= scores.keys():
                result = paired(scores[method], scores[BASELINE])
                found.append(_Effect(method, level, result, sign * result.difference))
    corrected = iter(holm([e.result.p for e in found if e.result.p is not None]))
    return [
        e if e.result.p is None else replace(e, result=replace(e.result, p_holm=next(corrected)))
        for e in found
    ]


def _methods(table: ScoreTable) -> list[str]:
    """Return which methods are better or worse than none, and where that is not clear."""
    if BASELINE not in table.methods:
        return [verdicts(table)[-1].sentence]
    tested = [e for e in _effects(table) if e.result.p_holm is not None]
    if not tested:
        return [f"These runs cannot tell: a test needs {MIN_PAIRS} seeds of each method."]
    better = [e for e in tested if e.result.significant and e.good > 0]
    worse = [e for e in tested if e.result.significant and e.good < 0]
    unclear = [e for e in tested if not e.result.significant]
    first = (
        f"Better than {NO_METHOD}: {_list(better, table)}."
        if better
        else f"No method is better than {NO_METHOD} beyond chance."
    )
    rest = {"Worse": worse, "Not clear": unclear}
    return [first, *(f"{word}: {_list(found, table)}." for word, found in rest.items() if found)]


def _list(effects: Sequence[_Effect], table: ScoreTable) -> str:
    """Name methods, each with its differences and their 95 % intervals by training size."""
    return "; ".join(
        f"{method} {_and([_sized(e, table) for e in effects if e.method == method])}"
        for method in dict.fromkeys(e.method for e in effects)
    )


def _sized(effect: _Effect, table: ScoreTable) -> str:
    interval = effect.result.interval
    texts = [format_difference(effect.result.difference, table.score)]
    texts += [f"95 % interval {format_interval(interval, table.score)}"] if interval else []
    at = f"at {format_level(effect.level)} " if len(table.levels) > 1 else ""
    return f"{at}({', '.join(texts)})"


def _hardly_trained(table: ScoreTable) -> list[str]:
    """Return a warning of methods whose runs hardly trained."""
    marks = [
        f"{method} at {format_level(level)} ({cell.mark})"
        for (method, level), cell in table.cells.items()
        if cell.mark
    ]
    return [f"Mind: {_and(marks)}."] if marks else []


def _more_data(table: ScoreTable) -> list[str]:
    """Return what the largest training size brings over the smallest, without a method."""
    if len(table.levels) < 2:
        return []
    method = BASELINE if BASELINE in table.methods else table.methods[0]
    low, high = table.levels[0], table.levels[-1]
    scores = [table.by_seed(level).get(method, {}) for level in (high, low)]
    result = paired(*scores)
    if result.p is None or result.interval is None:
        return []
    who = NO_METHOD if method == BASELINE else method
    difference = format_difference(result.difference, table.score)
    interval = format_interval(result.interval, table.score)
    text = (
        f"More data: from {format_level(low)} to {format_level(high)}, the "
        f"{name_score(table.score)} of {who} changes by {difference} (95 % interval {interval})"
    )
    return [f"{text}{'' if result.p < LEVEL else ', which may be chance'}."]


def _and(texts: Sequence[str]) -> str:
    if len(texts) < 2:
        return "".join(texts)
    return f"{', '.join(texts[:-1])} and {texts[-1]}"
