"""What is missing: runs without a result, and scores that the labels do not define."""

from collections import Counter
from collections.abc import Sequence

from mimic_reg.report.formats import format_score_name, format_task
from mimic_reg.report.markup import Html, grid, section, tag
from mimic_reg.report.results import TrialResult
from mimic_reg.report.sections.given import Given, count


def missing_section(given: Given) -> Html:
    """Runs without a result and undefined scores, each with the reason."""
    parts: list[str] = []
    if given.results.unfinished:
        rows = [[u.name, u.why] for u in given.results.unfinished]
        parts.append(grid("Runs without a result.", ["run", "why"], rows, wrap=(1,)))
    else:
        parts.append(tag("p", "Every run has a result."))
    undefined = _undefined(given.trials)
    if undefined:
        parts.append(grid("Undefined scores.", ["score", "why"], undefined, wrap=(1,)))
    else:
        parts.append(tag("p", "Every score is defined."))
    return section("missing", "Without a result", *parts)


def _undefined(trials: Sequence[TrialResult]) -> list[tuple[str, str]]:
    """Scores that are undefined, or leave labels out, with the reason and in how many trials."""
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
