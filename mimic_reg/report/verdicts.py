"""Paired tests of the methods of a table, and one sentence for each level on the best method.

The tests are those of `metrics.comparison`: paired by seed, two-sided, with Holm's correction over
the comparisons of one method at one level. There is no correction across levels or tables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mimic_reg.metrics.comparison import Comparison, compare, compare_best, winner
from mimic_reg.report import formats
from mimic_reg.report.tables import ScoreTable
from mimic_reg.settings import BASELINE, TrainingSize

COMPARISON_COLUMNS = ("verdict", "difference", "95 % over seeds", "n", "effect d", "p (Holm)")
_SEEDS, _FOLDS = "95 % over seeds", "95 % over folds"
_MOST_NAMED = 3  # a sentence names up to so many methods and counts more


@dataclass(frozen=True)
class Compared:
    """A method compared with a baseline at a level.

    better: whether `result.difference` favours the method; for errors, a negative one does
    """

    supervision: TrainingSize
    method: str
    baseline: str
    result: Comparison
    better: bool


@dataclass(frozen=True)
class Verdict:
    """The result at one level.

    best:     the method with the best mean; None if no score is defined
    winner:   the same method, if it is significantly better than every other; else None
    sentence: both in words
    """

    supervision: TrainingSize
    best: str | None
    winner: str | None
    sentence: str


def comparison_columns(table: ScoreTable) -> tuple[str, ...]:
    """Return `COMPARISON_COLUMNS` for a table, which may be of a cross-validation."""
    return tuple(_FOLDS if c == _SEEDS and table.folds else c for c in COMPARISON_COLUMNS)


def comparisons(table: ScoreTable) -> list[Compared]:
    """Return comparisons of every method with every baseline at every level, focus first.

    Baselines are the methods that are not in focus. Holm's correction is over the baselines of one
    method at one level. If a method is in focus because it has the best scores, the correction is
    over all pairs of methods.
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
    among = num_tests(table, method, level)
    return [
        Compared(level, method, baseline, result, table.sign * result.difference > 0)
        for baseline, result in compare(scores[method], baselines, among).items()
    ]


def num_tests(table: ScoreTable, method: str, level: TrainingSize) -> int | None:
    """Return from how many tests a method's are chosen: all pairs, of one chosen by its scores.

    None: it was not chosen by its scores.
    """
    chosen = table.focus_is_best and method in table.focus
    return math.comb(len(table.by_seed(level)), 2) if chosen else None


def format_comparison(compared: Compared, score: str) -> list[str]:
    """Return a comparison as the texts of `COMPARISON_COLUMNS`, with "-" for a missing number."""
    result = compared.result
    if result.p_holm is None:
        verdict = f"no test: {result.reason}"
    elif result.significant:
        verdict = "better" if compared.better else "worse"
    else:
        verdict = "no clear difference"
    return [
        verdict,
        formats.format_difference(result.difference, score) if result.n else "-",
        formats.format_interval(result.interval, score) if result.interval else "-",
        str(result.n),
        "-" if result.effect is None else f"{result.effect:+.2f}",
        formats.format_p(result.p_holm, sign=False),
    ]


def verdicts(table: ScoreTable) -> list[Verdict]:
    """Return for each level the best method and whether it is significantly better than others."""
    return [_verdict(table, level) for level in table.levels]


def _verdict(table: ScoreTable, level: TrainingSize) -> Verdict:
    at, name = f"At {formats.format_supervision(level)}", formats.format_score_name(table.score)
    scores, best = table.by_seed(level), table.best(level)
    rows = "method" if table.model else "model"  # see `tables.model_tables`
    if best is None:
        return Verdict(level, None, None, f"{at}: {name} is undefined for all {rows}s.")
    signed = {m: {s: table.sign * v for s, v in found.items()} for m, found in scores.items()}
    mean = formats.format_score(table.cells[best, level].summary.mean, table.score)
    text = f"{at}: {quoted(best)} has the best mean {name.removeprefix('mean ')}, {mean}"
    cell = table.cells[best, level]
    text += f" (n = {cell.summary.n}{' folds' if cell.folds else ''})"
    if len(scores) == 1:
        return Verdict(level, best, None, f"{text}. No other {rows} has a defined score.")
    wins = winner(signed) == best
    others = {m: found for m, found in signed.items() if m != best}
    against = compare(signed[best], others) if wins else compare_best(best, signed)
    better = [m for m, c in against.items() if c.significant and c.difference > 0]
    untested = [m for m, c in against.items() if c.p_holm is None]
    unclear = [m for m in against if m not in (*better, *untested)]
    parts = []
    if better:
        p = max(p for m in better if (p := against[m].p_holm) is not None)
        parts.append(f"significantly better than {_named(better, against)} ({formats.format_p(p)})")
    if unclear:
        parts.append(f"not significantly better than {_named(unclear, against)}")
    if untested:
        parts.append(f"not tested against {_named(untested, against)}: {_reasons(against)}")
    return Verdict(level, best, best if wins else None, f"{text}; {'; '.join(parts)}.")


def _reasons(against: dict[str, Comparison]) -> str:
    return ", ".join(dict.fromkeys(c.reason for c in against.values() if c.reason))


def _named(methods: Sequence[str], against: dict[str, Comparison]) -> str:
    if len(methods) <= _MOST_NAMED:
        return ", ".join(map(quoted, methods))
    total = len(against)
    return f"all {total} others" if len(methods) == total else f"{len(methods)} of {total} others"


def quoted(method: str) -> str:
    """Return a method's name for a sentence, in which "none" could be read as no method."""
    return f"“{method}”" if method == BASELINE else method
