"""The end of a sweep: the best of each task registered, the report, the summary in MLflow."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from prefect import flow, tags, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from mimic_reg.checks import Outcome, findings
from mimic_reg.errors import InputError
from mimic_reg.report.analyses import analyse_all, save
from mimic_reg.report.cohort import write_cohort
from mimic_reg.report.evidence import Weighed, weigh
from mimic_reg.report.figures.drawn import draw
from mimic_reg.report.frames import evidence_frame, scores_frame
from mimic_reg.report.leakage import check_trials
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.page import REPORT, write_report
from mimic_reg.report.results import Results, collect
from mimic_reg.report.tables import main_tables, score_tables
from mimic_reg.settings import checked
from mimic_reg.settings.budget import Budget, chosen_in_folds
from mimic_reg.store import Store, atomic, disk_errors
from mimic_reg_pipelines.flows import views
from mimic_reg_pipelines.flows.artifacts import artifact_key
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.settings import TAGS, Work
from mimic_reg_pipelines.flows.tasks import ONCE_MORE
from mimic_reg_pipelines.runners.settings import Parameters
from mimic_reg_pipelines.tracking import client, registry, trunks
from mimic_reg_pipelines.tracking.cards import RULE
from mimic_reg_pipelines.tracking.comparison import plain
from mimic_reg_pipelines.tracking.registry import Registered
from mimic_reg_pipelines.tracking.summary import log_sweep_summary

TABLES, FIGURES = "tables", "figures"


@dataclass(frozen=True)
class Concluded:
    """The results of a sweep.

    report:     the HTML file
    markdown:   its tables as text, readable on a terminal
    scores:     a row for each method and level, of the scores that select
    registered: the best model of each task and family
    summary:    the run in MLflow that holds all this
    leakage:    the outcomes of the leakage checks
    """

    report: Path
    markdown: str
    scores: list[dict[str, Any]]
    registered: tuple[Registered, ...]
    summary: str
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    leakage: tuple[Outcome, ...]


def conclude(
    result: SweepResult,
    *,
    tracking_uri: str | None = None,
    commands: Sequence[str] = (),
) -> Concluded:
    """Register the best of each task, write the report, log the summary of the sweep.

    Raises:
        InputError: no trial is finished.
        MimicRegError: MLflow does not answer, or the disk is full; what is done is kept.
    """
    uri = tracking_uri or client.database(result.work)
    with client.answering(uri), disk_errors(result.folder):
        return _conclude(result, uri, commands)


def _conclude(result: SweepResult, uri: str, commands: Sequence[str]) -> Concluded:
    done = [t for t in result.trials if t.done]
    if not done:
        raise InputError(f"No trial of {result.name!r} has a result: there is nothing to report.")
    registered = registry.register_best(
        [folder for t in done for folder in result.run_folders(t)],
        uri=uri,
        store=result.store,
        sweep=result.name,
        methods={folder: t.label for t in done for folder in result.run_folders(t)},
        fold_by_fold=chosen_in_folds(_budgets(result)),
    )
    registered += trunks.register_best_trunks(
        [result.run_folder(t) for t in done if t.tasks],
        uri=uri,
        sweep=result.name,
        methods={result.run_folder(t): t.label for t in done},
    )
    report, results, tables, figures, markdown, leaks = _write(result, commands)
    summary = log_sweep_summary(
        result.name,
        uri=uri,
        title=result.title,
        note=f"# {plain(result.title)}\n\n{_warning(leaks)}{_champions(registered)}\n\n{markdown}",
        tables=tables,
        figures=figures,
        report=report,
        compared=views.publish(result, uri),
        metrics=_metrics(result, results) | {"leakage_findings": float(len(findings(leaks)))},
        tags={"data_fingerprint": result.data},
    )
    scores = scores_frame(main_tables(results)).to_dicts()
    return Concluded(
        *(report, markdown, scores, tuple(registered), summary),
        *(tuple(tables), tuple(figures), tuple(leaks)),
    )


def _write(
    result: SweepResult, commands: Sequence[str]
) -> tuple[Path, Results, list[Path], list[Path], str, list[Outcome]]:
    """Write report, tables and figures.

    Return them with the results, the tables as text, and the leakage checks.
    """
    out = result.folder
    errors = {
        folder: t.error or f"{t.status}: start the sweep again to go on with it"
        for t in result.failed
        for folder in result.run_folders(t)
    }
    folders = [f for t in result.trials for f in result.run_folders(t)]
    focus = result.configuration.get("focus")
    results = collect(folders, errors, focus, budgets=_budgets(result))
    stores = [Store.open(result.store)]
    analyses = analyse_all(result.configuration.get("analyses", ()), results)
    drawn, weighed = draw(results, stores), weigh(results, stores)
    leaks = check_trials(result.store, results.trials)
    report = write_report(
        results,
        out / REPORT,
        title=result.title,
        stores=stores,
        simulated=result.simulated,
        configuration=yaml.safe_dump(
            dict(result.configuration), sort_keys=False, allow_unicode=True
        ),
        commands=commands,
        drawn=drawn,
        analyses=analyses,
        weighed=weighed,
        leakage=leaks,
    )
    analysed = [d for analysis in analyses for d in analysis.drawn]
    figures = save({d.name: d for d in (*drawn, *analysed)}.values(), out / FIGURES)
    markdown = to_markdown(results, weighed)
    tables = _write_tables(results, weighed, leaks, markdown, out / TABLES)
    with suppress(InputError):  # a damaged store; the report says so
        tables.append(write_cohort(stores[0], out / TABLES))
    return report, results, tables, figures, markdown, leaks


def _budgets(result: SweepResult) -> list[Budget]:
    """Return what the values of the sweep's methods were chosen from."""
    return [checked(Budget, given) for given in result.configuration.get("tuned", ())]


def _write_tables(
    results: Results,
    weighed: Sequence[Weighed],
    leaks: Sequence[Outcome],
    markdown: str,
    folder: Path,
) -> list[Path]:
    atomic.make_folders(folder)
    texts = {
        "scores.csv": scores_frame(score_tables(results)).write_csv(),
        "paired_tests.csv": evidence_frame(weighed).write_csv(),
        "tables.md": markdown,
        "leakage.csv": pl.DataFrame([vars(each) for each in leaks]).write_csv(),
    }
    for name, text in texts.items():
        atomic.write_text(folder / name, text)
    return [folder / name for name in texts]


def _warning(leaks: Sequence[Outcome]) -> str:
    """Return Markdown on the findings of the leakage checks; "" if there are none."""
    lines = [f"- {plain(each.text)} {plain(each.advice)}" for each in findings(leaks)]
    return "\n".join(["### Leakage: scores may be too good", "", *lines, "\n"]) if lines else ""


def _champions(registered: Sequence[Registered]) -> str:
    """Return Markdown on the registered models: which is champion, with which score, and why."""
    lines = [
        f"- {plain(model.name)}, version {model.version}"
        f"{' (champion)' if model.champion else ''}: {plain(model.summary)} {plain(model.why)}"
        for model in registered
    ]
    return "\n".join(["### Registered models", "", *lines, "", RULE])


# what MLflow refuses in a metric's name; models with options have it: "lstm (units=8)"
_UNNAMEABLE = re.compile(r"[^\w. /-]")


def _metrics(result: SweepResult, results: Results) -> dict[str, float]:
    """Return numbers to compare sweeps by: how many trials, the best test mean of each table."""
    found = {"trials": float(len(result.trials)), "failed": float(len(result.failed))}
    for table in main_tables(results):
        if means := [cell.summary.mean for cell in table.cells.values() if cell.scores]:
            best = min(means) if table.lower_is_better else max(means)
            name = f"{table.task}_{table.model}_{table.score}"
            found["best_test_mean/" + _UNNAMEABLE.sub("-", name)] = best
    return found


# --- Prefect --------------------------------------------------------------------------------------


class ReportParameters(Parameters):
    """Parameters of the flow.

    sweep:        its name in the work folder
    tracking_uri: MLflow's store; null: the database in the work folder
    """

    work: Path
    sweep: str
    tracking_uri: str | None = None


# Once more: MLflow's server may have been away; finished parts are not repeated.
@task(name="conclude", task_run_name="conclude {sweep}", **ONCE_MORE)
def conclude_task(work: str, sweep: str, tracking_uri: str | None) -> dict[str, Any]:
    """Register, report and log the summary."""
    concluded = conclude(SweepResult.read(Path(work), sweep), tracking_uri=tracking_uri)
    for each in findings(concluded.leakage):
        get_run_logger().warning("Leakage: %s %s", each.text, each.advice)
    return as_json(concluded)


def as_json(concluded: Concluded) -> dict[str, Any]:
    """Return the results of a sweep as JSON holds them."""
    return {
        "report": str(concluded.report),
        "markdown": concluded.markdown,
        "scores": concluded.scores,
        "registered": [model.uri for model in concluded.registered],
        "summary": concluded.summary,
        "leakage": [each.text for each in findings(concluded.leakage)],
    }


@flow(name="report", flow_run_name="report {parameters.sweep}", persist_result=False)
def report_flow(parameters: ReportParameters) -> dict[str, Any]:
    """Register and report a sweep that ran before."""
    with tags(*TAGS):
        work = Work(parameters.work).folder
        concluded = conclude_task(str(work), parameters.sweep, parameters.tracking_uri)
    publish(parameters.sweep, concluded)
    return {name: concluded[name] for name in ("report", "registered", "summary")}


def publish(sweep: str, concluded: dict[str, Any]) -> None:
    """Show the results of a sweep in Prefect."""
    create_link_artifact(
        key=artifact_key("report", sweep),
        link=Path(concluded["report"]).resolve().as_uri(),
        description=f"The report of {sweep}",
    )
    create_table_artifact(
        key=artifact_key("scores", sweep),
        table=concluded["scores"],
        description=f"Test scores of {sweep}",
    )
    create_markdown_artifact(key=artifact_key("tables", sweep), markdown=concluded["markdown"])
