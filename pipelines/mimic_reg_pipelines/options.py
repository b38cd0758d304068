"""Options of the commands that run trials, and what they need installed."""

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic_reg.cli.command import MAY_BE_URL
from mimic_reg.cli.options import SET_EXAMPLE, DeviceOption, ThreadsOption, complete, there
from mimic_reg.errors import InputError, install_advice
from mimic_reg.threads import DEFAULT_THREADS

if TYPE_CHECKING:
    from mimic_reg_pipelines.runners.settings import Running

MAX_PER_DEVICE = 1000


class Runner(StrEnum):
    """How trials are run."""

    in_process = "in_process"
    pool = "pool"
    ray = "ray"


ConfigOption = Annotated[
    str,
    typer.Option(
        "--config",
        help="An experiment's name (`mimic-reg list experiments`), or a YAML file.",
        metavar="EXPERIMENT",
        autocompletion=complete("experiments"),
    ),
]
WorkOption = Annotated[
    Path,
    typer.Option(
        "--out", help="Work folder: store, runs, reports, MLflow's database.", metavar="WORK"
    ),
]
StoreOption = Annotated[
    Path | None,
    MAY_BE_URL,
    typer.Option(
        "--store",
        help="The store, or its URL (s3://…); by default that of the work folder.",
        metavar="STORE",
        callback=there,
    ),
]


def with_running(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of a runner in place of its parameter `running`."""

    def command(
        *,
        runner: Annotated[
            Runner,
            typer.Option(
                help="Trials one by one in this process, in a pool of processes, or on Ray.",
                metavar="in_process|pool|ray",
            ),
        ] = Runner.pool,
        workers: Annotated[
            int | None,
            typer.Option(
                help="Trials at a time; by default one for each core.", min=1, metavar="N"
            ),
        ] = None,
        per_device: Annotated[
            str | None,
            typer.Option(
                help="Trials at a time on each GPU, or on the CPU; auto: as many as memory has "
                "room for.",
                metavar="N|auto",
            ),
        ] = None,
        threads: ThreadsOption = None,
        device: DeviceOption = None,
        address: Annotated[
            str | None,
            typer.Option(
                "--ray-address",
                help="Ray's cluster, or `auto`; by default one is started on this machine.",
                metavar="HOST:PORT",
            ),
        ] = None,
        gpus_per_run: Annotated[
            float,
            typer.Option(
                help="Part of a GPU that Ray reserves for a trial, such as 0.25; 0: CPUs.",
                metavar="N",
            ),
        ] = 0.0,
        **given: Any,
    ) -> Any:
        running = _running(
            runner=runner.value,
            workers=workers,
            per_device=_number_or_auto(per_device),
            threads=threads or DEFAULT_THREADS,
            device=device,
            address=address,
            gpus_per_run=gpus_per_run,
        )
        return function(**given, running=running)

    signature = inspect.signature(function, eval_str=True)
    own = [p for name, p in signature.parameters.items() if name != "running"]
    added = inspect.signature(command).parameters.values()
    parameters = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for p in (*own, *added)
        if p.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    functools.update_wrapper(command, function)
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return command


def _number_or_auto(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PER_DEVICE:
        raise InputError(
            f"--per-device is {text!r}: give a number from 1 to {MAX_PER_DEVICE}, or auto."
        )
    return int(text)


def _running(**options: Any) -> "Running":
    """Return how trials are run.

    Raises:
        InputError: options that exclude each other.
    """
    from pydantic import ValidationError

    from mimic_reg_pipelines.runners.settings import Running

    try:
        return Running(**options)
    except ValidationError as error:
        told = (e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise InputError(f"{'; '.join(told)}.") from error


def changes(texts: list[str] | None) -> dict[str, Any]:
    """Return the settings that --set replaces.

    Raises:
        InputError: a text that is not NAME=VALUE.
    """
    from mimic_reg.multitask.changes import parse_pairs

    return parse_pairs(texts or [], "--set", SET_EXAMPLE)


def need_pipelines() -> None:
    """Refuse a command where Prefect or MLflow is missing."""
    for name in ("mlflow", "prefect"):
        if find_spec(name) is None:
            raise InputError(
                f"This command needs {name}, which is not installed: {install_advice('pipelines')}"
            )
