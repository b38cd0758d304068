"""A flow that updates the cohort store and shows its counts."""

from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from pydantic import field_validator

from mimic_reg import extraction
from mimic_reg.errors import InputError
from mimic_reg.extraction.memory import parse_memory
from mimic_reg.metrics.small_counts import LEAST
from mimic_reg.report.cohort import samples_table
from mimic_reg.report.cohort.flow import boxes
from mimic_reg.sources.images import import_images
from mimic_reg.store import Store
from mimic_reg_pipelines.flows.artifacts import PrefectProgress, artifact_key
from mimic_reg_pipelines.flows.tasks import TASK, TWICE_MORE
from mimic_reg_pipelines.runners.settings import Parameters


class ExtractParameters(Parameters):
    """Parameters of the flow, as `mimic-reg extract` has them.

    source: folder with MIMIC-III's tables, .csv or .csv.gz
    store:  the store to write or to bring up to date
    tasks:  null: all
    allow_empty: event tables that may be a header without rows
    """

    source: Path
    store: Path
    tasks: tuple[str, ...] | None = None
    mode: Literal["benchmark", "corrected"] = "benchmark"
    memory: str = "4GB"
    force: bool = False
    allow_empty: tuple[str, ...] = ()

    @field_validator("memory")
    @classmethod
    def _readable(cls, memory: str) -> str:
        parse_memory(memory)
        return memory


def may_help(task: Any, run: Any, state: State[Any]) -> bool:
    """Return whether a retry can help: a disk or a lock was away, but the request is right."""
    return not isinstance(state.result(raise_on_failure=False), InputError)


@task(
    name="extract",
    task_run_name="extract {parameters.store}",
    retry_condition_fn=may_help,
    **TWICE_MORE,
)
def extract(parameters: ExtractParameters) -> dict[str, Any]:
    """Extract, continuing after the finished stages; return the result as JSON."""
    given = parameters
    result = extraction.extract(
        given.source,
        given.store,
        task_names=given.tasks,
        mode=given.mode,
        memory=parse_memory(given.memory),
        force=given.force,
        allow_empty=given.allow_empty,
        progress=PrefectProgress("extract"),
    )
    return {
        "status": result.status,
        "store": str(given.store),
        "fingerprint": result.store.manifest["fingerprint"],
        "cohort_flow": result.audit["cohort_flow"],
        "samples": result.audit["samples"],
        "seconds": sum(result.seconds.values()),
    }


@task(name="import images", task_run_name="images {store}", **TASK)
def images_task(source: str, store: str, name: str) -> None:
    """Make a store of images, unless there is one."""
    import_images(Path(source), Path(store), name=name, progress=PrefectProgress("images"))


@flow(name="extract_cohorts", flow_run_name="extract {parameters.store}", persist_result=False)
def extract_flow(parameters: ExtractParameters) -> dict[str, Any]:
    """Extract the benchmark's cohorts from MIMIC-III, unless the source is unchanged."""
    done = extract(parameters)
    create_table_artifact(
        key=artifact_key("cohort-flow"),
        table=[{"step": box.step, **box.left} for box in boxes(done["cohort_flow"], LEAST)],
        description=f"Cohort of {done['store']} ({done['status']})",
    )
    header, rows = samples_table(Store.open(done["store"]))
    create_table_artifact(
        key=artifact_key("samples"),
        table=[dict(zip(header, row, strict=True)) for row in rows],
        description=f"Samples of {done['store']}",
    )
    return {name: done[name] for name in ("status", "store", "fingerprint", "seconds")}
