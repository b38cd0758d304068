"""The commands of `mimic-reg` that need Prefect or MLflow; thin: parse, call, print.

`mimic_reg.cli` finds `add_to` by its entry point, so that it need not know this package. Heavy
imports happen within the commands.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress
from mimic_reg.errors import InputError
from mimic_reg.threads import DEFAULT_THREADS
from pipelines.options import (
    AddressOption,
    ConfigOption,
    DeviceOption,
    DryRunOption,
    GpusOption,
    Runner,
    RunnerOption,
    StoreOption,
    ThreadsOption,
    WorkersOption,
    WorkOption,
    as_running,
    need_pipelines,
)
from pipelines.printing import print_comparison, print_concluded, print_dry_run, print_failed
from pipelines.searches import compare, tune


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, sweep, tune, compare, predict, ui):
        app.command()(command)


def run(
    config: ConfigOption,
    work: WorkOption,
    source: Annotated[
        Path | None,
        typer.Option(help="MIMIC-III's tables; without it, the store as it is.", metavar="DIR"),
    ] = None,
    store: StoreOption = None,
    memory: Annotated[str, typer.Option(help="Memory of the extraction.")] = "4GB",
    dry_run: DryRunOption = False,
    runner: RunnerOption = Runner.pool,
    workers: WorkersOption = None,
    threads: ThreadsOption = DEFAULT_THREADS,
    device: DeviceOption = None,
    address: AddressOption = None,
    gpus_per_run: GpusOption = 0.0,
) -> None:
    """The whole job: extract, run all trials of an experiment, register the best, report.

    Started again it goes on where it was: what is finished is not done twice.
    """
    need_pipelines()
    from mimic_reg import experiments
    from pipelines.flows import dry_run as planning
    from pipelines.flows import run as whole

    experiment = experiments.load(config)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        print_dry_run(planning.of_run(experiment, work, source=source, store=store, memory=memory))
        return
    with progress(err) as shown:
        result = whole.run(
            experiment,
            work,
            source=source,
            store=store,
            memory=memory,
            running=running,
            command=shlex.join(["mimic-reg", *sys.argv[1:]]),
            progress=shown,
        )
    print_concluded(result.concluded)
    print_failed(result.result)
    print_comparison(work)
    raise typer.Exit(result.exit_code)


def sweep(
    config: ConfigOption,
    work: WorkOption,
    store: StoreOption = None,
    dry_run: DryRunOption = False,
    runner: RunnerOption = Runner.pool,
    workers: WorkersOption = None,
    threads: ThreadsOption = DEFAULT_THREADS,
    device: DeviceOption = None,
    address: AddressOption = None,
    gpus_per_run: GpusOption = 0.0,
) -> None:
    """Run all trials of an experiment on a store; register the best of each task and report.

    A trial that fails stops no other one. A sweep that was stopped goes on where it was.
    """
    need_pipelines()
    from mimic_reg import experiments
    from pipelines.flows import dry_run as planning
    from pipelines.flows import report
    from pipelines.flows import sweep as sweeps

    experiment = experiments.load(config)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        print_dry_run(planning.of_sweep(experiment, store, work=work))
        return
    with progress(err) as shown:
        result = sweeps.sweep(
            experiment,
            work,
            store=store,
            running=running,
            progress=shown,
        )
        concluded = (
            report.conclude(result, progress=shown) if any(t.done for t in result.trials) else None
        )
    print_concluded(concluded)
    print_failed(result)
    print_comparison(work)
    raise typer.Exit(result.exit_code)


def predict(
    model: Annotated[
        str,
        typer.Option(
            help="A run's folder, or models:/NAME@champion of the registry.", metavar="MODEL"
        ),
    ],
    store: Annotated[Path, typer.Option(help="The cohort store.", metavar="STORE")],
    file: Annotated[
        Path, typer.Option("--out", help="Parquet file for the predictions.", metavar="FILE")
    ],
    work: Annotated[
        Path | None,
        typer.Option(help="The work folder whose registry holds the model.", metavar="WORK"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    threads: ThreadsOption = DEFAULT_THREADS,
) -> None:
    """Predict for every sample of a store, with a run's or a registered model."""
    need_pipelines()
    from pipelines.tracking import client, serving

    uri = client.database_there(work) if work else None
    with progress(err) as shown:
        count = serving.predict(
            model, store, file, uri=uri, device=device, threads=threads, progress=shown
        )
    out.print(
        f"Wrote {count:,} predictions to {escape(str(file))}. Of ICU stays, such a file holds ids."
    )


def ui(
    work: Annotated[
        Path | None, typer.Option(help="A work folder with MLflow's data.", metavar="WORK")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(help="MLflow's store, if it is elsewhere.", metavar="URI")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where it answers; wider than this machine with a password only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its port.", min=1, max=65535)] = 5000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="A name under which browsers reach a wider host.", metavar="NAME:PORT"),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="Ask for the user admin and the password in this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Open MLflow's pages on this machine, to compare runs; Ctrl-C ends them."""
    need_pipelines()
    from pipelines.deploy import ui as pages
    from pipelines.tracking import client

    if (work is None) == (tracking is None):
        raise InputError("Say where the runs are: either --work WORK or --tracking URI.")
    if work is not None and not work.is_dir():
        raise InputError(f"{work} is not a work folder. Make one with `mimic-reg run`.")
    uri = tracking or client.database_there(work or Path())
    with progress(err) as shown, pages.passwords(uri, password_file) as authentication:
        pages.serve_ui(
            uri,
            host,
            port,
            allowed_hosts=allowed_host or (),
            authentication=authentication,
            progress=shown,
        )
