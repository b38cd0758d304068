"""The commands that search: `tune` and `compare`; thin: parse, call, print."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError
from mimic_reg.threads import DEFAULT_THREADS
from pipelines.options import (
    AddressOption,
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
from pipelines.printing import print_concluded, print_dry_run, print_failed

if TYPE_CHECKING:
    from mimic_reg.experiments import Experiment


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
    need_pipelines()
    from mimic_reg.report.formats import format_level
    from pipelines.flows import dry_run as planning
    from pipelines.flows import tune as tuning

    experiment = _search(config, task, model, method, option, supervision, seeds, max_epochs)
    tuning.check(experiment)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        print_dry_run(planning.of_sweep(experiment, store, work=work))
        return
    with progress(err) as shown:
        tuned = tuning.tune(experiment, work, store=store, running=running, progress=shown)
    for choice in tuned.choices:
        shown_rows = [
            [", ".join(f"{k}: {v}" for k, v in p.values.items()), f"{p.mean:.4f}", len(p.scores)]
            for p in choice.points
            if not p.missing
        ]
        title = f"{choice.task}, {choice.model}, {choice.method}, {format_level(choice.size)}"
        out.print(table(title, ["", f"validation {choice.best.score}", "seeds"], shown_rows))
        out.print(f"Wrote {escape(str(choice.file))}.")
    print_failed(tuned.result)
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


def compare(
    work: WorkOption,
    config: Annotated[
        str | None,
        typer.Option(
            help="An experiment whose grids have `own_search`, by name or as a YAML file; or say "
            "with the next options what to compare.",
            metavar="YAML",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="A task's name.")] = None,
    model: Annotated[str | None, typer.Option(help="A model's name.")] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names in configs/methods, comma-separated: see `mimic-reg methods`; or all.",
            metavar="A,B",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Trials of each method with its best strength.", min=1)
    ] = 5,
    supervision: Annotated[
        float | None, typer.Option(help="Share of the training samples; 1 by default.")
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
    """Compare methods: search each one's strength on validation, train what won, report.

    Each method tries the values that its file has under `search`, with seed 0, as many as every
    other one; the best is trained with all seeds. Started again it goes on where it was.
    """
    need_pipelines()
    from pipelines.flows import compare as comparing

    experiment = _comparison(config, task, model, methods, supervision, max_epochs, store, work)
    running = as_running(runner, workers, threads, device, address, gpus_per_run)
    if dry_run:
        plan = comparing.of_compare(experiment, work, seeds=range(seeds), store=store)
        print_dry_run(plan)
        for note in comparing.notes(experiment):
            out.print(escape(note), soft_wrap=True)
        return
    with progress(err) as shown:
        compared = comparing.compare(
            experiment,
            work,
            seeds=range(seeds),
            store=store,
            running=running,
            commands=[shlex.join(["mimic-reg", *sys.argv[1:]])],
            progress=shown,
        )
    for choice in compared.choices:
        out.print(escape(comparing.described(choice)), soft_wrap=True)
    print_concluded(compared.concluded)
    for problem in compared.problems:
        err.print(escape(problem), soft_wrap=True)
    print_failed(compared.result)
    raise typer.Exit(compared.exit_code)


def _comparison(
    config: str | None,
    task: str | None,
    model: str | None,
    methods: str | None,
    supervision: float | None,
    max_epochs: int | None,
    store: Path | None,
    work: Path,
) -> "Experiment":
    """Return the experiment of a comparison: that of a file, or the one that the options say."""
    from mimic_reg import experiments
    from pipelines.flows import compare as comparing

    if config is not None:
        if any(value is not None for value in (task, model, methods, supervision, max_epochs)):
            raise InputError(
                "--config says what to compare: leave out the options that describe it, but "
                "--seeds."
            )
        return experiments.load(config)
    if not (task and model and methods):
        raise InputError(
            "Say what to compare: --task, --model and --methods, as --methods none,dropout,l2; or "
            "else --config."
        )
    return comparing.comparison(
        task,
        model,
        [name.strip() for name in methods.split(",")],
        supervision=1.0 if supervision is None else supervision,
        training={} if max_epochs is None else {"max_epochs": max_epochs},
        store=store,
        work=work,
    )
