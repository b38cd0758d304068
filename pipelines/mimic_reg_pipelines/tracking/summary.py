"""A sweep's summary as one run in MLflow: note, tables, figures, report, the page of results."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from markupsafe import Markup
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from mimic_reg.errors import InputError
from mimic_reg.report.formats import format_level, format_task
from mimic_reg.settings import TrainingSize
from mimic_reg_pipelines.html import render
from mimic_reg_pipelines.tracking.client import connect, prepare, settle, sync_artifacts
from mimic_reg_pipelines.tracking.comparison import Compared, comparison_url, page, run_url
from mimic_reg_pipelines.tracking.mlflow_runs import (
    NOTE,
    SWEEPS,
    check_name,
    experiment_called,
    experiment_id,
    log_batches,
    now,
)

PAGE = "page.html"  # the report with links into MLflow, which `mimic-reg ui` shows
REPORT = "report.html"
_BODY = "<body>"


def log_sweep_summary(
    sweep: str,
    *,
    uri: str,
    note: str,
    title: str | None = None,
    tables: Iterable[Path] = (),
    figures: Iterable[Path] = (),
    report: Path | None = None,
    compared: Iterable[Compared] = (),
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log the results of a sweep as one run in the experiment of summaries; return the run's id.

    The new summary replaces an earlier one of the sweep.

    note:     Markdown, shown as the run's description
    tables:   CSV or Markdown files; figures: images; report: the HTML file
    compared: its comparisons, a task each, for the links of the page of results
    metrics:  numbers to compare sweeps by

    Raises:
        InputError: the name cannot be used; a file is missing.
    """
    check_name(sweep)
    tables, figures = list(tables), list(figures)
    for path in (*tables, *figures, *([report] if report else [])):
        if not path.is_file():
            raise InputError(f"There is no file {path} to log with the summary of {sweep!r}.")
    prepare(uri)
    api = connect(uri)
    experiment = experiment_called(uri, SWEEPS)
    earlier = api.search_runs([experiment], f"tags.sweep = '{sweep}'")
    start = now()
    created = api.create_run(
        experiment,
        start_time=start,
        run_name=sweep,
        tags={
            **{"sweep": sweep, "kind": "summary", "title": title or sweep},
            **{NOTE: _fitting(f"[Open the results]({page(sweep)})\n\n{note}"), **(tags or {})},
        },
    )
    run_id = str(created.info.run_id)
    points = [Metric(name, value, start, 0) for name, value in (metrics or {}).items()]
    log_batches(api, run_id, metrics=points)
    for place, paths in (("tables", tables), ("figures", figures)):
        for path in paths:
            api.log_artifact(run_id, str(path), place)
    if report:
        api.log_artifact(run_id, str(report))
        links = navigation(compared, uri, run_url("..", experiment, run_id))
        _log_page(api, run_id, report.read_text("utf-8"), links)
    sync_artifacts(created.info.artifact_uri)
    api.set_terminated(run_id, "FINISHED")
    for run in earlier:
        api.delete_run(run.info.run_id)
    settle(uri)
    return run_id


def _fitting(note: str) -> str:
    """Return a note that MLflow's databases accept: as many whole lines as fit."""
    if len(note) <= _LONGEST_NOTE:
        return note
    kept = note[:_LONGEST_NOTE].rpartition("\n")[0]
    return f"{kept}\n\nThe rest is in the results."


_LONGEST_NOTE = 7_900  # PostgreSQL's column has 8,000 characters


def _log_page(api: MlflowClient, run_id: str, report: str, links: Markup) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / PAGE
        path.write_text(report.replace(_BODY, f"{_BODY}\n{links}", 1), "utf-8")
        api.log_artifact(run_id, str(path))


def navigation(compared: Iterable[Compared], uri: str, summary: str) -> Markup:
    """Return the links of a sweep's page: to its runs by method and level, and to all sweeps.

    summary: the link to its summary run
    """
    tables = [table for one in compared for table in _tables(one, experiment_id(uri, one.task))]
    return render("links.html", tables=tables, summary=summary)


def _tables(compared: Compared, experiment: str) -> list[dict[str, Any]]:
    """Return the links to a task's runs, a table for each model."""
    counts = Counter(compared.groups)
    levels = sorted({level for _, _, level in compared.groups})
    models = list(dict.fromkeys(model for model, _, _ in compared.groups))

    def link(**chosen: str) -> str:
        return comparison_url("..", experiment, sweep=compared.sweep, chosen=chosen)

    found = []
    for model in models:
        methods = dict.fromkeys(method for m, method, _ in compared.groups if m == model)
        rows = []
        for method in methods:
            cells = [
                {
                    "runs": counts[model, method, level],
                    "link": link(model=model, method=method, level=format_level(level)),
                }
                for level in levels
            ]
            rows.append(
                {"method": method, "link": link(model=model, method=method), "cells": cells}
            )
        found.append(
            {
                "name": f"{format_task(compared.task)}, {model}",
                "all_runs": _view(experiment, compared, None),
                "levels": [
                    {"name": format_level(level), "link": _view(experiment, compared, level)}
                    for level in levels
                ],
                "rows": rows,
            }
        )
    return found


def _view(experiment: str, compared: Compared, level: TrainingSize | None) -> str:
    return comparison_url("..", experiment, view=compared.sweep, level=level)
