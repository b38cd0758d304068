"""The commands that train one model: parse, call, print."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.cli.checks import print_findings
from mimic_reg.cli.options import (
    SET_EXAMPLE,
    AllowMissingOption,
    DeviceOption,
    DryRunOption,
    FoldOption,
    MethodOption,
    ModelOption,
    RunArgument,
    SeedOption,
    SetOption,
    StoreOption,
    SupervisionOption,
    TaskOption,
    ThreadsOption,
    listed,
    numbers,
    there,
    typed,
)
from mimic_reg.cli.scores import print_external, print_scores
from mimic_reg.console import err, out, progress, say, verbosity
from mimic_reg.errors import InputError, InterruptionError
from mimic_reg.threads import DEFAULT_THREADS


def train(
    store: StoreOption,
    task: TaskOption,
    model: ModelOption,
    run: Annotated[Path, typer.Option("--out", help="Folder of the new run.", metavar="RUN")],
    method: MethodOption = "none",
    strategy: Annotated[
        str,
        typer.Option(
            help="Train several tasks, --task A,B,C, with a shared trunk: joint or reptile.",
            metavar="STRATEGY",
        ),
    ] = "single",
    supervision: SupervisionOption = 1.0,
    supervision_unit: Annotated[
        str,
        typer.Option(
            help="Whether the share is one of samples (sample) or of patients (subject).",
            metavar="UNIT",
        ),
    ] = "sample",
    seed: SeedOption = 0,
    fold: FoldOption = None,
    set_: SetOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Train a model and score it on validation and test.

    The epoch with the best validation score is scored. Ctrl-C writes a checkpoint; the same
    command continues from it, with the same result as an uninterrupted run. On a finished run it
    does nothing.
    """
    from mimic_reg import experiments, fitting
    from mimic_reg.experiments.estimates import at_most
    from mimic_reg.learners.trials import compose_trial
    from mimic_reg.multitask import fit as multitask
    from mimic_reg.multitask.changes import change, parse_pairs
    from mimic_reg.multitask.trials import compose_multi
    from mimic_reg.runs import is_done
    from mimic_reg.settings import STOPPING
    from mimic_reg.store import Store

    others: dict[str, Any] = {
        "supervision": supervision,
        "supervision_unit": supervision_unit,
        "seed": seed,
        "fold": fold,
    }
    if strategy != "single":
        trial = compose_multi(listed([task]), model, method, strategy, **others)
    elif "," in task and not Path(task).is_file():
        raise InputError(
            f"--task {task}: to train several tasks together, add --strategy reptile or "
            "--strategy joint. Otherwise train them one by one."
        )
    else:
        trial = compose_trial(task, model, method, **others)
    trial = change(trial, parse_pairs(set_ or [], "--set", SET_EXAMPLE))
    opened = Store.open(store)
    for part in trial.parts():
        opened.spec.task(part.task)  # refuse another cohort's task before saying what it costs
    opened.spec.check_fold(trial.fold)
    counts, known = experiments.sizes(opened), experiments.past(run.parent)
    estimate = experiments.estimate(trial, counts, known)
    may_stop = any(method.name == STOPPING for method in trial.regularisers)
    time = at_most([estimate.seconds], may_stop=may_stop)
    shown = out if dry_run else err
    if verbosity.verbose:
        shown.print(trial.to_yaml(), end="", markup=False)
    finished = is_done(run, trial.id(opened.manifest["fingerprint"]))
    if dry_run or not (verbosity.quiet or finished):
        say(f"{_header(trial)} {time}", shown)
    if dry_run:
        return {"settings": trial.model_dump(mode="json"), "seconds_at_most": estimate.seconds}
    fit = multitask.train if trial.strategy else fitting.train
    with progress(err) as told:
        outcome = fit(trial, store, run, progress=told, device=device, threads=threads)
    if outcome.status == "interrupted":
        raise _interrupted(run)
    folders = {name: run / name if trial.strategy else run for name in outcome.scores}
    for name, scores in outcome.scores.items():
        print_scores(scores, opened.spec, f"{name}: " if trial.strategy else "")
    parts = ", with a run folder for each task" if trial.strategy else ""
    say(f"Run {outcome.trial_id} is in {run}{parts}.")
    for name, folder in folders.items():
        print_score_line(folder, name)
    return {
        "run": run,
        "id": outcome.trial_id,
        "status": outcome.status,
        "tasks": {
            name: {"run": folders[name], "scores": scores}
            for name, scores in outcome.scores.items()
        },
    }


def _interrupted(folder: Path) -> InterruptionError:
    return InterruptionError(
        f"Interrupted. The checkpoint is in {folder}; the same command goes on from there."
    )


def _header(trial: Any) -> str:
    """Return a line on what is trained."""
    from mimic_reg import models
    from mimic_reg.report.formats import format_level, format_repeat
    from mimic_reg.settings.files import name_of_trial

    text = (
        f"Training {trial.model.name} with {name_of_trial(trial)} on {trial.task}: "
        f"{format_level(trial.size)} of the training samples, "
        f"{format_repeat(trial.seed, trial.fold)}"
    )
    if not models.is_known(trial.model.name):  # a learner without gradients
        return f"{text}."
    rate, epochs = trial.training.learning_rate, trial.training.max_epochs
    return f"{text}, learning rate {rate:g}, at most {epochs:,} epochs."


def print_score_line(run: Path, task: str) -> None:
    """Print the score that selected the epoch, and whether the model is hardly trained."""
    from mimic_reg.report.formats import format_scored
    from mimic_reg.runs.record import read_run

    found = read_run(run)
    name = str(found.selected_by)
    if found.hardly_trained is not None:
        say(
            f"{task}: the model is hardly trained: at the best epoch {found.hardly_trained}. Its "
            "scores may be those of the initial model. Train for more steps, or weaken the method."
        )
    values = (
        f"{split} {name} {format_scored(of[name], name)}" for split, of in found.scores.items()
    )
    epochs = max(len(found.epochs()), 1)
    best = found.best_epoch
    out.print(
        f"[bold]{task}: {', '.join(values)}[/]; best epoch {best} of {epochs}", soft_wrap=True
    )


def evaluate(
    run: RunArgument,
    store: Annotated[
        Path | None,
        typer.Option(
            help="The run's store, if it was moved; or the store of another cohort, for external "
            "validation.",
            metavar="STORE",
        ),
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            help="For external validation: where the run's own store is, if it was moved.",
            metavar="STORE",
        ),
    ] = None,
    allow_missing: AllowMissingOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the scores that the run has.")
    ] = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> Any:
    """Score a run's best epoch again, on validation and test; or on another cohort.

    A finished run must give the same scores again. If not, the command says which differ,
    and keeps the old ones.

    With the store of another cohort (--store), this is an external validation. The run keeps its
    scores. RUN may also be a folder with an exported model.
    """
    from mimic_reg import fitting
    from mimic_reg.runs.record import read_run
    from mimic_reg.serving import is_other_store, validate
    from mimic_reg.store import Store

    if store is not None and is_other_store(run, store):
        if overwrite:
            raise InputError(
                f"--overwrite replaces the scores of {run} by those on its own store, and {store} "
                "is another one. Leave --overwrite out for an external validation."
            )
        external = validate(
            run,
            store,
            trained_on=trained_on,
            allow_missing=allow_missing,
            device=device,
            threads=threads or DEFAULT_THREADS,
        )
        print_external(external, Store.open(store).spec)
        return {"run": run, **external.as_json()}
    with progress(err) as shown:
        scores = fitting.evaluate(
            run, store=store, overwrite=overwrite, progress=shown, device=device, threads=threads
        )
    print_scores(scores, read_run(run).cohort)
    return {"run": run, "scores": scores}


def pretrain(
    store: StoreOption,
    task: TaskOption,
    model: ModelOption,
    folder: Annotated[Path, typer.Option("--out", help="Folder of the trunk.", metavar="TRUNK")],
    objective: Annotated[
        str,
        typer.Option(
            help="masked: reconstruct hidden values. contrastive: match two views of a stay.",
            metavar="masked|contrastive",
        ),
    ] = "masked",
    seed: SeedOption = 0,
    set_: SetOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> Any:
    """Train a trunk without labels, for `mimic-reg finetune`.

    It learns from all training stays. Ctrl-C writes a checkpoint; the same command continues from
    it.
    """
    from mimic_reg.learners.trunk import load_trunk
    from mimic_reg.multitask import pretrain as unlabelled
    from mimic_reg.multitask.changes import parse_pairs

    changes = parse_pairs(set_ or [], "--set", SET_EXAMPLE)
    settings = unlabelled.compose(task, model, changes=changes, objective=objective, seed=seed)
    with progress(err) as shown:
        status = unlabelled.pretrain(
            settings, store, folder, progress=shown, device=device, threads=threads
        )
    if status == "interrupted":
        raise _interrupted(folder)
    trunk = load_trunk(folder)
    say(f"The trunk is in {folder}. Its fingerprint is {trunk.fingerprint}.")
    return {"trunk": folder, "status": status, "fingerprint": trunk.fingerprint}


def finetune(
    sources: Annotated[
        list[Path],
        typer.Option(
            "--from",
            help="A trunk: its folder, a run, or a fit of several tasks. Repeat it to compare "
            "trunks.",
            metavar="TRUNK",
            callback=there,
        ),
    ],
    store: StoreOption,
    task: TaskOption,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the runs and the report.", metavar="DIR")
    ],
    samples: Annotated[
        str, typer.Option(help="Numbers of training samples.", metavar="K,L")
    ] = "50,100,500",
    seeds: Annotated[
        int,
        typer.Option(
            help="Runs for each trunk and number of samples; a test needs 3.", min=1, metavar="N"
        ),
    ] = 5,
    method: MethodOption = "none",
    freeze: Annotated[
        int,
        typer.Option(help="Epochs before a pretrained trunk is trained, too.", min=0, metavar="N"),
    ] = 0,
    set_: SetOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    dry_run: DryRunOption = False,
) -> Any:
    """Fine-tune a trunk on a few samples of a task, and compare with training from scratch.

    Runs of one seed have the same samples, batches and initial head, with a trunk or from scratch.
    The same command continues where it was stopped. It ends with a table and DIR/report.html.
    """
    from mimic_reg import experiments
    from mimic_reg.experiments.estimates import at_most
    from mimic_reg.learners.trunk import load_trunk
    from mimic_reg.multitask import finetune as transfer
    from mimic_reg.multitask.changes import parse_pairs
    from mimic_reg.report import page as reporting
    from mimic_reg.report import results
    from mimic_reg.report.evidence import weigh
    from mimic_reg.report.formats import format_task
    from mimic_reg.report.leakage import check_results
    from mimic_reg.report.markdown import to_markdown
    from mimic_reg.settings import STOPPING
    from mimic_reg.store import Store

    plan = transfer.Plan(
        task=task,
        samples=numbers(samples, "--samples"),
        seeds=seeds,
        method=method,
        freeze=freeze,
        changes=parse_pairs(set_ or [], "--set", SET_EXAMPLE),
    )
    trials = [trial for trial, _ in plan.trials([load_trunk(source) for source in sources])]
    counts, known = experiments.sizes(Store.open(store)), experiments.past(folder)
    seconds = [experiments.estimate(trial, counts, known).seconds for trial in trials]
    may_stop = any(m.name == STOPPING for trial in trials for m in trial.regularisers)
    text = f"{len(trials):,} runs on {trials[0].task}. {at_most(seconds, may_stop=may_stop)}"
    if dry_run or not verbosity.quiet:
        (out if dry_run else err).print(text, markup=False, soft_wrap=True)
    if dry_run:
        return {"runs": len(trials), "seconds_at_most": seconds}
    with progress(err) as shown:
        runs = transfer.finetune(
            plan, sources, store, folder, progress=shown, device=device, threads=threads
        )
    found = results.collect(runs)
    stores = results.find_stores(found)
    weighed, leaks = weigh(found, stores), check_results(found, stores)
    written = reporting.write_report(
        found,
        folder,
        stores=stores,
        weighed=weighed,
        leakage=leaks,
        title=f"Fine-tuning on few samples: {format_task(found.trials[0].task)}",
        commands=[typed()],
    )
    say(to_markdown(found, weighed))
    print_findings(leaks)
    out.print(f"Report: [bold]{escape(str(written))}[/]", soft_wrap=True)
    return {"report": written, "runs": runs}
