"""The commands of `mimic-reg` around Prefect and MLflow; thin: parse, call, print.

`mimic_reg.cli` finds `add_to` by its entry point, so that it need not know this package. Prefect
and MLflow are loaded within the commands that use them.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from mimic_reg.cli import command
from mimic_reg.cli.options import (
    DeviceOption,
    DryRunOption,
    MemoryOption,
    SetOption,
    ThreadsOption,
    typed,
)
from mimic_reg.cli.options import StoreOption as NeededStore
from mimic_reg.console import err, progress, say
from mimic_reg.errors import InputError
from mimic_reg.threads import DEFAULT_THREADS
from mimic_reg_pipelines.options import (
    ConfigOption,
    StoreOption,
    WorkOption,
    changes,
    need_pipelines,
    with_running,
)
from mimic_reg_pipelines.printing import (
    ended,
    print_comparison,
    print_concluded,
    print_dry_run,
    print_failed,
)
from mimic_reg_pipelines.searches import compare, tune


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    command.add(app, with_running(run), with_running(sweep))
    command.add(app, with_running(tune), with_running(compare), predict)
    command.add(app, ui, as_json=False)


def run(
    config: ConfigOption,
    work: WorkOption,
    running: Any,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Folder with MIMIC-III's tables, or images; without it the store is used as it "
            "is.",
            metavar="DIR",
        ),
    ] = None,
    store: StoreOption = None,
    memory: MemoryOption = "4GB",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Do the whole job: extract, train all trials of an experiment, report.

    The best model of each task is registered. The same command continues where it was stopped.
    """
    from mimic_reg import experiments
    from mimic_reg_pipelines.flows import dry_run as planning

    experiment = experiments.load(config, changes(set_))
    if dry_run:
        plan = planning.of_run(experiment, work, source=source, store=store, memory=memory)
        return print_dry_run(plan)
    need_pipelines()
    from mimic_reg_pipelines.flows import run as whole

    with progress(err) as shown:
        done = whole.run(
            experiment,
            work,
            source=source,
            store=store,
            memory=memory,
            running=running,
            command=typed(),
            progress=shown,
        )
    print_concluded(done.concluded)
    print_failed(done.result)
    print_comparison(work)
    return ended(done.result, done.concluded)


def sweep(
    config: ConfigOption,
    work: WorkOption,
    running: Any,
    store: StoreOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Train all trials of an experiment on a store, and report.

    The best model of each task is registered. A trial that fails does not stop the others. The same
    command continues where it was stopped.
    """
    from mimic_reg import experiments
    from mimic_reg_pipelines.flows import dry_run as planning

    experiment = experiments.load(config, changes(set_))
    if dry_run:
        return print_dry_run(planning.of_sweep(experiment, store, work=work))
    need_pipelines()
    from mimic_reg_pipelines.flows import report
    from mimic_reg_pipelines.flows import sweep as sweeps

    with progress(err) as shown:
        result = sweeps.sweep(experiment, work, store=store, running=running, progress=shown)
        done = any(t.done for t in result.trials)
        concluded = report.conclude(result, commands=[typed()]) if done else None
    print_concluded(concluded)
    print_failed(result)
    print_comparison(work)
    return ended(result, concluded)


def predict(
    model: Annotated[
        str,
        typer.Option(
            help="A run folder, or models:/NAME@champion of the registry.", metavar="MODEL"
        ),
    ],
    store: NeededStore,
    file: Annotated[
        Path, typer.Option("--out", help="Parquet file for the predictions.", metavar="FILE")
    ],
    work: Annotated[
        Path | None,
        typer.Option(help="The work folder whose registry has the model.", metavar="WORK"),
    ] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> Any:
    """Predict every sample of a store with a trained model."""
    how: dict[str, Any] = {"device": device, "threads": threads or DEFAULT_THREADS}
    with progress(err) as shown:
        if ":/" in model:
            need_pipelines()
            from mimic_reg_pipelines.tracking import client, serving

            uri = client.database_there(work) if work else None
            count = serving.predict(model, store, file, uri=uri, progress=shown, **how)
        else:
            from mimic_reg.serving.predicting import predict as predict_here

            count = predict_here(Path(model), store, file, progress=shown, **how)
    say(f"Wrote {count:,} predictions to {file}.")
    say("The file has ids of ICU stays, so only you can read it.")
    return {"file": file, "predictions": count}


def ui(
    work: Annotated[
        Path | None, typer.Option(help="A work folder with MLflow's database.", metavar="WORK")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(help="MLflow's store, if it is elsewhere.", metavar="URI")
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Other machines can only be let in with a password.",
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on.", min=1, max=65535, metavar="N")
    ] = 5000,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which browsers on other machines reach it.", metavar="NAME:PORT"
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(help="Ask for the user admin and the password in this file.", metavar="FILE"),
    ] = None,
) -> None:
    """Open MLflow's pages on this machine, to compare runs; Ctrl-C ends them."""
    need_pipelines()
    from mimic_reg_pipelines.deploy import ui as pages
    from mimic_reg_pipelines.tracking import client

    if (work is None) == (tracking is None):
        raise InputError("Say where the runs are: either --work WORK or --tracking URI.")
    if work is not None and not work.is_dir():
        raise InputError(f"There is no work folder {work}. Make one with `mimic-reg run`.")
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
