"""report.html: one self-contained file that answers first and says what the answer rests on.

It holds scores, counts and curves over many patients; no id, no date, no row of a patient. All text
is escaped where it becomes HTML (`tag`), so a name from a configuration cannot become markup.
"""

import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg.report.figures.drawn import Analysis, Drawn, draw
from mimic_reg.report.formats import format_level, format_task
from mimic_reg.report.markup import Html, join, section, tag
from mimic_reg.report.results import Results, find_stores
from mimic_reg.report.sections.answer import answer_section
from mimic_reg.report.sections.basis import basis_section
from mimic_reg.report.sections.cohort import cohort_section
from mimic_reg.report.sections.drawings import analyses_section, curves_section, figure_grid
from mimic_reg.report.sections.given import Given, count
from mimic_reg.report.sections.missing import missing_section
from mimic_reg.report.sections.paired import paired_section
from mimic_reg.report.sections.together import HEADING, together_section
from mimic_reg.report.sections.together import NAME as TOGETHER
from mimic_reg.report.tables import main_tables
from mimic_reg.storage import Store, make_folder, read_json

REPORT = "report.html"


def write_report(
    results: Results,
    out: Path,
    *,
    title: str,
    stores: Sequence[Store] | None = None,
    simulated: bool | None = None,
    configuration: str | Mapping[str, Any] | None = None,
    commands: Sequence[str] = (),
    drawn: Sequence[Drawn] | None = None,
    analyses: Sequence[Analysis] = (),
) -> Path:
    """Write the report of a set of trials; where it was written.

    out:       an HTML file, or the folder that gets `report.html`
    stores:    those the trials were trained on, for the cohort flow and the curves; None: where the
               trials say they lie, if they are still there
    simulated: whether the data are simulated; None: as the stores' manifests say, if they do
    configuration: what was asked for, as YAML or plain settings; None: the trials' settings
    commands:  what to type to get the same
    drawn:     the figures, if `draw` has made them already
    analyses:  what else was looked into; their figures replace others of the same name

    Raises:
        InputError: `out` is another kind of file, or lies beneath one.
    """
    path = out if out.suffix == ".html" else out / REPORT
    if path.is_dir() or (not out.is_dir() and out.is_file() and out.suffix != ".html"):
        raise InputError(f"{out} is neither an HTML file nor a folder; name one of these.")
    stores = find_stores(results) if stores is None else stores
    is_simulated = _is_simulated(stores, simulated)
    given = Given(results, stores, is_simulated, configuration, commands, analyses)
    analysed = {d.name for analysis in analyses for d in analysis.drawn}
    figures = draw(results, stores) if drawn is None else drawn
    figures = [d for d in figures if d.name not in analysed]
    body = join(_header(given, title), _main(given, figures), _footer(given))
    resource = files("mimic_reg.report") / "templates" / REPORT
    page = Template(resource.read_text("utf-8"))
    make_folder(path.parent)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(page.substitute(title=html.escape(title), body=body), "utf-8")
    temporary.replace(path)
    return path


def _is_simulated(stores: Sequence[Store], given: bool | None) -> bool | None:
    if given is not None:
        return given
    recorded = [s.manifest.get("source", {}).get("simulated") for s in stores]
    return None if None in recorded or not recorded else any(recorded)


def _header(given: Given, title: str) -> Html:
    warnings = []
    if given.simulated:
        warnings.append(
            "These patients are simulated. The numbers show that everything runs; they say nothing "
            "on medicine, on MIMIC-III, or on which method is better on real data."
        )
    if given.results.unfinished:
        warnings.append(
            f"{count(len(given.results.unfinished), 'run')} gave no result and "
            f"{'is' if len(given.results.unfinished) == 1 else 'are'} missing from what follows; "
            "see “Without a result”."
        )
    return tag(
        "header",
        tag("h1", title),
        tag("p", _lead(given), class_="lead"),
        *(tag("p", text, class_="warning") for text in warnings),
        tag("nav", *(tag("a", text, href=f"#{name}") for name, text in _sections(given).items())),
    )


_SECTIONS = {
    "answer": "Answer",
    TOGETHER: HEADING,
    "supervision": "Scores by supervision",
    "tests": "Paired tests",
    "curves": "Curves",
    "analyses": "Analyses",
    "cohort": "Cohort",
    "missing": "Without a result",
    "rests-on": "What this rests on",
}


def _sections(given: Given) -> dict[str, str]:
    absent = set() if given.analyses else {"analyses"}
    if together_section(given.results) is None:
        absent.add(TOGETHER)
    return {name: text for name, text in _SECTIONS.items() if name not in absent}


def _lead(given: Given) -> str:
    trials = given.trials
    if not trials:
        return "No trial is finished."
    seeds = {(t.task, t.model, t.method, t.supervision): 0 for t in trials}
    for t in trials:
        seeds[t.task, t.model, t.method, t.supervision] += 1
    fewest, most = min(seeds.values()), max(seeds.values())
    each = str(most) if fewest == most else f"{fewest} to {most}"
    settings = "; ".join(f"{format_task(t)} with {m}" for t, m in given.results.settings())
    found = sorted({t.supervision for t in trials})
    levels = ", ".join(map(format_level, found)) + " supervision" * (found[-1] <= 1)
    num_methods = len({t.method for t in trials})
    prints = ", ".join(f[:12] for f in given.results.fingerprints())
    return (
        f"{count(len(trials), 'trial')}: {count(num_methods, 'method')} at {levels}, "
        f"{each} {'seed' if each == '1' else 'seeds'} each. {settings}. "
        f"Data: {_source(given)}; fingerprint {prints}."
    )


def _source(given: Given) -> str:
    datasets = sorted({str(s.manifest["dataset"]) for s in given.stores if "dataset" in s.manifest})
    if datasets:
        return ", ".join(datasets)
    modes = sorted({str(s.manifest["mode"]) for s in given.stores if "mode" in s.manifest})
    mode = f", extraction mode {', '.join(modes)}" if modes else ""
    if given.simulated:
        return f"simulated patients{mode}"
    if given.simulated is None:
        return f"origin not recorded{mode}"
    return f"{_kind(given)}{mode}" if modes else "not simulated"


def _kind(given: Given) -> str:
    """What patients' data it is, as far as their numbers tell."""
    audits = [s.path("audit.json") for s in given.stores if "audit.json" in s.manifest["files"]]
    sizes = [read_json(path).get("published") for path in audits]
    if not sizes or None in sizes:
        return "patients' data, not the full MIMIC-III"
    differing = [size for found in sizes for size in found if not size["same"]]
    if differing:
        are = "differs" if len(differing) == 1 else "differ"
        return f"MIMIC-III, but {count(len(differing), 'published size')} {are}"
    return "the full MIMIC-III, all published sizes equal"


def _main(given: Given, figures: Sequence[Drawn]) -> Html:
    tables = main_tables(given.results)
    parts = [
        answer_section(given, tables),
        together_section(given.results) or Html(""),
        section("supervision", "Scores by supervision", figure_grid(figures, "supervision")),
        paired_section(given, tables),
        curves_section(given, figures),
        *([analyses_section(given.analyses)] if given.analyses else []),
        cohort_section(given),
        missing_section(given),
        basis_section(given, tables),
    ]
    return tag("main", *parts)


def _footer(given: Given) -> Html:
    text = (
        "Made by mimic-reg. This page holds scores, counts and curves only, nothing of a patient."
    )
    return tag("footer", tag("p", text))
