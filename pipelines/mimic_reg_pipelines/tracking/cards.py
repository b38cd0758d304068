"""Texts of MLflow's registry on a version: its scores, its data, why it is champion."""

import math
from collections.abc import Sequence

from mimic_reg import __version__
from mimic_reg.metrics.scores import Score
from mimic_reg.report.card import MARKDOWN, PAGE
from mimic_reg.report.document import Document, part_markdown
from mimic_reg.settings import TrainingSize
from mimic_reg_pipelines.tracking.comparison import plain
from mimic_reg_pipelines.tracking.mlflow_runs import PREFIX
from mimic_reg_pipelines.tracking.tracked_run import TrackedRun

CHAMPION = "champion"
RULE = (
    f"The alias `{CHAMPION}` goes by the validation score alone. So its test score may be lower "
    "than that of another run: a choice by test scores would make the test score too good."
)
_CARD = "### Model card"
_MOST_CHARACTERS = 3_800  # MLflow's databases take 5,000, with the reason and its history
WHY, WHY_NOT = "### Why is it champion?", "### Why is it not champion?"


def with_reason(description: str, card: str, heading: str, reason: str) -> str:
    """Return the page of a version as Markdown.

    heading: WHY or WHY_NOT
    """
    return f"{description}\n\n{heading}\n\n{reason} {RULE}\n\n{card}".strip()


def no_longer(page: str, successor: str, why: str) -> str:
    """Return the page of a former champion; `why` is about its successor."""
    description = page.partition("\n\n")[0]
    card = "".join(page.partition(_CARD)[1:])
    reason = f"It was champion until version {successor} replaced it: {why}"
    return with_reason(description, card, WHY_NOT, reason)


def validation_score(runs: Sequence[TrackedRun]) -> tuple[str, float]:
    """Return the score that selects, by name, and its mean over folds at the best epochs.

    runs: that differ in their fold only; one run without folds
    """
    name = runs[0].selected_by
    assert name is not None, "a finished trial was selected by a score"
    values = [run.scores["validation"][name].value for run in runs]
    known = [value for value in values if value is not None]
    assert len(known) == len(values), "training refuses a validation score that is undefined"
    return name, math.fsum(known) / len(known)


def mean_test_score(runs: Sequence[TrackedRun]) -> Score:
    """Return the test score that selects: of a run, or the mean over folds, without interval."""
    name = validation_score(runs)[0]
    scores = [run.scores["test"][name] for run in runs]
    known = [score.value for score in scores if score.value is not None]
    if len(runs) == 1 or len(known) < len(runs):
        return next((score for score in scores if score.value is None), scores[0])
    return Score(math.fsum(known) / len(known))


def folds_of(runs: Sequence[TrackedRun]) -> str:
    """Return which folds the scores of a version are of, as "folds 1, 2, 3 of 5"; else ""."""
    numbers = [str(run.trial.fold) for run in runs if run.trial.fold is not None]
    if not numbers:
        return ""
    return f"fold{'s' * (len(numbers) > 1)} {', '.join(numbers)} of {runs[0].cohort.num_folds}"


def describe(runs: Sequence[TrackedRun]) -> str:
    """Return a version in a sentence."""
    run, name = runs[0], validation_score(runs)[0]
    trial, folds = run.trial, folds_of(runs)
    of = f" (mean over {folds}; the model is that of fold {trial.fold})" if folds else ""
    return (
        f"{run.method}, {_size(trial.size)}, seed {trial.seed}: "
        f"test {name} {_with_interval(mean_test_score(runs))}{of}."
    )


def model_card(runs: Sequence[TrackedRun], document: Document) -> str:
    """Return the model card of a version as Markdown: scores, data, calibration, subgroups, limits.

    It is a short form of the document, because a description has few characters. The whole is in
    the version's files.
    """
    run, (name, value), folds = runs[0], validation_score(runs), folds_of(runs)
    cohort, data = run.cohort, next(part for part in document.parts if part.name == "data")
    rows = {
        "task": f"{run.trial.task} ({run.target.target})",
        "model": run.trial.model.name,
        "method": run.method,
        "training size": f"{_size(run.trial.size)}, seed {run.trial.seed}",
        f"validation {name}": f"{value:.4f}, the best of its epochs (epoch {run.best_epoch})",
        f"test {name}": _with_interval(mean_test_score(runs)),
        **({"cross-validation": f"scores are means over {folds}"} if len(runs) > 1 else {}),
        "data": f"{cohort.name}, fingerprint {run.fingerprint[:12]}",
        **{name: text for name, text in data.facts.items() if name.endswith("were scored")},
        "code": run.versions["code"] or f"{PREFIX} {__version__}",
    }
    if run.hardly_trained:
        rows["mind"] = f"hardly trained: {run.hardly_trained}"
    lines = [f"- {key}: {plain(text)}" for key, text in rows.items()]
    use = (
        "For research only. It is not a medical device: it was tested on the held-out part of the "
        "cohort above and nowhere else, and one run's interval does not cover other seeds."
    )
    text = "\n".join([_CARD, "", *lines, "", use])
    whole = f"The whole card is among the model's files: {PAGE} and {MARKDOWN}."
    for part in document.parts:
        if part.brief:
            added = "\n\n".join(filter(None, part_markdown(part, level=4)))
            if len(text) + len(added) + len(whole) < _MOST_CHARACTERS:
                text = f"{text}\n\n{added}"
    return f"{text}\n\n{whole}"


def _with_interval(score: Score) -> str:
    interval = f" (95 % {score.low:.4f} to {score.high:.4f})" if score.low is not None else ""
    return f"{format_score(score)}{interval}"


def _size(size: TrainingSize) -> str:
    share = f"{size.value:g}% of the training samples"
    return share if size.is_share else f"{size.num_samples:,} training samples"


def format_score(score: Score) -> str:
    """Return a score, or why it is undefined."""
    return f"undefined: {score.reason}" if score.value is None else f"{score.value:.4f}"
