"""What a comparison allows to conclude, in a plain sentence, and what more runs would show."""

from mimic_reg.metrics.comparison import MIN_PAIRS
from mimic_reg.metrics.uncertainty import MOST_SEEDS, POWER, Combined, seeds_needed, subjects_needed
from mimic_reg.report.formats import count, format_difference, format_interval
from mimic_reg.report.tables import ScoreTable
from mimic_reg.report.verdicts import Compared, quoted


def conclude(
    compared: Compared, table: ScoreTable, both: Combined | None, unit: str, delta: float
) -> str:
    """Return what may be concluded from a comparison, in a sentence.

    both:  the interval over seeds and test subjects, if it is known
    unit:  what was drawn: "subject" or "image"
    delta: the smallest difference that matters
    """
    result = compared.result
    method, baseline = quoted(compared.method), quoted(compared.baseline)
    if not result.n:
        return f"{method} and {baseline} have no seed in common: nothing can be concluded."
    change = format_difference(result.difference, table.score)
    bounds = result.interval if table.folds else both.bounds if both else None
    shown = bounds or result.interval
    may = format_interval(shown, table.score) if shown else ""
    over = "folds" if table.folds else f"seeds and {unit}s" if bounds else "seeds"
    better = f"{method} is {'better' if compared.better else 'worse'} than {baseline}"
    if result.significant and bounds and bounds[0] * bounds[1] > 0:
        return f"{better}: {change}, and {may} (95 % over {over}) excludes 0."
    if result.significant and bounds:
        return (
            f"{better} on these test {unit}s, also with other seeds: {change}. For other {unit}s "
            f"it is open: {may} (95 % over {over}) contains 0."
        )
    if result.significant:
        return (
            f"{better} on these test {unit}s, also with other seeds: {change}. Nothing is known "
            f"about other {unit}s, because the predictions were not compared."
        )
    if bounds and max(map(abs, bounds)) < delta:
        return f"{method} and {baseline} differ by less than {delta:g}: {may} (95 % over {over})."
    if result.p is None and result.n < MIN_PAIRS:
        pairs = count(result.n, "fold" if table.folds else "pair")
        known = f" The difference may be {may} (95 % over {over})." if may else ""
        return (
            f"{method} against {baseline}: {change} in {pairs}, which is too few for a test.{known}"
        )
    if result.p is None:
        return f"{method} against {baseline}: {change} in every pair, so seeds show no chance."
    clear = f"{method} and {baseline} show no clear difference"
    if shown and shown[0] * shown[1] > 0:
        return (
            f"{clear} after correction for all comparisons. Of this one alone, {may} (95 % over "
            f"{over}) excludes 0."
        )
    return f"{clear}: the difference may be {may} (95 % over {over})." if may else f"{clear}."


def is_open(compared: Compared, both: Combined | None, delta: float) -> bool:
    """Return whether more seeds or subjects could change the conclusion."""
    if both is None:
        return not compared.result.significant
    decided = compared.result.significant and both.low * both.high > 0
    return not decided and max(map(abs, both.bounds)) >= delta


def needed(
    compared: Compared,
    error: float | None,
    num_subjects: int,
    unit: str,
    delta: float,
    *,
    tell: bool = True,
) -> str:
    """Return how many seeds and test subjects find a difference of delta; "" if unknown.

    error: standard error over test subjects
    tell:  whether the number of test subjects may be shown
    """
    result, parts = compared.result, []
    if result.effect:
        wanted = seeds_needed(delta, abs(result.difference / result.effect))
        parts.append(
            f"more than {MOST_SEEDS:,} seeds" if wanted is None else _of(wanted, result.n, "seed")
        )
    if error:
        wanted = subjects_needed(delta, error, num_subjects)
        noun = f"test {unit}"
        # a hidden number would follow from the number needed and the interval
        untold = f"{'more' if wanted > num_subjects else 'no more'} {noun}s than there are"
        parts.append(_of(wanted, num_subjects, noun) if tell else untold)
    if not parts:
        return ""
    finding = f"To find a difference of {delta:g} with {POWER:.0%} power".replace("%", " %")
    return f"{finding}, a single test needs {' and '.join(parts)}."


def _of(wanted: int, there: int, noun: str) -> str:
    more = f"{wanted - there:,} more" if wanted > there else f"there are {there:,}"
    return f"{count(wanted, noun)} ({more})"
