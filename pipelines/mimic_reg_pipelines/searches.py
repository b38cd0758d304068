"""The commands that search: `tune` and `compare`; thin: parse, call, print."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic_reg.cli.checks import print_findings
from mimic_reg.cli.command import Result
from mimic_reg.cli.options import DryRunOption, SetOption, listed, typed
from mimic_reg.console import err, out, progress, say, table
from mimic_reg.errors import InputError
from mimic_reg_pipelines.options import StoreOption, WorkOption, changes, need_pipelines
from mimic_reg_pipelines.printing import print_concluded, print_dry_run, print_failed

if TYPE_CHECKING:
    from mimic_reg.experiments import Experiment
    from mimic_reg_pipelines.flows.tune import Choice

TaskOption = Annotated[str | None, typer.Option("--task", help="A task's name.", metavar="TASK")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="A model's name; with --points also several.", metavar="A,B"),
]
PointsOption = Annotated[
    int | None,
    typer.Option(
        "--points",
        help="Points that each model with each method takes from its own `space` (see its file): "
        "the same number for all. The first ten are random; Optuna's TPE chooses the others.",
        min=1,
        metavar="N",
    ),
]
SearchSeedOption = Annotated[
    int | None,
    typer.Option("--search-seed", help="Seed of the points; 0 by default.", min=0, metavar="N"),
]
ShareOption = Annotated[
    float | None,
    typer.Option(
        "--supervision", help="Share of the training samples; 1 by default.", metavar="SHARE"
    ),
]


def tune(
    work: WorkOption,
    running: Any,
    config: Annotated[
        str | None,
        typer.Option(
            help="An experiment with a search, by name or as a YAML file, in place of the next "
            "options.",
            metavar="EXPERIMENT",
        ),
    ] = None,
    task: TaskOption = None,
    model: ModelOption = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="A method's name in configs/methods; with --points also several.", metavar="A,B"
        ),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="Values to try, of the method or the model: dropout.rate=0.2,0.5 or "
            "logistic_regression.C=0.1,1. Repeat it to try all combinations.",
            metavar="NAME=A,B",
        ),
    ] = None,
    points: PointsOption = None,
    search_seed: SearchSeedOption = None,
    supervision: ShareOption = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Trials of each combination or point; 3 by default.", min=1, metavar="N"),
    ] = None,
    store: StoreOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Search values of a method's or model's options, judged on validation.

    The best are written as a YAML file for `mimic-reg train`; of a cohort with folds, a file for
    each fold, chosen on its own validation part. For example:

    \b
      mimic-reg tune --task in_hospital_mortality --model lstm --out work \\
        --method dropout --search dropout.rate=0.2,0.5

    \b
      mimic-reg tune --task in_hospital_mortality --model lstm,gru --out work \\
        --method none,dropout --points 20
    """
    from mimic_reg.multitask.changes import parse_pairs
    from mimic_reg_pipelines.flows import dry_run as planning
    from mimic_reg_pipelines.flows import search as searching

    options = {
        **{"--task": task, "--model": model, "--method": method, "--search": search},
        **{"--points": points, "--search-seed": search_seed},
        **{"--supervision": supervision, "--seeds": seeds},
    }
    if config is not None:
        experiment = _of_file(config, options, set_)
    elif task and model and method and (search or points):
        tried = _points(points, search_seed)
        if search and tried:
            raise InputError("--search names values, --points takes them from spaces: give one.")
        experiment = searching.search(
            task,
            listed([model]) if tried else model,
            listed([method]) if tried else method,
            parse_pairs(search or (), "--search", "dropout.rate=0.2,0.5", several=True),
            points=tried,
            supervision=1.0 if supervision is None else supervision,
            seeds=3 if seeds is None else seeds,
            changes=changes(set_),
            store=store,
            work=work,
        )
    else:
        raise InputError(
            "Say what to search: give --task, --model, --method and --search or --points, or else "
            "--config."
        )
    searching.check(experiment)
    if dry_run:
        return print_dry_run(planning.of_sweep(experiment, store, work=work))
    need_pipelines()
    from mimic_reg.checks import check_store
    from mimic_reg.report.leakage import is_cheap
    from mimic_reg.store import Store
    from mimic_reg_pipelines.flows import tune as tuning
    from mimic_reg_pipelines.flows.points import format_values

    with progress(err) as shown:
        tuned = tuning.tune(experiment, work, store=store, running=running, progress=shown)
    for choice in tuned.choices:
        rows = [
            [format_values(p.values), f"{p.mean:.4f}{p.mark}", len(p.scores)]
            for p in choice.points
            if not p.missing
        ]
        out.print(table(choice.title, ["", f"validation {choice.best.score}", "seeds"], rows))
        say(choice.sentence)
        say(f"Its values are in {choice.file}. To use them:")
        say(_train(choice, tuned.result.store, experiment.set))
    for problem in tuned.problems:
        say(problem, err)
    opened = Store.open(tuned.result.store)
    if is_cheap(opened):
        print_findings(check_store(opened, sorted({choice.task for choice in tuned.choices})))
    print_failed(tuned.result)
    return Result([_plain(choice) for choice in tuned.choices], tuned.exit_code)


def _train(choice: "Choice", store: Path, changed: Mapping[str, Any]) -> str:
    """Return the command that trains with the best values of a search."""
    from mimic_reg.store.remote import recorded
    from mimic_reg_pipelines.flows.run import program

    size = choice.size
    share = ["--supervision", f"{size.supervision:g}"] if size.supervision not in (None, 1) else []
    words = [program(), "train", "--store", recorded(store), *choice.options, *share]
    for name, value in changed.items():
        words += ["--set", f"{name}={json.dumps(value)}"]
    return shlex.join([*words, "--out", "RUN"])


def _plain(choice: "Choice") -> dict[str, Any]:
    points = [
        {
            **{"values": p.values, "mean": p.mean, "scores": p.scores, "missing": p.missing},
            "hardly_trained": p.hardly_trained,
        }
        for p in choice.points
    ]
    return {
        "task": choice.task,
        "model": choice.model,
        "method": choice.method,
        "size": choice.size,
        **({} if choice.fold is None else {"fold": choice.fold}),
        "score": choice.best.score,
        "best": choice.best.values,
        "mean": choice.best.mean,
        "points": points,
        "file": choice.file,
    }


def _of_file(config: str, others: Mapping[str, Any], set_: list[str] | None) -> "Experiment":
    """Return the experiment of a file; refuse the other options that describe one."""
    from mimic_reg import experiments

    if any(value is not None for value in others.values()):
        *first, last = others
        raise InputError(
            f"--config describes the whole search: leave out {', '.join(first)} and {last}."
        )
    return experiments.load(config, changes(set_))


def _points(number: int | None, seed: int | None) -> dict[str, int] | None:
    """Return how many points a search takes, and its seed; None without --points."""
    if number is None:
        if seed is not None:
            raise InputError("--search-seed is the seed of --points: give both, or neither.")
        return None
    return {"points": number, "search_seed": seed or 0}


def compare(
    work: WorkOption,
    running: Any,
    config: Annotated[
        str | None,
        typer.Option(
            help="An experiment with a search of each method, by name or as a YAML file, in place "
            "of --task, --model, --methods and --supervision.",
            metavar="EXPERIMENT",
        ),
    ] = None,
    task: TaskOption = None,
    model: ModelOption = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names of methods (`mimic-reg list methods`), or all. FAMILY/NAME takes the "
            "values of another family of models.",
            metavar="A,B",
        ),
    ] = None,
    points: PointsOption = None,
    search_seed: SearchSeedOption = None,
    seeds: Annotated[
        int, typer.Option(help="Trials of each method with its best values.", min=1, metavar="N")
    ] = 5,
    supervision: ShareOption = None,
    store: StoreOption = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Compare methods fairly: tune each on validation, train the best, report.

    Each method tries the values under `search` in its file, or --points of its space, as many as
    every other method, with seed 0. The best values are trained with all seeds. In a cohort with
    folds, each fold chooses for itself. The same command
    continues where it was stopped.
    """
    from mimic_reg_pipelines.flows import search as searching

    options = {
        **{"--task": task, "--model": model, "--methods": methods, "--points": points},
        **{"--search-seed": search_seed, "--supervision": supervision},
    }
    if config is not None:
        experiment = _of_file(config, options, set_)
    elif task and model and methods:
        experiment = searching.comparison(
            task,
            listed([model]),
            listed([methods]),
            points=_points(points, search_seed),
            supervision=1.0 if supervision is None else supervision,
            changes=changes(set_),
            store=store,
            work=work,
        )
    else:
        raise InputError(
            "Say what to compare: give --task, --model and --methods, such as --methods "
            "none,dropout,l2, or else --config."
        )
    if dry_run:
        plan = searching.of_compare(experiment, work, seeds=range(seeds), store=store)
        found = print_dry_run(plan)
        for note in searching.notes(experiment):
            say(note)
        return found
    searching.check_fair(experiment)
    need_pipelines()
    from mimic_reg_pipelines.flows import compare as comparing

    with progress(err) as shown:
        compared = comparing.compare(
            experiment,
            work,
            seeds=range(seeds),
            store=store,
            running=running,
            commands=[typed()],
            progress=shown,
        )
    for choice in compared.choices:
        say(choice.sentence)
    print_concluded(compared.concluded)
    for problem in compared.problems:
        say(problem, err)
    print_failed(compared.result)
    content = {
        "choices": [_plain(choice) for choice in compared.choices],
        "problems": compared.problems,
        "report": compared.concluded.report if compared.concluded else None,
        "scores": compared.concluded.scores if compared.concluded else [],
    }
    return Result(content, compared.exit_code)
