"""Scores on other cohorts, which `mimic-reg evaluate RUN --store OTHER` kept in the run folders."""

from mimic_reg.errors import InputError
from mimic_reg.metrics.scores import Score
from mimic_reg.metrics.small_counts import is_small
from mimic_reg.report.cohort.published import suppressed
from mimic_reg.report.formats import format_level, format_score, format_task
from mimic_reg.report.html import Section, section
from mimic_reg.report.results import TrialResult
from mimic_reg.report.sections.given import Given
from mimic_reg.runs import EXTERNAL
from mimic_reg.serving.external import ALL
from mimic_reg.store import read_json, reading


def external_section(given: Given) -> Section | None:
    """Return the external scores of the trials; None if there are none."""
    found: list[tuple[TrialResult, str, tuple[str, ...], tuple[str, ...]]] = []
    notes: dict[str, None] = {}
    for trial in given.trials:
        try:
            found += [(trial, *row) for row in _rows(trial)]
        except InputError as error:
            notes[str(error)] = None
    if not found and not notes:
        return None
    folds = any(trial.fold for trial, *_ in found)
    notes |= dict.fromkeys(note for *_, told in found for note in told)
    rows = [
        (
            *(cohort, format_task(trial.task), trial.model, trial.method),
            *(format_level(trial.supervision), str(trial.seed), *([str(trial.fold)] * folds)),
            *cells,
        )
        for trial, cohort, cells, _ in found
    ]
    header = ["cohort", "task", "model", "method", "level", "seed", *["fold"] * folds]
    header += ["score", "own test", "there", "95 % interval", "samples", "subjects"]
    return section(
        "external", "Does it hold on other patients?", header=header, rows=rows, notes=notes
    )


def _rows(trial: TrialResult) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return cohort, cells and notes of a trial's external validations, by cohort."""
    found: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
    for path in sorted((trial.folder / EXTERNAL).glob("*.json")):
        content = read_json(path)
        with reading(path, "an external validation"):
            if content["trial"] != trial.id:
                continue  # of a model that was trained again since
            name = str(trial.selected_by)
            there = Score(**content["scores"][ALL][name])
            if is_small(content["num_subjects"][ALL]):
                there = Score(None)
            cells = (
                *(name, _value(trial.scores["test"].get(name), name), _value(there, name)),
                _interval(there, name),
                suppressed(content["num_samples"][ALL]),
                suppressed(content["num_subjects"][ALL]),
            )
            cohort = content["name"].removeprefix("external: ")
            notes = tuple(f"{cohort}: {note}" for note in content["notes"])
            found.append((cohort, cells, notes))
    return found


def _value(score: Score | None, name: str) -> str:
    return "-" if score is None or score.value is None else format_score(score.value, name)


def _interval(score: Score, name: str) -> str:
    if score.low is None or score.high is None:
        return "-"
    return f"{format_score(score.low, name)} to {format_score(score.high, name)}"
