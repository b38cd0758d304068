"""The drift of current stays in MLflow: a run for each model, a point for each hour."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities import Metric

from mimic_reg_pipelines.tracking import client, mlflow_runs

EXPERIMENT = f"{mlflow_runs.PREFIX}-drift"
_NOTE = (
    "Current stays beside the training data; `drift.html` has the tables. No number is that of "
    "fewer than 10 stays."
)


def log(summary: Mapping[str, Any], page: Path, uri: str) -> str:
    """Log a drift summary in its model's run, and return the run's id.

    summary: the content of `drift.json`
    page:    its page, an artifact of the run

    Raises:
        MimicRegError: MLflow does not answer.
    """
    client.prepare(uri)
    with client.answering(uri):
        api = client.connect(uri)
        experiment = mlflow_runs.experiment_called(uri, EXPERIMENT)
        with client.alone(uri):
            found = api.search_runs([experiment], f"tags.trial_id = '{summary['trial_id']}'")
            name = f"{summary['task']} {summary['trial_id'][:8]}"
            tags = {n: str(summary[n]) for n in ("trial_id", "task", "cohort")}
            tags |= {"kind": "drift", mlflow_runs.NOTE: _NOTE}
            run = found[0] if found else api.create_run(experiment, run_name=name, tags=tags)
        run_id, time, step = str(run.info.run_id), mlflow_runs.now(), _step(summary["now"])
        mlflow_runs.log_batches(
            api, run_id, [Metric(n, v, time, step) for n, v in _metrics(summary)]
        )
        api.log_artifact(run_id, str(page))
        client.sync_artifacts(run.info.artifact_uri)
        api.set_terminated(run_id, "FINISHED")
    client.settle(uri)
    return run_id


def _step(time: str | None) -> int:
    """Return the hour of a point on MLflow's axis, since 1970; a summary without a time: now."""
    at = datetime.now(UTC) if time is None else datetime.fromisoformat(time).replace(tzinfo=UTC)
    return int(at.timestamp() // 3600)


def _metrics(summary: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    if isinstance(summary["stays"], int):
        yield "stays", float(summary["stays"])
    for rows, key, values in (
        ("predictions", "output", ("mean", "psi")),
        ("variables", "variable", ("missing",)),
        ("channels", "channel", ("shift",)),
    ):
        for row in summary[rows]:
            for value in values:
                if row[value] is not None:
                    yield f"{value}/{_name(row[key])}", float(row[value])


def _name(text: str) -> str:
    """Return a name that MLflow accepts for a metric."""
    return re.sub(r"[^\w. -]", "_", text)[:200]
