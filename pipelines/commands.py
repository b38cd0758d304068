"""The commands of `mimic-reg` that need Prefect or MLflow; thin: parse, call, print.

`mimic_reg.cli` finds `add_to` by its entry point, so that it need not know this package. Heavy
imports happen within the commands.
"""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError, MimicRegError
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
)

if TYPE_CHECKING:
    from mimic_reg.experiments import Experiment
    from pipelines.flows.dry_run import DryRun
    from pipelines.flows.report import Concluded
    from pipelines.flows.result import SweepResult


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, sweep, tune, predict, ui):
        app.command()(command)


def _need_pipelines() -> None:
    try:
        import mlflow  # noqa: F401
        import prefect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"This command needs {error.name}, which is not installed: "
            "pip install -c constraints.txt -e '.[pipelines]'"
        ) from error


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
    _need_pipelines()
    from mimic_reg import experiments
    from pipelines.flows import dry_run as planning
    from pipelines.flows import run as whole

    experiment = experiments.load(config)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        _print_dry_run(planning.of_run(experiment, work, source=source, store=store, memory=memory))
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
    _print_concluded(result.concluded)
    _print_failed(result.result)
    _print_comparison(work)
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
    _need_pipelines()
    from mimic_reg import experiments
    from pipelines.flows import dry_run as planning
    from pipelines.flows import report
    from pipelines.flows import sweep as sweeps

    experiment = experiments.load(config)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        _print_dry_run(planning.of_sweep(experiment, store, work=work))
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
    _print_concluded(concluded)
    _print_failed(result)
    _print_comparison(work)
    raise typer.Exit(result.exit_code)


def tune(
    work: WorkOption,
    config: Annotated[
        str | None,
        typer.Option(
            help="An experiment with a search, by name or as a YAML file; or say with the next "
            "options what to search.",
            metavar="YAML",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="A task's name.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's name.")] = None,
    method: Annotated[str | None, typer.Option(help="A method's name in configs/methods.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="What to try, as rate=0.2,0.5; several times for all combinations. Of a "
            "method with several parts: dropout.rate=0.2,0.5; of the model: "
            "logistic_regression.C=0.1,1.",
            metavar="NAME=A,B",
        ),
    ] = None,
    supervision: Annotated[
        float | None, typer.Option(help="Share of the training samples; 1 by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Trials of each combination; 3 by default.", min=1)
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Epochs at the most, instead of the task's own.")
    ] = None,
    store: StoreOption = None,
    dry_run: DryRunOption = False,
    runner: RunnerOption = Runner.pool,
    workers: WorkersOption = None,
    threads: ThreadsOption = DEFAULT_THREADS,
    device: DeviceOption = None,
    address: AddressOption = None,
    gpus_per_run: GpusOption = 0.0,
) -> None:
    """Search options of a method or model on the validation split; write the best as a YAML file.

    For instance: --task in_hospital_mortality --model lstm --method dropout --option rate=0.2,0.5
    """
    _need_pipelines()
    from mimic_reg.report.formats import format_level
    from pipelines.flows import dry_run as planning
    from pipelines.flows import tune as tuning

    experiment = _search(config, task, model, method, option, supervision, seeds, max_epochs)
    tuning.check(experiment)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        _print_dry_run(planning.of_sweep(experiment, store, work=work))
        return
    with progress(err) as shown:
        tuned = tuning.tune(experiment, work, store=store, running=running, progress=shown)
    for choice in tuned.choices:
        shown_rows = [
            [", ".join(f"{k}: {v}" for k, v in p.values.items()), f"{p.mean:.4f}", len(p.scores)]
            for p in choice.points
            if not p.missing
        ]
        title = (
            f"{choice.task}, {choice.model}, {choice.method}, {format_level(choice.supervision)}"
        )
        out.print(table(title, ["", f"validation {choice.best.score}", "seeds"], shown_rows))
        out.print(f"Wrote {escape(str(choice.file))}.")
    _print_failed(tuned.result)
    raise typer.Exit(tuned.exit_code)


def _search(
    config: str | None,
    task: str | None,
    model: str | None,
    method: str | None,
    option: list[str] | None,
    supervision: float | None,
    seeds: int | None,
    max_epochs: int | None,
) -> "Experiment":
    """The experiment of a search: that of a file, or the one that the options describe."""
    from mimic_reg import experiments
    from pipelines.flows import tune as tuning

    needed = (task, model, method, option)
    if config is not None and any(
        value is not None for value in (*needed, supervision, seeds, max_epochs)
    ):
        raise InputError("--config says all of the search: leave out the options that describe it.")
    if config is not None:
        return experiments.load(config)
    if not (task and model and method and option):
        raise InputError(
            "Say what to search: --task, --model, --method and --option, or else --config."
        )
    return tuning.search(
        task,
        model,
        method,
        tuning.parse_options(option, method),
        supervision=1.0 if supervision is None else supervision,
        seeds=3 if seeds is None else seeds,
        training={} if max_epochs is None else {"max_epochs": max_epochs},
    )


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
    _need_pipelines()
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
    _need_pipelines()
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


def _print_dry_run(plan: "DryRun") -> None:
    from mimic_reg.report.formats import format_level
    from pipelines.flows.dry_run import format_seconds

    rows = [
        [
            line.task,
            line.model,
            line.method,
            format_level(line.supervision),
            line.epochs,
            len(line.seeds),
            line.finished,
            "" if line.seconds is None else format_seconds(line.seconds),
        ]
        for line in plan.lines
    ]
    columns = ["task", "model", "method", "supervision", "epochs", "trials", "finished", "at most"]
    if plan.extraction:
        out.print(escape(plan.extraction), soft_wrap=True)
    out.print(table("Trials", columns, rows))
    out.print(escape(plan.summary), soft_wrap=True)


def _print_concluded(concluded: "Concluded | None") -> None:
    if concluded is None:
        return
    out.print(escape(concluded.markdown), soft_wrap=True)
    for registered in concluded.registered:
        what = "champion" if registered.champion else "not champion"
        text = f"Registered {registered.name}, version {registered.version}: {what}. "
        out.print(escape(text + registered.why), soft_wrap=True)
    out.print(f"Report: [bold]{escape(str(concluded.report))}[/]", soft_wrap=True)


def _print_comparison(work: Path) -> None:
    """Tell where to compare the runs: the links of a server, or the command that starts one."""
    from pipelines.deploy import ui as pages
    from pipelines.flows.run import ui_command
    from pipelines.tracking import client

    uri = client.database(work)
    if not uri.startswith("http"):
        out.print(
            f"Compare the runs in MLflow: [bold]{escape(ui_command(work, None))}[/]", soft_wrap=True
        )
        return
    with client.answering(uri):
        for name, link in pages.links(uri, client.without_login(uri)).items():
            out.print(f"{escape(name)}: [bold]{escape(link)}[/]", soft_wrap=True)


def _print_failed(result: "SweepResult") -> None:
    """List what has no result; raise if nothing has."""
    for trial in result.failed:
        err.print(f"No result: {escape(trial.name)}: {escape(trial.error or trial.status)}")
    if len(result.failed) == len(result.trials):
        raise MimicRegError("No trial has a result.")
