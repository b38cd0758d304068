"""report.html: one self-contained file with the answer first and its evidence below.

It has scores, counts and curves over many patients, and no id, date or row of a patient.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic_reg.checks.base import Outcome
from mimic_reg.clinical.datasets import MIMIC_IV
from mimic_reg.errors import InputError
from mimic_reg.report.cohort import read_audit
from mimic_reg.report.evidence import Weighed, weigh
from mimic_reg.report.figures.drawn import Analysis, Drawn, draw
from mimic_reg.report.formats import count, format_level, format_task
from mimic_reg.report.html import Section, render
from mimic_reg.report.results import Results, find_stores
from mimic_reg.report.sections.answer import answer_section
from mimic_reg.report.sections.basis import basis_section
from mimic_reg.report.sections.budget import budget_section
from mimic_reg.report.sections.claims import claims_section
from mimic_reg.report.sections.cohort import cohort_section
from mimic_reg.report.sections.drawings import analyses_section, curves_section
from mimic_reg.report.sections.external import external_section
from mimic_reg.report.sections.given import Given
from mimic_reg.report.sections.leakage import leakage_section
from mimic_reg.report.sections.missing import missing_section
from mimic_reg.report.sections.models import models_section
from mimic_reg.report.sections.paired import paired_section
from mimic_reg.report.sections.together import together_section
from mimic_reg.report.tables import main_tables
from mimic_reg.store import Store, atomic, make_folder

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
    weighed: Sequence[Weighed] | None = None,
    leakage: Sequence[Outcome] = (),
) -> Path:
    """Write the report of a set of trials and return its path.

    out:       an HTML file, or the folder for `report.html`
    stores:    the training data, for the cohort flow and curves; None: from the trials' records
    simulated: whether the data is simulated; None: from the stores' manifests
    configuration: of the experiment, as YAML or plain settings; None: the trials' settings
    commands:  that reproduce the results
    drawn:     the figures, if `draw` has made them already
    analyses:  further analyses; their figures replace others of the same name
    weighed:   the comparisons, if `weigh` has weighed them already
    leakage:   the outcomes of leakage checks of the training data and models

    Raises:
        InputError: `out` is another kind of file, or is inside a file.
    """
    path = out if out.suffix == ".html" else out / REPORT
    if path.is_dir() or (not out.is_dir() and out.is_file() and out.suffix != ".html"):
        raise InputError(f"{out} is neither an HTML file nor a folder: name one or the other.")
    stores = find_stores(results) if stores is None else stores
    analysed = {d.name for analysis in analyses for d in analysis.drawn}
    given = Given(
        results,
        stores,
        _is_simulated(stores, simulated),
        configuration,
        commands,
        analyses,
        main_tables(results),
        [d for d in (draw(results, stores) if drawn is None else drawn) if d.name not in analysed],
        weigh(results, stores) if weighed is None else weighed,
        leakage,
    )
    sections = [made for make in _SECTIONS if (made := make(given)) is not None]
    page = render(
        "page.html",
        title=title,
        lead=_lead(given),
        given=given,
        sections=sections,
        unfolded=_UNFOLDED,
    )
    make_folder(path.parent)
    atomic.write_text(path, page)
    return path


_SECTIONS: tuple[Callable[[Given], Section | None], ...] = (
    answer_section,
    models_section,
    together_section,
    paired_section,
    budget_section,
    leakage_section,
    external_section,
    curves_section,
    analyses_section,
    claims_section,
    cohort_section,
    missing_section,
    basis_section,
)
_UNFOLDED = ("answer", "models", "together", "tests")  # answers; the rest is folded


def _is_simulated(stores: Sequence[Store], given: bool | None) -> bool | None:
    if given is not None:
        return given
    recorded = [s.manifest.get("source", {}).get("simulated") for s in stores]
    return None if None in recorded or not recorded else any(recorded)


def _lead(given: Given) -> str:
    trials = given.trials
    if not trials:
        return "No trial is finished yet."
    seeds = Counter((t.task, t.model, t.method, t.supervision) for t in trials)
    fewest, most = min(seeds.values()), max(seeds.values())
    each = str(most) if fewest == most else f"{fewest} to {most}"
    folds = {t.fold for t in trials if t.fold}
    what, over = ("run", f" over {count(len(folds), 'fold')}") if folds else ("seed", "")
    settings = "; ".join(f"{format_task(t)} with {m}" for t, m in given.results.settings())
    found = sorted({t.supervision for t in trials})
    levels = ", ".join(map(format_level, found)) + " supervision" * found[-1].is_share
    num_methods = len({t.method for t in trials})
    prints = ", ".join(f[:12] for f in given.results.fingerprints())
    data = f"{_cohorts(given)}{_source(given)}; fingerprint {prints}"
    return (
        f"{count(len(trials), 'trial')}: {count(num_methods, 'method')} at {levels}, "
        f"{each} {what}{'' if each == '1' else 's'} each{over}. {settings}. "
        f"Data: {data}. {'' if given.stores else _NO_STORE}"
    ).rstrip()


_NO_STORE = (
    "The store of these trials was not found, so this page has no cohort flow, ROC curves, "
    "calibration or intervals over subjects."
)


def _cohorts(given: Given) -> str:
    """Return the names of the cohorts of stays, before where their data come from."""
    names = sorted({t.cohort.name for t in given.trials if t.cohort.is_hourly})
    return f"{', '.join(names)} ({'cohort' if len(names) == 1 else 'cohorts'}), " if names else ""


def _source(given: Given) -> str:
    if datasets := sorted({t.cohort.name for t in given.trials if not t.cohort.is_hourly}):
        return ", ".join(datasets)
    modes = sorted({str(s.manifest["mode"]) for s in given.stores if "mode" in s.manifest})
    mode = f", extraction mode {', '.join(modes)}" if modes else ""
    cohorts = {t.cohort.name for t in given.trials}
    others = {name for name in cohorts if name.startswith(MIMIC_IV.name)}
    which = f"{', '.join(sorted(others))}: " if others < cohorts else ""  # else named before
    of = f", {which}not the published benchmark" if others else ""
    if given.simulated:
        return f"simulated patients{of}{mode}"
    if given.simulated is None:
        return f"origin not recorded{mode}"
    if others:
        return f"patients{of}{mode}"
    return f"{_kind(given)}{mode}" if modes else "not simulated"


def _kind(given: Given) -> str:
    """Return whether the patients are those of MIMIC-III, from the published sizes."""
    sizes: list[Any] = [audit.get("published") for audit in map(read_audit, given.stores) if audit]
    if not sizes or None in sizes:
        return "patients, but not the full MIMIC-III"
    if differing := [size for found in sizes for size in found if not size["same"]]:
        return f"MIMIC-III with {count(len(differing), 'difference')} from the published sizes"
    return "the full MIMIC-III, with the published sizes"
