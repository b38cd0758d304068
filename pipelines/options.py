"""The options that commands share, and what those of a runner come to."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimic_reg.errors import InputError
from mimic_reg.threads import MAX_THREADS

if TYPE_CHECKING:
    from pipelines.runners.settings import Running


class Runner(StrEnum):
    """How trials are run."""

    in_process = "in_process"
    pool = "pool"
    ray = "ray"


ConfigOption = Annotated[
    str,
    typer.Option(
        "--config", help="An experiment in configs/experiments, or a YAML file.", metavar="YAML"
    ),
]
WorkOption = Annotated[
    Path,
    typer.Option("--out", help="Work folder: store, runs, report, MLflow's data.", metavar="WORK"),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(help="The cohort store, if it is not in the work folder.", metavar="STORE"),
]
RunnerOption = Annotated[
    Runner, typer.Option(help="One after the other here, processes, or a Ray cluster.")
]
WorkersOption = Annotated[int | None, typer.Option(help="Trials at a time.", min=1)]
ThreadsOption = Annotated[
    int,
    typer.Option(
        help="Threads of torch for a trial; another number gives other last digits.",
        min=1,
        max=MAX_THREADS,
    ),
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; GPUs in turn if any.")]
AddressOption = Annotated[str | None, typer.Option(help="Of the Ray cluster.")]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be done, and at most how long; do nothing."),
]
GpusOption = Annotated[float, typer.Option(help="That Ray reserves for a trial, such as 0.5.")]


def as_running(
    runner: Runner,
    workers: int | None,
    threads: int,
    device: str | None,
    address: str | None,
    gpus_per_run: float,
) -> "Running":
    """Return how trials are run.

    Raises:
        InputError: options that do not go together.
    """
    from pydantic import ValidationError

    from pipelines.runners.settings import Running

    try:
        return Running(
            runner=runner.value,
            workers=workers,
            threads=threads,
            device=device,
            address=address,
            gpus_per_run=gpus_per_run,
        )
    except ValidationError as error:
        told = (e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise InputError(f"{'; '.join(told)}.") from error


def need_pipelines() -> None:
    """Refuse a command where Prefect or MLflow is missing."""
    try:
        import mlflow  # noqa: F401
        import prefect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"This command needs {error.name}, which is not installed: "
            "pip install -c constraints.txt -e '.[pipelines]'"
        ) from error
