"""The answer of a report in a few sentences: what the methods do, and what more data does.

Each method is compared with no regularisation, paired by seed. With several training sizes, the
difference of a seed is its mean over the sizes, so there is one number per seed and one test per
method. Holm's correction is over the methods. The tables have the results for each size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from mimic_reg.metrics.comparison import LEVEL, MIN_PAIRS, Comparison, corrected, paired
from mimic_reg.metrics.folds import Repeat, in_order
from mimic_reg.report import formats
from mimic_reg.report.tables import ScoreTable
from mimic_reg.report.verdicts import verdicts
from mimic_reg.settings import BASELINE

NO_METHOD = "no regularisation"


@dataclass(frozen=True)
class Headline:
    """A question and the sentences of its answer, the most important first."""

    question: str
    sentences: tuple[str, ...]


def headline(table: ScoreTable, best_possible: float | None = None) -> Headline | None:
    """Return the question that a table answers, and its answer; None for a single method.

    best_possible: the score of the true risk on the test samples of simulated patients
    """
    if len(table.methods) < 2:
        return None
    sentences = [*_methods(table), *_more_data(table)]
    if best_possible is not None:
        score = formats.format_score(best_possible, table.score)
        sentences.append(f"The true risk scores {score}: no model can be better on average.")
    return Headline(_question(table), tuple(sentences))


def _question(table: ScoreTable) -> str:
    if BASELINE not in table.methods:
        return "Which method is best?"
    others = [m for m in table.methods if m != BASELINE]
    who = others[0] if len(others) == 1 else "a regulariser"
    return f"Does {who} help{', and with how much data' * (len(table.levels) > 1)}?"


def _methods(table: ScoreTable) -> list[str]:
    """Return which methods are better or worse than none, and which are not clearly either."""
    if BASELINE not in table.methods:
        return [verdicts(table)[-1].sentence]
    found = {m: c for m, c in _effects(table).items() if c.p_holm is not None}
    if not found:
        what = "folds" if table.folds else "seeds"
        return [f"Too few runs for an answer: a test needs {MIN_PAIRS} {what} of each method."]
    better = [m for m, c in found.items() if c.significant and table.sign * c.difference > 0]
    worse = [m for m, c in found.items() if c.significant and table.sign * c.difference < 0]
    unclear = [m for m, c in found.items() if not c.significant]
    sizes = len(table.levels)
    over = f" (mean over {sizes} training sizes)" if sizes > 1 else ""
    sentences = [
        f"{word} than {NO_METHOD}{over}: {_list(methods, found, table)}."
        for word, methods in (("Better", better), ("Worse", worse))
        if methods
    ]
    if not sentences:
        sentences.append(f"No method is significantly better or worse than {NO_METHOD}{over}.")
    if unclear:
        sentences.append(f"No clear difference: {_list(unclear, found, table)}.")
    return sentences


def _list(methods: Sequence[str], found: Mapping[str, Comparison], table: ScoreTable) -> str:
    return "; ".join(
        f"{m}, {_sized(found[m], table, formats.format_score_name(table.score))}" for m in methods
    )


def _effects(table: ScoreTable) -> dict[str, Comparison]:
    """Return method → its comparison with none over the sizes that both have."""
    found = {}
    for method in table.methods:
        if method != BASELINE:
            pairs = [
                (scores[method], scores[BASELINE])
                for scores in map(table.by_seed, table.levels)
                if {method, BASELINE} <= scores.keys()
            ]
            found[method] = paired(_mean([p for p, _ in pairs]), _mean([q for _, q in pairs]))
    return corrected(found)


def _mean(scores: list[Mapping[Repeat, float]]) -> dict[Repeat, float]:
    """Return seed → mean over sizes, for the seeds that have all of them."""
    seeds: set[Repeat] = set.intersection(*map(set, scores)) if scores else set()
    return {seed: fmean(of_size[seed] for of_size in scores) for seed in in_order(seeds)}


def _sized(result: Comparison, table: ScoreTable, name: str = "") -> str:
    """Return a difference with its interval and, if given, the name of the score."""
    text = f"{formats.format_difference(result.difference, table.score)} {name}".rstrip()
    if result.interval is None:
        return text
    return f"{text} (95 % interval {formats.format_interval(result.interval, table.score)})"


def _more_data(table: ScoreTable) -> list[str]:
    """Return the effect of the largest training size over the smallest, without a method."""
    if len(table.levels) < 2:
        return []
    method = BASELINE if BASELINE in table.methods else table.methods[0]
    low, high = table.levels[0], table.levels[-1]
    scores = [table.by_seed(level).get(method, {}) for level in (high, low)]
    result = paired(*scores)
    if result.p is None or result.interval is None:
        return []
    who = NO_METHOD if method == BASELINE else method
    text = (
        f"More data: from {formats.format_level(low)} to {formats.format_level(high)}, the "
        f"{formats.format_score_name(table.score)} of {who} changes by {_sized(result, table)}"
    )
    return [f"{text}{'' if result.p < LEVEL else ', which may be chance'}."]
