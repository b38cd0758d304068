"""A flow that predicts current stays every hour: each stay and hour once, with a drift summary.

The folder of a model holds `predictions-000001.parquet`, …: a file for each run of the flow that
found new hours, whole or absent. A run predicts every hour that the stays have reached and that no
file holds. So a run that failed, or was killed, is caught up by the next one.
"""

import json
import re
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from pydantic import Field

from mimic_reg.engine.devices import find_device
from mimic_reg.errors import InputError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.serving.current import HOUR, Hours, predict_current
from mimic_reg.serving.drift import shown, summarise
from mimic_reg.serving.model import ServedModel
from mimic_reg.serving.predicting import load_model
from mimic_reg.serving.raw import read_current
from mimic_reg.store import disk_errors, locked, read_json, reading, write_json
from mimic_reg.store.atomic import PRIVATE, write_text, writing
from mimic_reg.store.remote import locate
from mimic_reg.threads import DEFAULT_THREADS, torch_threads
from mimic_reg_pipelines.flows.artifacts import PrefectProgress, artifact_key
from mimic_reg_pipelines.flows.extract import may_help
from mimic_reg_pipelines.flows.tasks import TWICE_MORE
from mimic_reg_pipelines.html import render
from mimic_reg_pipelines.runners.settings import Parameters, Threads
from mimic_reg_pipelines.tracking import client, drift, serving

PAGE, SUMMARY = "drift.html", "drift.json"
_FILES = f"predictions-{6 * '[0-9]'}.parquet"


class CurrentParameters(Parameters):
    """Parameters of the flow, as `mimic-reg predict --source` has them.

    source: folder with the raw tables of current stays
    model:  models:/NAME@champion, or a run folder
    work:   the work folder; predictions are written to its current/
    store:  of a run folder, where the store of its training is now, if it was moved
    at:     hours after admission to predict at; none: by `every`
    every:  every so many hours of each stay
    now:    leave out what was measured after this time; null: the time of the latest measurement
    tracking_uri: MLflow's store; null: the database in the work folder
    """

    source: Path
    model: str
    work: Path
    store: Path | None = None
    at: tuple[int, ...] = ()
    every: int = Field(default=1, ge=1)
    now: datetime | None = None
    allow_missing: bool = False
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    tracking_uri: str | None = None

    @property
    def uri(self) -> str:
        """Return where MLflow keeps models and the drift."""
        return self.tracking_uri or client.database(self.work)

    @property
    def hours(self) -> Hours:
        """Return the hours to predict at."""
        return Hours(at=self.at) if self.at else Hours(every=self.every)


def predict_now(given: CurrentParameters, progress: Progress = SILENT) -> dict[str, Any]:
    """Predict the hours that no file holds yet; write them and the drift; return counts as JSON.

    Counts below 10 are not returned.

    Raises:
        InputError: the model or the source cannot be used.
        MimicRegError: another run writes to the folder; the disk is full; MLflow does not answer.
    """
    store = locate(given.store, progress) if given.store else None
    with serving.located(given.model, given.uri) as place, torch_threads(given.threads):
        model = load_model(place, store, str(find_device(given.device)))
        folder = given.work / "current" / _name(model)
        with locked(folder):
            earlier = _read(folder, model)
            current = read_current(
                model.recipe,
                model.spec,
                given.source,
                now=given.now,
                allow_missing=given.allow_missing,
                progress=progress,
            )
            keys = earlier.select(model.spec.unit, HOUR)
            predicted = predict_current(model, current, given.hours, keys)
            for note in predicted.notes:
                progress.note(note)
            if predicted.table.height:
                _write(folder, predicted.table)
            stays = current.stays.select(model.spec.unit)
            every = pl.concat([earlier, predicted.table]).sort(HOUR)
            latest = every.join(stays, on=model.spec.unit, how="semi").unique(
                model.spec.unit, keep="last", maintain_order=True
            )
            found = summarise(model, current, predicted.excluded, latest)
            content = {
                "task": model.task.name,
                "cohort": model.spec.name,
                "trial_id": model.trial_id,
                "now": _hour(predicted.now),
                **json.loads(json.dumps(asdict(found))),  # as it is read again
            }
            _publish(folder, content, given.uri)
    return {
        "folder": str(folder),
        "predictions": shown(predicted.table.height),
        "drift": content,
    }


def _name(model: ServedModel) -> str:
    """Return the name of a model's folder; that of a damaged model could lead elsewhere."""
    if not re.fullmatch(r"[0-9a-zA-Z_-]{1,100}", model.trial_id):
        raise InputError("The model has no valid trial_id. Export or register its run again.")
    return model.trial_id


def _hour(now: datetime | None) -> str | None:
    """Return a time without minutes: the latest measurement is a single patient's."""
    return None if now is None else now.replace(minute=0, second=0, microsecond=0).isoformat(" ")


def _read(folder: Path, model: ServedModel) -> pl.DataFrame:
    """Return all predictions in a model's folder."""
    names = dict.fromkeys(model.outputs, pl.Float32())
    schema = {model.spec.unit: pl.Int64(), HOUR: pl.Int64(), **names, "never_observed": pl.String()}
    parts = [pl.DataFrame(schema=schema)]
    for path in sorted(folder.glob(_FILES)):
        with reading(path, "predictions of current stays"):
            parts.append(pl.read_parquet(path, glob=False))
    return pl.concat(parts, how="diagonal")


def _write(folder: Path, table: pl.DataFrame) -> None:
    """Write new predictions into the next file."""
    number = max((int(path.stem[len("predictions-") :]) for path in folder.glob(_FILES)), default=0)
    path = folder / f"predictions-{number + 1:06}.parquet"
    with disk_errors(folder), writing(path, mode=PRIVATE) as file:
        table.write_parquet(file)


def _publish(folder: Path, content: dict[str, Any], uri: str) -> None:
    """Write the drift as a page, in MLflow and at last as JSON, unless it is there already."""
    path = folder / SUMMARY
    if path.is_file() and read_json(path) == content:
        return
    page = str(render("drift.html", **content))
    with disk_errors(folder):
        write_text(folder / PAGE, page)
        drift.log(content, folder / PAGE, uri)
        write_json(path, content)


# --- Prefect --------------------------------------------------------------------------------------


@task(
    name="predict current stays",
    task_run_name="predict {parameters.model}",
    retry_condition_fn=may_help,
    **TWICE_MORE,
)
def predict_task(parameters: CurrentParameters) -> dict[str, Any]:
    """Predict the hours that are missing."""
    return predict_now(parameters, PrefectProgress("current"))


@flow(name="predict_current", flow_run_name="predict {parameters.model}", persist_result=False)
def predict_current_flow(parameters: CurrentParameters) -> dict[str, Any]:
    """Predict current stays at the hours that were not predicted yet, and summarise the drift."""
    done = predict_task(parameters)
    summary = done["drift"]
    create_table_artifact(
        key=artifact_key("drift", summary["task"]),
        table=[{"stays": summary["stays"], **row} for row in summary["predictions"]]
        or [{"stays": summary["stays"], "note": summary["note"]}],
        description=f"Predictions of {summary['task']} up to {summary['now']}",
    )
    return {name: done[name] for name in ("folder", "predictions")}
