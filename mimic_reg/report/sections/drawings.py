"""Figures: scores by supervision, curves of training and predictions, and the analyses."""

import html
from collections.abc import Sequence

from mimic_reg.report.figures import curves as fg
from mimic_reg.report.figures.drawing import inline_svg
from mimic_reg.report.figures.drawn import Analysis, Drawn
from mimic_reg.report.markup import Html, grid, section, soft, tag
from mimic_reg.report.predictions import has_curves
from mimic_reg.report.sections.given import Given


def figure_grid(figures: Sequence[Drawn], wanted: str) -> Html:
    """The figures of one section of `Drawn`."""
    chosen = [d for d in figures if d.section == wanted]
    if not chosen:
        return tag("p", "There is nothing to draw.")
    return tag("div", *map(_figure, chosen), class_="figures")


def _figure(drawn: Drawn) -> Html:
    svg = inline_svg(drawn.figure, drawn.name)
    described = svg.replace(
        "<svg ", f'<svg role="img" aria-label="{html.escape(drawn.caption)}" ', 1
    )
    return tag("figure", Html(described), tag("figcaption", drawn.caption))


def curves_section(given: Given, figures: Sequence[Drawn]) -> Html:
    """Curves of selection, training and predictions; where there are none, why."""
    parts: list[str] = []
    if any(d.section == "selection" for d in figures):
        parts += [tag("h3", "Selected parameters"), figure_grid(figures, "selection")]
    parts += [tag("h3", "Training"), figure_grid(figures, "training")]
    if any(has_curves(t.task) for t in given.trials):
        parts += [tag("h3", "ROC and calibration"), _prediction_curves(given, figures)]
    return section("curves", "Curves", *parts)


def _prediction_curves(given: Given, figures: Sequence[Drawn]) -> Html:
    if any(d.section == "curves" for d in figures):
        return figure_grid(figures, "curves")
    if not set(given.results.fingerprints()) & {s.manifest["fingerprint"] for s in given.stores}:
        return tag("p", "Not drawn: the store with the labels is not at hand.")
    return tag(
        "p",
        f"Not drawn: below {fg.MIN_COUNT} test samples of either class, or in a bin, a curve would "
        "show single patients; or the predictions are gone.",
    )


def analyses_section(analyses: Sequence[Analysis]) -> Html:
    """Figures, tables and notes of the analyses that were asked for."""
    parts: list[str] = []
    for analysis in analyses:
        parts.append(tag("h3", analysis.title))
        if analysis.drawn:
            parts.append(figure_grid(analysis.drawn, "analysis"))
        for where, rows in analysis.tables.items():
            parts.append(grid(f"{analysis.title}: {where}.", analysis.columns, rows))
        parts.append(soft(analysis.note))
    return section("analyses", "Analyses", *parts)
