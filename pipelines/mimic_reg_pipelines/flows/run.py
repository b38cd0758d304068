"""The main job: raw tables → store → all trials of an experiment → registry and report."""

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, tags
from prefect.client.schemas.objects import State

from mimic_reg import experiments
from mimic_reg.errors import InputError
from mimic_reg.experiments import Experiment
from mimic_reg.extraction import extract
from mimic_reg.extraction.memory import parse_memory
from mimic_reg.progress import SILENT, Progress
from mimic_reg.simulation.synthesis import TRUE_RISK
from mimic_reg.sources.images import import_images
from mimic_reg_pipelines.flows.extract import ExtractParameters, extract_flow, images_task
from mimic_reg_pipelines.flows.report import Concluded, conclude
from mimic_reg_pipelines.flows.result import SweepResult
from mimic_reg_pipelines.flows.settings import TAGS, OfExperiment, Work, find_source, find_store
from mimic_reg_pipelines.flows.sweep import SweepParameters, sweep, sweep_flow
from mimic_reg_pipelines.runners.settings import Running
from mimic_reg_pipelines.tracking import client


@dataclass(frozen=True)
class RunResult:
    """Result of the main job.

    concluded: None where no trial has a result
    """

    result: SweepResult
    concluded: Concluded | None

    @property
    def exit_code(self) -> int:
        """Return 0 if every trial has its result, else 1."""
        return self.result.exit_code


def run(
    experiment: Experiment,
    work: Path,
    *,
    source: Path | None = None,
    store: Path | None = None,
    memory: str = "4GB",
    running: Running | None = None,
    tracking_uri: str | None = None,
    command: str | None = None,
    progress: Progress = SILENT,
) -> RunResult:
    """Extract, train and report; finished parts are skipped, so the same call continues a job.

    source:  raw tables, or images; None: what the experiment names, or else the store as it is
    store:   the store, if not in the work folder
    command: what was typed, for the report

    Raises:
        InputError: wrong options; a source or a store that cannot be used.
    """
    place, source = _places(experiment, work, source, store)
    uri = tracking_uri or client.database(work)
    client.check_usable(uri)
    if source is not None:
        if experiment.images:
            import_images(source, place, name=experiment.images, progress=progress)
        else:
            extract(source, place, memory=parse_memory(memory), progress=progress)
    result = sweep(
        experiment,
        work,
        store=place,
        running=running,
        tracking_uri=uri,
        simulated=_is_simulated(source),
        progress=progress,
    )
    concluded = None
    if any(t.done for t in result.trials):
        commands = [command] if command else []
        concluded = conclude(result, tracking_uri=uri, commands=commands)
    return RunResult(result, concluded)


def _places(
    experiment: Experiment, work: Path, source: Path | None, store: Path | None
) -> tuple[Path, Path | None]:
    """Return the store and the source of the main job, before hours are spent on it."""
    experiments.plan(experiment)
    folders = Work(work).create()
    place = find_store(experiment, folders, store)
    source = find_source(experiment, folders, source)
    if source is None and not place.exists():
        raise InputError(
            f"There is no store {place}, and no source to make it from. Name one of them, with "
            "--store or --source."
        )
    return place, source


def _is_simulated(source: Path | None) -> bool | None:
    return (source / TRUE_RISK).is_file() if source else None


def ui_command(work: Path) -> str:
    """Return the command that opens MLflow's pages on the runs of a work folder."""
    return shlex.join([program(), "ui", "--work", str(work)])


def program() -> str:
    """Return what to type for this program: its name, or its path if it is not on PATH."""
    own = Path(sys.executable).with_name("mimic-reg")
    if shutil.which("mimic-reg") or not own.is_file():
        return "mimic-reg"
    near = os.path.relpath(own)
    return str(own) if near.startswith("..") else near


# --- Prefect --------------------------------------------------------------------------------------


class RunParameters(OfExperiment):
    """Parameters of the flow: source and memory are those of the extraction."""

    source: Path | None = None
    memory: str = "4GB"


@flow(name="run", flow_run_name="run {parameters.name}", persist_result=False)
def run_flow(parameters: RunParameters) -> State[Any]:
    """Extract, then run a sweep with registry and report."""
    given = parameters
    experiment = given.load()
    place, source = _places(experiment, given.work, given.source, given.store)
    if source is not None:
        if experiment.images:
            with tags(*TAGS):
                images_task(str(source), str(place), experiment.images)
        else:
            extract_flow(ExtractParameters(source=source, store=place, memory=given.memory))
    same = dict(given) | {"store": place, "simulated": _is_simulated(source)}
    same = {name: same[name] for name in same.keys() - {"source", "memory"}}
    return sweep_flow(SweepParameters(**same), return_state=True)
