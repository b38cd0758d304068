"""The figures of a report and their captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.metrics.small_counts import LEAST
from mimic_reg.report.figures import curves as fg
from mimic_reg.report.figures.drawing import Look, inline_svg, styles
from mimic_reg.report.figures.selection import selection_caption, selection_figure
from mimic_reg.report.formats import file_name, format_score_name, format_supervision, format_task
from mimic_reg.report.predictions import Predictions, has_curves, read_predictions
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.report.tables import SPLIT, ScoreTable, best_possible, score_table
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.store import Store


@dataclass(frozen=True)
class Drawn:
    """A figure of the report.

    name:    unique; a file name without its suffix
    section: "supervision", "selection", "training", "curves" or "analysis"
    table:   of the scores in it, if it shows scores by training size
    """

    name: str
    section: str
    caption: str
    figure: Figure
    table: ScoreTable | None = None

    def svg(self) -> Markup:
        """Return the figure as an element of a page, with its caption as description."""
        return Markup(inline_svg(self.figure, self.name, self.caption))


@dataclass(frozen=True)
class Analysis:
    """The result of an analysis of trials.

    name, title: of its module, and in words
    drawn:       its figures
    columns:     of its tables
    tables:      task and model → rows; the first cell of a row is the method
    note:        how it was measured, or why there is no result
    """

    name: str
    title: str
    drawn: tuple[Drawn, ...] = ()
    columns: tuple[str, ...] = ()
    tables: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    note: str = ""


def draw(results: Results, stores: Sequence[Store] = ()) -> list[Drawn]:
    """Return all figures of a report; curves of predictions need a store with the labels."""
    drawn: list[Drawn] = []
    look = styles(method_order(results.trials))
    for task, model in results.settings():
        trials = results.of(task, model)
        table = score_table(results, task, model, trials[0].selected_by)
        where = f"{format_task(task)}, {model}"
        name = f"{task}_{file_name(model)}"
        if any(table.by_seed(level) for level in table.levels):
            shown, note = _shown(table, table.levels[-1])
            ceiling = best_possible(results, stores, table)
            caption = f"{where}: {_supervision_caption(table, ceiling)}"
            if note and len(table.levels) > 1:
                caption += f"{note} Grey: the means of the others."
            figure = fg.supervision_figure(table, look, ceiling, shown)
            drawn.append(Drawn(f"{name}_supervision", "supervision", caption, figure, table))
        if selection := selection_figure(trials):
            caption = selection_caption(where)
            drawn.append(Drawn(f"{name}_selected", "selection", caption, selection))
        for level in outer(table.levels):
            methods, note = _shown(table, level)
            kept = [t for t in trials if t.method in methods]
            drawn += _draw_level(kept, level, where, f"{name}_{level.name}", stores, look, note)
    return drawn


def _supervision_caption(table: ScoreTable, ceiling: float | None) -> str:
    score = f"{SPLIT} {format_score_name(table.score)}"
    text = f"mean {score} over seeds; bands: ± 1 standard deviation."
    if len(table.levels) == 1:
        text = f"{score} of every seed (faint), mean and standard deviation."
    dotted = " Dotted: the score of the true risk, which is known for simulated patients."
    return text if ceiling is None else text + dotted


def _shown(table: ScoreTable, level: TrainingSize) -> tuple[Sequence[str], str]:
    """Return the methods to draw in one panel, and a sentence if those are not all."""
    if len(table.methods) <= fg.MOST_LINES:
        return table.methods, ""
    scores = table.by_seed(level)
    by_score = sorted(scores, key=lambda m: -table.sign * table.cells[m, level].summary.mean)
    undefined = [m for m in table.methods if m not in scores and (m, level) in table.cells]
    best = [m for m in by_score + undefined if m != BASELINE][: fg.MOST_LINES - 1]
    baseline = [BASELINE] if BASELINE in table.methods else []
    text = f" Shown: the {len(best)} of {len(table.methods)} methods with the best mean score"
    at = f" at {format_supervision(level)}{f', and “{BASELINE}”' if baseline else ''}."
    return [*baseline, *best], text + at


def _draw_level(
    trials: Sequence[TrialResult],
    level: TrainingSize,
    where: str,
    name: str,
    stores: Sequence[Store],
    look: Look,
    note: str,
) -> list[Drawn]:
    """Return training curves of a level, and the curves of its predictions."""
    predictions = _predictions(trials, level, stores)
    pooled = " All labels pooled."
    pooled *= any(p.y.shape[1] > 1 for found in predictions.values() for p in found)
    # learners without epochs have one row; few validation samples tell of single patients
    told = [t for t in trials if t.num_samples.get("validation", LEAST) >= LEAST]
    several = any(len(t.epochs()) > 1 for t in told if t.supervision == level)
    curves = fg.training_figure(told, level, look) if several else None
    training = "means over seeds, up to the epoch that every seed reached."
    roc = f"ROC curves on the test samples, averaged over seeds.{pooled}"
    calibration = (
        "calibration on the test samples: up to ten bins with equal numbers of predictions, all "
        f"seeds pooled.{pooled}"
    )
    figures = (
        ("training", "training", training, curves),
        ("roc", "curves", roc, fg.roc_figure(predictions, look)),
        ("calibration", "curves", calibration, fg.calibration_figure(predictions, look)),
    )
    at = f"{where} at {format_supervision(level)}"
    return [
        Drawn(f"{name}_{kind}", section, f"{at}: {text}{note}", figure)
        for kind, section, text, figure in figures
        if figure
    ]


def _predictions(
    trials: Sequence[TrialResult], level: TrainingSize, stores: Sequence[Store]
) -> dict[str, list[Predictions]]:
    """Return method → the test predictions of its trials, without trials that have none."""
    by_fingerprint = {store.manifest["fingerprint"]: store for store in stores}
    found: dict[str, list[Predictions]] = {method: [] for method in method_order(trials)}
    for trial in trials:
        store = by_fingerprint.get(trial.fingerprint)
        if store and trial.supervision == level and has_curves(trial):
            try:
                found[trial.method].append(read_predictions(trial, store))
            except InputError:  # predictions were removed: the report has no curve of this trial
                continue
    return found


def outer(levels: Sequence[TrainingSize]) -> list[TrainingSize]:
    """Return the lowest and the highest level."""
    return list(dict.fromkeys([levels[0], levels[-1]])) if levels else []
