"""Which figures a report has, and what stands below them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup
from matplotlib.figure import Figure

from mimic_reg.errors import InputError
from mimic_reg.metrics.comparison import summarise
from mimic_reg.report.figures import curves as fg
from mimic_reg.report.figures.drawing import Look, inline_svg, styles
from mimic_reg.report.figures.selection import selection_figure
from mimic_reg.report.formats import format_score_name, format_supervision, format_task
from mimic_reg.report.predictions import Predictions, has_curves, read_predictions
from mimic_reg.report.results import Results, TrialResult, method_order
from mimic_reg.report.tables import ScoreTable, best_possible, score_table
from mimic_reg.settings import BASELINE, TrainingSize
from mimic_reg.store import Store


@dataclass(frozen=True)
class Drawn:
    """A figure of the report.

    name:    unique, a file name without its suffix
    section: "supervision", "selection", "training", "curves" or "analysis"
    table:   the scores that it shows, if it shows scores by training size
    """

    name: str
    section: str
    caption: str
    figure: Figure
    table: ScoreTable | None = None

    def svg(self) -> Markup:
        """The figure as an element of a page, described by its caption."""
        return Markup(inline_svg(self.figure, self.name, self.caption))


@dataclass(frozen=True)
class Analysis:
    """What an analysis of trials found.

    name, title: of its module; what it is about
    drawn:       its figures
    columns:     of its tables
    tables:      task and model → rows; the first cell of a row names the method
    note:        how it was measured, or why there is nothing
    """

    name: str
    title: str
    drawn: tuple[Drawn, ...] = ()
    columns: tuple[str, ...] = ()
    tables: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    note: str = ""


def draw(results: Results, stores: Sequence[Store] = ()) -> list[Drawn]:
    """All figures of a report; curves of predictions only where a store has the labels."""
    drawn: list[Drawn] = []
    look = styles(method_order(results.trials))
    for task, model in results.settings():
        trials = results.of(task, model)
        table = score_table(results, task, model, trials[0].selected_by)
        where = f"{format_task(task)}, {model}"
        name = f"{task}_{file_name(model)}"
        if any(table.by_seed(level) for level in table.levels):
            ceiling = best_possible(results, stores, table)
            caption = f"{where}: {_supervision_caption(table, ceiling)}"
            figure = fg.supervision_figure(table, look, ceiling)
            drawn.append(Drawn(f"{name}_supervision", "supervision", caption, figure, table))
        selection = selection_figure(trials)
        if selection:
            caption = (
                f"{where}: parameters that a method has selected at least once (solid) and selects "
                "at the end of the epoch (dashed). One line a seed."
            )
            drawn.append(Drawn(f"{name}_selected", "selection", caption, selection))
        for level in outer(table.levels):
            methods, note = _shown(table, level)
            kept = [t for t in trials if t.method in methods]
            drawn += [
                replace(figure, caption=figure.caption + note)
                for figure in _draw_level(kept, level, where, f"{name}_{level.name}", stores, look)
            ]
    return drawn


def _supervision_caption(table: ScoreTable, ceiling: float | None) -> str:
    score = f"{table.split} {format_score_name(table.score)}"
    if len(table.levels) == 1:
        text = f"{score} of every seed (faint), mean and standard deviation."
        return text if ceiling is None else f"{text} {_CEILING}"
    text = f"mean {score} over seeds; bands: ± 1 standard deviation."
    if len(table.methods) > fg.MOST_LINES:
        text += " Grey: the means of all other methods."
    return text if ceiling is None else f"{text} {_CEILING}"


_CEILING = "Dotted: the score of the true risk, known as the patients are simulated."


def _shown(table: ScoreTable, level: TrainingSize) -> tuple[Sequence[str], str]:
    """The methods whose lines one panel can tell apart, and what to say of the others."""
    if len(table.methods) <= fg.MOST_LINES:
        return table.methods, ""
    sign = 1 if table.lower_is_better else -1
    scores = table.by_seed(level)
    by_score = sorted(scores, key=lambda m: sign * summarise(list(scores[m].values())).mean)
    undefined = [m for m in table.methods if m not in scores and (m, level) in table.cells]
    best = [m for m in by_score + undefined if m != BASELINE][: fg.MOST_LINES - 1]
    baseline = [BASELINE] if BASELINE in table.methods else []
    text = f" Shown: the {len(best)} of {len(table.methods)} methods with the best mean score"
    return [*baseline, *best], f"{text} at this level{f', and “{BASELINE}”' if baseline else ''}."


def _draw_level(
    trials: Sequence[TrialResult],
    level: TrainingSize,
    where: str,
    name: str,
    stores: Sequence[Store],
    look: Look,
) -> list[Drawn]:
    """Training curves of a level, and the curves of its predictions."""
    at = f"{where} at {format_supervision(level)}"
    caption = f"{at}: means over seeds, up to the epoch that every seed reached."
    drawn = [
        Drawn(f"{name}_training", "training", caption, fg.training_figure(trials, level, look)),
    ]
    predictions = _predictions(trials, level, stores)
    pooled = (
        " All labels pooled."
        if any(p.y.shape[1] > 1 for v in predictions.values() for p in v)
        else ""
    )
    kinds: dict[str, tuple[Callable[..., Figure | None], str]] = {
        "roc": (fg.roc_figure, "ROC curves on the test samples, averaged over seeds."),
        "calibration": (
            fg.calibration_figure,
            "calibration on the test samples: up to ten bins of equally many predictions, "
            "all seeds pooled.",
        ),
    }
    for kind, (function, text) in kinds.items():
        figure = function(predictions, look)
        if figure:
            drawn.append(Drawn(f"{name}_{kind}", "curves", f"{at}: {text}{pooled}", figure))
    return drawn


def _predictions(
    trials: Sequence[TrialResult], level: TrainingSize, stores: Sequence[Store]
) -> dict[str, list[Predictions]]:
    """Method → the test predictions of its trials; where they are gone, the trial is left out."""
    by_fingerprint = {store.manifest["fingerprint"]: store for store in stores}
    found: dict[str, list[Predictions]] = {method: [] for method in method_order(trials)}
    for trial in trials:
        store = by_fingerprint.get(trial.fingerprint)
        if store and trial.supervision == level and has_curves(trial):
            try:
                found[trial.method].append(read_predictions(trial, store))
            except InputError:  # predictions that are gone are no reason to have no report
                continue
    return found


def outer(levels: Sequence[TrainingSize]) -> list[TrainingSize]:
    """The lowest and the highest level."""
    return list(dict.fromkeys([levels[0], levels[-1]])) if levels else []


def file_name(text: str) -> str:
    """The text as part of a file's name."""
    return "".join(c if c.isalnum() else "_" for c in text).strip("_")
