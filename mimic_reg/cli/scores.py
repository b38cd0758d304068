"""How the commands print scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mimic_reg.console import out, say, table

if TYPE_CHECKING:
    from mimic_reg.serving import External
    from mimic_reg.store.spec import CohortSpec


def print_external(external: "External", cohort: "CohortSpec") -> None:
    """Print the scores on another cohort, and what a reader must know."""
    counts = ", ".join(
        f"{name}: {count:,} samples of {external.num_subjects[name]:,} {cohort.subjects}"
        for name, count in external.num_samples.items()
    )
    print_scores(external.scores, cohort, f"{external.name}, {external.task}. ")
    say(f"Trained on {external.trained_on}. {counts}.")
    for note in external.notes:
        say(f"Note: {note}")


def print_scores(
    scores: Mapping[str, Mapping[str, Any]], cohort: "CohortSpec", what: str = ""
) -> None:
    """Print the scores of each split."""
    names = sorted({name for of_split in scores.values() for name in of_split})
    rows = [
        [name, *(show_score(of_split.get(name)) for of_split in scores.values())] for name in names
    ]
    title = f"{what}Scores, with 95 % intervals over {cohort.subjects}"
    out.print(table(title, ["", *scores], rows))


def show_score(score: Any) -> str:
    """Return a score with its interval, or why it is undefined."""
    if score is None:
        return ""
    if score.value is None:
        return f"undefined: {score.reason}"
    if score.low is None:
        return f"{score.value:.4f}"
    return f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})"
