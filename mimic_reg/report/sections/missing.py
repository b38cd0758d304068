"""Runs without a result, and scores that the labels do not define."""

from collections import Counter
from collections.abc import Sequence

from mimic_reg.report.formats import count, format_score_name, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import TrialResult
from mimic_reg.report.sections.given import Given


def missing_section(given: Given) -> Section | None:
    """Return runs without a result and undefined scores with the reason; None if nothing is."""
    unfinished = [(u.name, u.why) for u in given.results.unfinished]
    undefined = _undefined(given.trials)
    if not unfinished and not undefined:
        return None
    return section("missing", "What is missing?", unfinished=unfinished, undefined=undefined)


def _undefined(trials: Sequence[TrialResult]) -> list[tuple[str, str]]:
    """Return scores that are undefined or leave labels out: why, and in how many trials."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    asked: Counter[tuple[str, str, str]] = Counter()
    for trial in trials:
        for split, scores in trial.scores.items():
            for name, score in scores.items():
                asked[trial.task, split, name] += 1
                if score.reason:
                    how = "undefined: " if score.value is None else ""
                    found[trial.task, split, name, how + score.reason] += 1
    return [
        (
            f"{format_task(task)}, {split} {format_score_name(name)}",
            f"{reason} ({number} of {count(asked[task, split, name], 'trial')})",
        )
        for (task, split, name, reason), number in found.items()
    ]
