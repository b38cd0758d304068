"""How the commands print scores."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mimic_reg.console import out, say, table

if TYPE_CHECKING:
    from mimic_reg.serving import External
    from mimic_reg.store.spec import CohortSpec


def print_external(external: "External", cohort: "CohortSpec") -> None:
    """Print the scores on another cohort, and what a reader must know."""
    from mimic_reg.report.cohort.published import suppressed_together

    counted = (external.num_samples, external.num_subjects)
    shown = [suppressed_together([*numbers.values()]) for numbers in counted]
    counts = ", ".join(
        f"{name}: {samples} samples of {subjects} {cohort.subjects}"
        for name, samples, subjects in zip(external.num_samples, *shown, strict=True)
    )
    print_scores(external.scores, cohort, f"{external.name}, {external.task}. ")
    say(f"Trained on {external.trained_on}. {counts}.")
    for note in external.notes:
        say(f"Note: {note}")


def print_scores(
    scores: Mapping[str, Mapping[str, Any]], cohort: "CohortSpec", what: str = ""
) -> None:
    """Print the scores of each split."""
    from mimic_reg.report.formats import format_scored

    names = sorted({name for of_split in scores.values() for name in of_split})
    rows = [
        [name, *(format_scored(of_split.get(name), name) for of_split in scores.values())]
        for name in names
    ]
    title = f"{what}Scores, with 95 % intervals over {cohort.subjects}"
    out.print(table(title, ["", *scores], rows))
