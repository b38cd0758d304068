"""Paired tests of the methods of a table, and in a sentence who wins.

The tests are those of `compare`: paired by seed, two-sided, Holm-corrected over what a method is
compared with at one level; nothing is corrected across levels or tables.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mimic_reg.metrics.comparison import Comparison, compare, compare_best, winner
from mimic_reg.report.formats import (
    format_interval,
    format_p,
    format_score,
    format_score_with_unit,
    format_supervision,
    name_score,
)
from mimic_reg.report.tables import ScoreTable
from mimic_reg.settings import BASELINE, TrainingSize


@dataclass(frozen=True)
class Compared:
    """A method against a baseline at a level.

    better: whether `result.difference` is in the method's favour, whichever way the score goes
    """

    supervision: TrainingSize
    method: str
    baseline: str
    result: Comparison
    better: bool


@dataclass(frozen=True)
class Verdict:
    """What can be said of one level, in a sentence.

    best:   the method with the best mean; None where no score is defined
    winner: the same method, if the test tells it apart from every other one; else None
    """

    supervision: TrainingSize
    best: str | None
    winner: str | None
    sentence: str


def comparisons(table: ScoreTable) -> list[Compared]:
    """Every method against every baseline but itself, at every level; methods in focus first.

    Holm's correction is over the baselines of one method at one level; over all pairs of methods
    for a method that is in focus because its scores are the best. Without a method in focus all
    methods are baselines of each other.
    """
    ordered = [*table.focus, *(m for m in table.methods if m not in table.focus)]
    return [
        compared
        for level in table.levels
        for method in ordered
        for compared in _against_baselines(table, method, level)
    ]


def _against_baselines(table: ScoreTable, method: str, level: TrainingSize) -> list[Compared]:
    scores = table.by_seed(level)
    if method not in scores:
        return []
    baselines = {m: s for m, s in scores.items() if m not in table.focus and m != method}
    sign = -1 if table.lower_is_better else 1
    chosen = table.focus_is_best and method in table.focus
    num_tests = math.comb(len(scores), 2) if chosen else None
    return [
        Compared(level, method, baseline, result, sign * result.difference > 0)
        for baseline, result in compare(scores[method], baselines, num_tests).items()
    ]


def verdicts(table: ScoreTable) -> list[Verdict]:
    """Who wins at every level, whether the test says so, and which scores are of no model."""
    return [_marked(_verdict(table, level), table) for level in table.levels]


def _marked(verdict: Verdict, table: ScoreTable) -> Verdict:
    """The verdict, with the methods whose trials are hardly trained at its level."""
    cells = {m: table.cells.get((m, verdict.supervision)) for m in table.methods}
    marks = [f"{_quoted(m)} ({cell.mark})" for m, cell in cells.items() if cell and cell.mark]
    if not marks:
        return verdict
    return replace(verdict, sentence=f"{verdict.sentence} Mind: {', '.join(marks)}.")


def _verdict(table: ScoreTable, level: TrainingSize) -> Verdict:
    sign = -1 if table.lower_is_better else 1
    signed = {
        method: {seed: sign * value for seed, value in scores.items()}
        for method, scores in table.by_seed(level).items()
    }
    at = f"At {format_supervision(level)}"
    name = name_score(table.score)
    if not signed:
        return Verdict(level, None, None, f"{at}: {name} is undefined for every method.")
    best = table.best(level)
    assert best is not None, "a method has scores"
    mean = format_score_with_unit(table.cells[best, level].summary.mean, table.score)
    n = f"n = {len(signed[best])}"
    found = f"({mean}, {n})"
    if len(signed) == 1:
        alone = not any((m, level) in table.cells for m in table.methods if m != best)
        who = f"{_quoted(best)} alone has run:" if alone else f"only {best} has a defined"
        text = f"{at}: {who} {name} {found}, so there is nothing to compare."
        return Verdict(level, best, None, text)
    mean_of = name if name.startswith("mean ") else f"mean {name}"
    if winner(signed) == best:
        others = {m: s for m, s in signed.items() if m != best}
        against = compare(signed[best], others)
        text = (
            f"{at}: {_quoted(best)} wins. Its {mean_of} is {mean} ({n}), better than "
            f"{_sized(against, table, len(against))}."
        )
        return Verdict(level, best, best, text)
    text = (
        f"{at}: no clear winner. {_quoted(best)} has the best {mean_of} {found}, "
        f"{_against_others(compare_best(best, signed), table)}."
    )
    return Verdict(level, best, None, text)


_MOST_NAMED = 3  # methods that a sentence names; more are counted


def _against_others(against: Mapping[str, Comparison], table: ScoreTable) -> str:
    """What the tests of the best method say: whom it is better than, and by how much."""
    told = {m: c for m, c in against.items() if c.significant and c.difference > 0}
    untold = {m: c for m, c in against.items() if m not in told and c.p_holm is not None}
    untested: dict[str, list[str]] = {}
    for name, result in against.items():
        if result.p_holm is None:
            untested.setdefault(result.reason or "no reason was recorded", []).append(name)
    parts = []
    if told:
        parts.append(f"better than {_sized(told, table, len(against))}")
    if untold:
        parts.append(f"but not told apart from {_sized(untold, table, len(against))}")
    for reason, names in untested.items():
        who = _names(names) if len(names) <= _MOST_NAMED else f"{len(names)} of {len(against)}"
        parts.append(f"without a test against {who} ({reason})")
    return "; ".join(parts)


def _sized(found: Mapping[str, Comparison], table: ScoreTable, total: int) -> str:
    """Methods with what the best one is ahead by; where there are many, how many and the range."""
    if len(found) <= _MOST_NAMED:
        return ", ".join(f"{_quoted(m)} {_ahead(c, table)}" for m, c in found.items())
    by = [c.difference for c in found.values()]
    span = " to ".join(format_score(bound, table.score) for bound in (min(by), max(by)))
    p_values = [c.p_holm for c in found.values() if c.p_holm is not None]
    told = all(c.significant for c in found.values())
    p = f"largest corrected {format_p(max(p_values))}"
    if not told:
        p = f"smallest corrected {format_p(min(p_values))}"
    who = "every other method" if len(found) == total else f"{len(found)} of the {total} others"
    return f"{who} (by {span}; {p})"


def _ahead(result: Comparison, table: ScoreTable) -> str:
    """The difference in the best method's favour, its interval, and the corrected p."""
    texts = [f"by {format_score(result.difference, table.score)}"]
    if result.interval:
        texts.append(f"95 % interval {format_interval(result.interval, table.score)}")
    if result.p_holm is not None:
        texts.append(f"corrected {format_p(result.p_holm)}")
    return f"({', '.join(texts)})"


def _names(methods: Sequence[str]) -> str:
    return ", ".join(map(_quoted, methods))


def _quoted(method: str) -> str:
    """A method's name within a sentence, where "none" would be read as no method."""
    return f"“{method}”" if method == BASELINE else method
