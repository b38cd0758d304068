"""The commands that train and compare: parse, call, print."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.threads import DEFAULT_THREADS, MAX_THREADS

ThreadsOption = Annotated[
    int | None,
    typer.Option(
        help="Threads of torch; another number gives other last digits. A run keeps its own; "
        f"{DEFAULT_THREADS} for a new one.",
        min=1,
        max=MAX_THREADS,
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (train, evaluate, pretrain, finetune, report, claims):
        app.command()(command)


def train(
    store: Annotated[Path, typer.Option(help="The store: cohorts or images.", metavar="STORE")],
    task: Annotated[
        str,
        typer.Option(help="A task's name, or a YAML file; with a strategy several, as A,B,C."),
    ],
    model: Annotated[str, typer.Option(help="A model's name, such as lstm, or a YAML file.")],
    run: Annotated[Path, typer.Option("--out", help="The run's folder.", metavar="RUN")],
    method: Annotated[
        str,
        typer.Option(
            help="A method in configs/methods, alone or as FAMILY/METHOD; or a YAML file."
        ),
    ] = "none",
    strategy: Annotated[
        str, typer.Option(help="How several tasks share a trunk: reptile, joint; else single.")
    ] = "single",
    supervision: Annotated[
        float, typer.Option(help="Share of the training samples, such as 0.25.")
    ] = 1.0,
    unit: Annotated[
        str, typer.Option(help="What the share keeps or leaves out as a whole: sample, subject.")
    ] = "sample",
    seed: Annotated[int, typer.Option(help="Runs with one seed share weights and batches.")] = 0,
    max_epochs: Annotated[
        int | None, typer.Option(help="Epochs at the most, instead of the task's own.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Instead of the task's or the method's own.")
    ] = None,
    normalizer: Annotated[
        str | None,
        typer.Option(help="published, fitted; of images unit, fitted, raw; else the task's own."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Train a model on a store and score its best checkpoint on validation and test.

    Ctrl-C writes a checkpoint; the same command goes on from it, and ends as if it had never been
    stopped. A finished run started again does nothing.
    """
    from mimic_reg import fitting
    from mimic_reg.learners.trials import compose_trial
    from mimic_reg.multitask import fit as multitask
    from mimic_reg.multitask.trials import compose_multi
    from mimic_reg.store import Store

    given = {
        "max_epochs": max_epochs,
        "learning_rate": learning_rate,
        "normalizer": normalizer,
    }
    others: dict[str, Any] = {
        "supervision": supervision,
        "supervision_unit": unit,
        "seed": seed,
        "training": {name: value for name, value in given.items() if value is not None},
    }
    if strategy != "single":
        trial = compose_multi(task.split(","), model, method, strategy, **others)
    elif "," in task and not Path(task).is_file():
        raise InputError(
            f"--task {task}: several tasks share a trunk with --strategy reptile or joint; else "
            "train them one by one."
        )
    else:
        trial = compose_trial(task, model, method, **others)
    Store.open(store)  # before the settings are printed
    out.print(escape(trial.to_yaml()), end="")
    fit = multitask.train if trial.strategy else fitting.train
    with progress(err) as shown:
        outcome = fit(trial, store, run, progress=shown, device=device, threads=threads)
    if outcome.status == "interrupted":
        raise MimicRegError("Interrupted; run the same command again to go on.")
    for name, scores in outcome.scores.items():
        folder, what = (run / name, f"{name}: ") if trial.strategy else (run, "")
        _print_scores(scores, what)
        _print_hint(folder, what)
    where = f"{outcome.trial_id} is in {escape(str(run))}"
    ending = f"Fit {where}, a run folder for each task" if trial.strategy else f"Run {where}"
    out.print(f"{ending}.")


def _print_hint(run: Path, what: str) -> None:
    """Say where a fit left the model about as it began."""
    from mimic_reg.metrics.trained import hardly_trained
    from mimic_reg.runs import HISTORY, read_history, read_scored

    why = hardly_trained(read_history(run / HISTORY), read_scored(run)["best_epoch"])
    if why is not None:
        out.print(
            f"[bold]Note:[/] {what}the model is hardly trained: at the best epoch {why}. These "
            "scores may be about those of the initial model. Train for more steps, or weaken the "
            "method."
        )


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, made by `mimic-reg train`.")],
    store: Annotated[
        Path | None, typer.Option(help="Where its store is now, if it was moved.", metavar="STORE")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the scores that the run has.")
    ] = False,
    threads: ThreadsOption = None,
) -> None:
    """Score a run's best checkpoint again, on validation and test.

    A finished run's scores must come out as they were. Where they do not, it says which, and keeps
    them.
    """
    from mimic_reg import fitting

    with progress(err) as shown:
        scores = fitting.evaluate(
            run, store=store, overwrite=overwrite, progress=shown, device=device, threads=threads
        )
    _print_scores(scores)


def pretrain(
    store: Annotated[Path, typer.Option(help="The cohort store.", metavar="STORE")],
    task: Annotated[
        str, typer.Option(help="The task that the trunk is for: its name, or a YAML file.")
    ],
    model: Annotated[str, typer.Option(help="A model's name, such as lstm, or a YAML file.")],
    folder: Annotated[Path, typer.Option("--out", help="The trunk's folder.", metavar="TRUNK")],
    objective: Annotated[
        str, typer.Option(help="masked: give hidden values back; contrastive: match views.")
    ] = "masked",
    seed: Annotated[int, typer.Option(help="Of weights, batches and what is hidden.")] = 0,
    max_epochs: Annotated[int | None, typer.Option(help="At the most: 30 by default.")] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Train a trunk on all training stays without their labels, for `mimic-reg finetune`.

    Ctrl-C writes a checkpoint; the same command goes on from it.
    """
    from mimic_reg.learners.trunk import load_trunk
    from mimic_reg.multitask import pretrain as unlabelled

    settings = unlabelled.compose(
        task,
        model,
        objective=objective,
        seed=seed,
        training={} if max_epochs is None else {"max_epochs": max_epochs},
    )
    with progress(err) as shown:
        status = unlabelled.pretrain(
            settings, store, folder, progress=shown, device=device, threads=threads
        )
    if status == "interrupted":
        raise MimicRegError("Interrupted; run the same command again to go on.")
    trunk = load_trunk(folder)
    out.print(f"The trunk is in {escape(str(folder))}, its fingerprint {trunk.fingerprint}.")


def finetune(
    sources: Annotated[
        list[Path],
        typer.Option(
            "--from",
            help="A fit of several tasks, a run, or a folder with trunk.safetensors and "
            "trunk.yaml; may be given several times, to compare trunks.",
            metavar="TRUNK",
        ),
    ],
    store: Annotated[Path, typer.Option(help="The cohort store.", metavar="STORE")],
    task: Annotated[str, typer.Option(help="The new task's name, or a YAML file.")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the runs and the report.", metavar="DIR")
    ],
    samples: Annotated[
        str, typer.Option(help="Numbers of training samples, comma-separated.", metavar="K,L")
    ] = "50,100,500",
    seeds: Annotated[int, typer.Option(help="Fits of each kind; 3 or more for a test.")] = 5,
    method: Annotated[
        str,
        typer.Option(
            help="A method in configs/methods, alone or as FAMILY/METHOD; or a YAML file."
        ),
    ] = "none",
    freeze: Annotated[
        int, typer.Option(help="Epochs in which a trained trunk stands still at first.", min=0)
    ] = 0,
    max_epochs: Annotated[
        int | None, typer.Option(help="Epochs of 20 steps at the most: 30 by default.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Fine-tune a trained trunk on a new task with few samples, against training from scratch.

    From a trunk and from scratch, fits of one seed have the same samples, batches and initial head.
    Started again it goes on where it was. Ends with a table and DIR/report.html.
    """
    from mimic_reg.multitask import finetune as transfer
    from mimic_reg.report import page as reporting
    from mimic_reg.report import results
    from mimic_reg.report.formats import format_task
    from mimic_reg.report.markdown import to_markdown

    plan = transfer.Plan(
        task=task,
        samples=_numbers(samples),
        seeds=seeds,
        method=method,
        freeze=freeze,
        training={"max_epochs": max_epochs} if max_epochs is not None else None,
    )
    with progress(err) as shown:
        runs = transfer.finetune(
            plan, sources, store, folder, progress=shown, device=device, threads=threads
        )
    found = results.collect(runs)
    written = reporting.write_report(
        found,
        folder,
        title=f"Fine-tuning on few samples: {format_task(found.trials[0].task)}",
        commands=[shlex.join(["mimic-reg", *sys.argv[1:]])],
    )
    out.print(escape(to_markdown(found)), soft_wrap=True)
    out.print(f"Report: [bold]{escape(str(written))}[/]", soft_wrap=True)


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from 2 on, ascending."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 1 for part in parts):
        raise InputError(f"--samples is {text!r}: give whole numbers from 2 on, as 50,100,500.")
    return tuple(sorted({int(part) for part in parts}))


def _print_scores(scores: Any, what: str = "") -> None:
    names = sorted({name for of_split in scores.values() for name in of_split})
    rows = [[name, *(_score(of_split.get(name)) for of_split in scores.values())] for name in names]
    title = f"{what}Scores, with 95 % intervals over subjects"
    out.print(table(title, ["", *scores], rows))


def _score(score: Any) -> str:
    if score is None:
        return ""
    if score.value is None:
        return f"undefined: {score.reason}"
    if score.low is None:
        return f"{score.value:.4f}"
    return f"{score.value:.4f} ({score.low:.4f} to {score.high:.4f})"


def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUN…")
    ],
    page: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Regularisers compared",
    focus: Annotated[
        str | None,
        typer.Option(help="The method to put against all others; else the best.", metavar="METHOD"),
    ] = None,
    analyse: Annotated[
        list[str] | None,
        typer.Option(
            help="Analyses to add, comma-separated: see `mimic-reg analyse --help`.", metavar="A,B"
        ),
    ] = None,
) -> None:
    """Compare finished runs in one page: tables, intervals, paired tests, curves.

    The page needs no network and no script, and holds nothing of a single patient.
    """
    from mimic_reg.report import analyses, results
    from mimic_reg.report import page as reporting
    from mimic_reg.report.markdown import to_markdown
    from mimic_reg.settings import suggest
    from mimic_reg.store import disk_errors

    found = results.collect(runs, focus=focus)
    if focus is not None and found.trials and not any(t.in_focus for t in found.trials):
        raise InputError(f"No run is of the method {focus!r}. {suggest(focus, found.methods())}")
    added = analyses.analyse_all([n for part in analyse or [] for n in part.split(",")], found)
    with disk_errors(page.parent):
        written = reporting.write_report(found, page, title=title, analyses=added)
    out.print(escape(to_markdown(found)), soft_wrap=True)
    for analysis in added:
        if not analysis.drawn:
            out.print(f"Not drawn: {analysis.title}. {escape(analysis.note)}", soft_wrap=True)
    out.print(f"Wrote {escape(str(written))}.")


def claims(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="A work folder, run folders, or folders that hold them.", metavar="WORK"
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="All comparisons and runs, as JSON.")
    ] = False,
) -> None:
    """Put each claim of the paper on ITPS against finished runs.

    A verdict is: reproduces, does not reproduce, or cannot be tested here, and why. The rules were
    written before the runs: docs/claims.md.
    """
    from mimic_reg.report import claims as judging
    from mimic_reg.report import results

    found = results.collect(runs)
    lines = judging.judge(found)
    if as_json:
        typer.echo(json.dumps(judging.as_plain(lines), indent=1))
        return
    for number, line in enumerate(lines, 1):
        claim = f"{line.claim} ({line.where})"
        out.print(f"[bold]{number}. {line.verdict}[/]: {escape(claim)}", soft_wrap=True)
        if line.shown is not None:
            out.print(f"   {escape(judging.in_words(line.shown))}", soft_wrap=True)
        out.print(f"   {escape(line.why)}", soft_wrap=True)
        if line.runs:
            out.print(f"   Runs: {escape(judging.shortened(line.runs))}", soft_wrap=True)
    for unfinished in found.unfinished:
        err.print(f"Left out: {escape(unfinished.name)}: {escape(unfinished.why)}", soft_wrap=True)
