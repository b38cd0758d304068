"""The commands of `mimic-reg` around Prefect and MLflow; thin: parse, call, print.

`mimic_reg.cli` finds `add_to` by its entry point, so that it need not know this package. Prefect
and MLflow are loaded within the commands that use them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mimic_reg.cli import command
from mimic_reg.cli.options import (
    AllowMissingOption,
    DeviceOption,
    DryRunOption,
    MemoryOption,
    SetOption,
    ThreadsOption,
    there,
    typed,
)
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
    print_predicted,
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
            callback=there,
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
    file: Annotated[
        Path, typer.Option("--out", help="Parquet file for the predictions.", metavar="FILE")
    ],
    store: Annotated[
        Path | None,
        command.MAY_BE_URL,
        typer.Option(
            help="Predict every sample of this store. With --source: where the store of a run is "
            "now, if it was moved.",
            metavar="STORE",
            callback=there,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Predict current stays, from raw tables without outcomes: those of MIMIC, or dyn "
            "and sta.",
            metavar="DIR",
            callback=there,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="With --source: hours after admission, such as 24,48. By default the last full "
            "hour of each stay.",
            metavar="H,H",
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            help="With --source: every hour of each stay, or every so many hours.",
            metavar="hour|N",
        ),
    ] = None,
    now: Annotated[
        str | None,
        typer.Option(
            help="With --source: leave out what was measured after this time, such as '2130-05-01 "
            "14:00:00'. By default the time of the latest measurement.",
            metavar="TIME",
        ),
    ] = None,
    allow_missing: AllowMissingOption = False,
    work: Annotated[
        Path | None,
        typer.Option(help="The work folder whose registry has the model.", metavar="WORK"),
    ] = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> Any:
    """Predict every sample of a store, or current stays from raw tables, with a trained model.

    With --source, a row is a stay at an hour. It has the names of the variables that were not
    measured up to then. Stays that are left out are counted by reason.
    """
    if ":/" not in model and not os.path.exists(model):
        raise InputError(
            f"There is no folder {model}. Name a run folder, or a registered model as "
            "models:/NAME@champion."
        )
    from mimic_reg.serving import predicting
    from mimic_reg.serving.current import Hours, parse_now

    if source is None and (store is None or at or every or now):
        raise InputError(
            "Say what to predict: --store STORE, or --source DIR with --at, --every and --now."
        )
    hours, until = Hours.parse(at, every), parse_now(now)
    how: dict[str, Any] = {
        "allow_missing": allow_missing,
        "device": device,
        "threads": threads or DEFAULT_THREADS,
    }
    with progress(err) as shown, _model_folder(model, work) as folder:
        if source is None:
            assert store is not None
            count = predicting.predict(folder, store, file, progress=shown, **how)
            result: dict[str, Any] = {"file": file, "predictions": count}
        else:
            done = predicting.predict_source(
                folder, source, file, hours, now=until, store=store, progress=shown, **how
            )
            result = print_predicted(done, file)
    say(f"Wrote {result['predictions']:,} predictions to {file}.")
    say("The file has ids of ICU stays, so only you can read it.")
    return result


@contextmanager
def _model_folder(model: str, work: Path | None) -> Iterator[Path]:
    """Yield the folder of a run or an exported model; one of the registry is downloaded."""
    if ":/" not in model:
        yield Path(model)
        return
    need_pipelines()
    from mimic_reg_pipelines.tracking import client, serving

    with serving.located(model, client.database_there(work) if work else None) as folder:
        yield folder


def ui(
    work: Annotated[
        Path | None,
        typer.Option(help="A work folder with MLflow's database.", metavar="WORK", callback=there),
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
    if (work is None) == (tracking is None):
        raise InputError("Say where the runs are: either --work WORK or --tracking URI.")
    if work is not None and not work.is_dir():
        raise InputError(f"{work} is not a folder. Name a work folder; `mimic-reg run` makes one.")
    need_pipelines()
    from mimic_reg_pipelines.deploy import ui as pages
    from mimic_reg_pipelines.tracking import client

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
