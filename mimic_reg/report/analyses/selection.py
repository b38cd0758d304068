"""Which parameters a method selects: by epoch (figure 4b), supervision (figure 6) and tensor."""

from collections.abc import Callable, Mapping, Sequence

from mimic_reg.errors import InputError
from mimic_reg.report.analyses.base import Group, epochs_of, groups, mean_sd, sizes
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.figures.selection import (
    EVER,
    NOW,
    Counts,
    recorded,
    selection_caption,
    selection_figure,
    supervision_selection_figure,
    tensor_figure,
)
from mimic_reg.report.formats import format_level, format_supervision
from mimic_reg.report.results import Results, TrialResult
from mimic_reg.settings import TrainingSize

TITLE = "Selected parameters"


def analyse(results: Results) -> Analysis:
    """Return counts that methods have recorded.

    Raises:
        InputError: no trial has recorded any.
    """
    known = [t for t in results.trials if recorded(t, NOW) is not None]
    if not known:
        methods = ", ".join(dict.fromkeys(t.method for t in results.trials)) or "none finished"
        raise InputError(f"No trial selects parameters. Its methods: {methods}.")
    drawn: list[Drawn] = []
    tables: dict[str, list[tuple[str, ...]]] = {}
    for group in groups(results, known):
        of_tensors = sizes(group.trials[0])
        drawn += _draw(group, of_tensors)
        tables[group.where] = _rows(group, sum(of_tensors.values()))
    note = (
        "Now: selected at the end of the last epoch. Ever: selected in any step. Intervals: 95 % "
        "over seeds (t distribution). ±: standard deviation."
    )
    columns = ("method", "level", "seeds", "epochs", "now", "ever", "ever, share")
    return Analysis("selection", TITLE, tuple(drawn), columns, tables, note)


def last(trial: TrialResult, name: str) -> float | None:
    """Return the number of parameters selected at the end of the last epoch."""
    series = recorded(trial, name)
    return None if series is None else float(series.y[-1])


def at_best(trial: TrialResult, name: str) -> float | None:
    """Return the number of parameters selected at the end of the best epoch."""
    series = recorded(trial, name)
    return None if series is None else float(series.y[series.x == trial.best_epoch].item())


def counts(
    trials: Sequence[TrialResult], at: Callable[[TrialResult, str], float | None] = last
) -> Counts:
    """Return what the trials have selected, `at` their last or best epochs."""
    found = ([at(t, name) for t in trials] for name in (NOW, EVER))
    return Counts(*([n for n in numbers if n is not None] for numbers in found))


def _draw(group: Group, of_tensors: Mapping[str, int]) -> list[Drawn]:
    figure = selection_figure(group.trials)
    assert figure is not None, "every trial of the group has a selection"
    caption = selection_caption(group.where)
    name, where = f"{group.name}_selected", group.where
    drawn = [Drawn(name, "analysis", caption, figure)]
    by_method = {m: _by_level(found) for m, found in group.by_method().items()}
    several = {
        m: {level: counts(found) for level, found in levels.items()}
        for m, levels in by_method.items()
        if len(levels) > 1
    }
    if several:
        caption = f"{where}: selected parameters at the end of the last epoch."
        figure = supervision_selection_figure(several)
        drawn.append(Drawn(f"{name}_by_supervision", "analysis", caption, figure))
    shares = {m: _shares(levels[max(levels)], of_tensors) for m, levels in by_method.items()}
    if any(shares.values()):
        top = format_supervision(max(t.supervision for t in group.trials))
        caption = f"{where}: share of each tensor that was selected, means over seeds, at {top}."
        figure = tensor_figure(shares, group.look)
        drawn.append(Drawn(f"{name}_by_tensor", "analysis", caption, figure))
    return drawn


def _by_level(trials: Sequence[TrialResult]) -> dict[TrainingSize, list[TrialResult]]:
    levels = sorted({t.supervision for t in trials})
    return {level: [t for t in trials if t.supervision == level] for level in levels}


def _shares(trials: Sequence[TrialResult], of_tensors: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each tensor that was ever selected, means over trials."""
    found = {}
    for name, size in of_tensors.items():
        ends = [last(trial, f"{EVER}/{name}") for trial in trials]
        if values := [end / size for end in ends if end is not None]:
            found[name] = sum(values) / len(values)
    return found


def _rows(group: Group, total: int) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for method, trials in group.by_method().items():
        for level, found in _by_level(trials).items():
            selection = counts(found)
            share = [count / total for count in selection.ever]
            cells = (
                *(method, format_level(level), str(len(found))),
                epochs_of([len(t.epochs()) for t in found]),
                mean_sd(selection.now, ",.0f"),
                mean_sd(selection.ever, ",.0f") if selection.ever else "not tracked",
                f"{100 * sum(share) / len(share):.2f} %" if share else "-",
            )
            rows.append(cells)
    return rows
