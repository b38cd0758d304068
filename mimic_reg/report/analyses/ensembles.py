"""Ensembles of seeds: do fits that differ only in their seed predict better together?

The members are finished runs. An ensemble averages their stored predictions for the test samples
(Lakshminarayanan et al. 2017), so it needs no further training. With the method `bagging`, each
seed has its own bootstrap sample of the patients: this is bagging (Breiman 1996).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.metrics.ensembles import disagreement, mean_of_logits, mean_of_probabilities
from mimic_reg.metrics.scores import Score, score
from mimic_reg.report.analyses.base import Group, by_level, level_groups, mean_sd
from mimic_reg.report.figures.drawn import Analysis
from mimic_reg.report.figures.measured import ensemble_figure
from mimic_reg.report.formats import format_score_name
from mimic_reg.report.predictions import read_predictions
from mimic_reg.report.results import Results, TrialResult, find_stores
from mimic_reg.store import Store

TITLE = "Ensembles of seeds"
_REPLICATES = 1000


@dataclass(frozen=True)
class Ensemble:
    """Test scores of some fits, alone and together. The score is the one that selects checkpoints.

    alone:    of each member
    growing:  of the first 1, 2, … members by their mean logits
    by_logits, by_probability: of all, with 95 % intervals over subjects
    apart:    standard deviation of the predictions over members
    """

    alone: tuple[float, ...]
    growing: tuple[float, ...]
    by_logits: Score
    by_probability: Score
    apart: float


def analyse(results: Results) -> Analysis:
    """Return scores of ensembles for each method and level with two seeds or more.

    Raises:
        InputError: there are no two such fits; their predictions or the store with the labels were
            removed; a score is undefined.
    """
    stores = {store.manifest["fingerprint"]: store for store in find_stores(results)}
    found = by_level(
        "ensembles",
        TITLE,
        level_groups(results, results.trials),
        lambda trials: combine(trials, stores) if len(trials) > 1 else None,
        _draw,
        _row,
        ("members", "one member", "mean logits", "mean prob.", "apart"),
        "Test scores. Intervals: 95 %, over subjects. Apart: standard deviation of the predictions "
        "over members, a mean over samples. ±: standard deviation over members.",
    )
    if not found.drawn:
        raise InputError(
            "An ensemble needs at least two runs that differ only in their seed. Train the same "
            "trial with other seeds: `mimic-reg train --seed 1`."
        )
    return found


def _draw(group: Group, found: dict[str, Ensemble]) -> tuple[Figure, str]:
    name = format_score_name(group.trials[0].selected_by)
    curves, members = ({m: getattr(e, of) for m, e in found.items()} for of in ("growing", "alone"))
    caption = (
        f"test {name} of the first members together, by their mean logits, in the order of their "
        "seeds. Points at 1: each member alone."
    )
    return ensemble_figure(curves, members, name, group.look), caption


def combine(trials: Sequence[TrialResult], stores: dict[str, Store]) -> Ensemble:
    """Return the scores of trials that differ only in their seed; `stores`: by fingerprint.

    Raises:
        InputError: see `analyse`.
    """
    first, target = trials[0], trials[0].target.target
    if len({t.fold for t in trials}) > 1:
        raise InputError(
            "An ensemble needs runs that are tested on the same patients, but these are of several "
            "folds. Name the runs of one fold."
        )
    told = first.scores["test"][first.selected_by]
    if told.value is None:
        raise InputError(f"The test {first.selected_by} is undefined: {told.reason}.")
    store = stores.get(first.fingerprint)
    if store is None:
        raise InputError(
            f"The store of {first.name}, which has the labels, is no longer in {first.store}. "
            "Move it back and run the command again."
        )
    read = [read_predictions(trial, store) for trial in trials]
    predictions = np.stack([found.p for found in read])
    y = read[0].y[:, 0] if target == "multiclass" else read[0].y

    def measured(p: np.ndarray, num_replicates: int = 0) -> Score:
        scores = score(
            target, y, p, read[0].subject, labels=first.target.labels, num_replicates=num_replicates
        )
        return scores[first.selected_by]

    def value(p: np.ndarray) -> float:
        found = measured(p).value
        assert found is not None, "it is defined for each member alone"
        return found

    counts = range(1, len(trials) + 1)
    together = mean_of_logits(target, predictions)
    return Ensemble(
        alone=tuple(value(p) for p in predictions),
        growing=tuple(value(mean_of_logits(target, predictions[:k])) for k in counts),
        by_logits=measured(together, _REPLICATES),
        by_probability=measured(mean_of_probabilities(predictions), _REPLICATES),
        apart=disagreement(predictions),
    )


def _row(ensemble: Ensemble) -> tuple[str, ...]:
    return (
        str(len(ensemble.alone)),
        mean_sd(ensemble.alone, ".4f"),
        _with_interval(ensemble.by_logits),
        _with_interval(ensemble.by_probability),
        f"{ensemble.apart:.4f}",
    )


def _with_interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:.4f}"
    return f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})"
