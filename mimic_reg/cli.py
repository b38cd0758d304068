"""The command `mimic-reg`: parse, call, print."""

import shlex
import sys
from collections.abc import Callable, Collection
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from mimic_reg import __version__
from mimic_reg.cli_analyse import app as analyse_app
from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError, MimicRegError

if TYPE_CHECKING:
    from mimic_reg.config import MultiTrial


class _Commands(TyperGroup):
    """Commands that say what Ctrl-C did; typer alone ends in silence, with code 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise MimicRegError(
                "Interrupted. What was finished is kept: run the same command again to go on."
            ) from error


app = typer.Typer(
    name="mimic-reg",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it would print local variables: patient data
    rich_markup_mode="rich",
    help=(
        "Reproducible deep learning on intensive-care time series (MIMIC-III).\n\n"
        "A first look, without any data of your own:\n\n"
        "  [bold]mimic-reg synthesize --out raw --patients 1500[/]\n\n"
        "  [bold]mimic-reg extract --source raw --out store[/]\n\n"
        "With MIMIC-III, point --source at the folder with its .csv or .csv.gz tables, and prove "
        "that your cohorts are the published ones with "
        "[bold]mimic-reg verify store --published[/]."
    ),
)
app.add_typer(analyse_app, name="analyse")
SPLIT_NAMES = {"val": "validation"}  # the published label -> our word


class Mode(StrEnum):
    """Which rules the extraction follows."""

    benchmark = "benchmark"
    corrected = "corrected"


StoreArgument = Annotated[Path, typer.Argument(help="A cohort store, made by `mimic-reg extract`.")]


def _print_version(show: bool) -> None:
    if show:
        out.print(f"mimic-reg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print it and end."),
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def extract(
    source: Annotated[
        Path, typer.Option(help="Folder with MIMIC-III's tables, .csv or .csv.gz.", metavar="DIR")
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Tasks to write, comma-separated; all by default.", metavar="A,B"),
    ] = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="benchmark: the published cohorts, with their known defects. "
            "corrected: without four of them, named in the manifest."
        ),
    ] = Mode.benchmark,
    memory: Annotated[
        str, typer.Option(help="Memory it may take, from 1GB.", metavar="AMOUNT")
    ] = "4GB",
    force: Annotated[
        bool, typer.Option("--force", help="Extract even if the store is up to date.")
    ] = False,
) -> None:
    """Extract the benchmark's cohorts from raw MIMIC-III into a Parquet store.

    A run that was stopped goes on where it was when started again; on an unchanged source a second
    run does nothing. The tables are read once and never held in memory.
    """
    from mimic_reg import extraction
    from mimic_reg.extraction.memory import parse_memory

    with progress(err) as shown:
        result = extraction.extract(
            source,
            store,
            task_names=[name for part in tasks or [] for name in part.split(",")] or None,
            mode=mode.value,
            memory=parse_memory(memory),
            force=force,
            progress=shown,
        )
    if result.status == "unchanged":
        out.print(f"{escape(str(store))} is up to date: the source is unchanged. Nothing was done.")
        out.print("To extract it again all the same, add --force.")
        return
    _print_audit(result.audit)
    seconds = sum(result.seconds.values())
    out.print(f"Wrote {escape(str(store))} in {seconds:,.1f} s ({mode.value} mode).")
    if mode is Mode.benchmark:
        out.print(
            f"If it is MIMIC-III, prove it: mimic-reg verify {escape(str(store))} --published"
        )


@app.command()
def verify(
    store: StoreArgument,
    published: Annotated[
        bool,
        typer.Option("--published", help="Against the hashes published for the full MIMIC-III."),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            help="Against output folders of the reference code (root/ and task folders).",
            metavar="DIR",
        ),
    ] = None,
    details: Annotated[
        Path | None,
        typer.Option(help="Write what differs, stay by stay, to a CSV file.", metavar="FILE"),
    ] = None,
) -> None:
    """Prove that a store is intact, and that its cohorts are the published ones.

    Without an option: the store's files against the hashes in its manifest. Exit code 1 where
    something differs.
    """
    from mimic_reg.sources import benchmark
    from mimic_reg.storage import Store

    _check_details(details, published, against)
    opened = Store.open(store)
    changed = opened.changed_files()
    if changed:
        raise MimicRegError(
            f"{store}: {', '.join(changed)} changed since it was written. Extract it again."
        )
    out.print(f"{len(opened.manifest['files'])} files of the store are as they were written.")
    same = True
    with progress(err) as shown:
        if published:
            report = benchmark.verify_published(opened, shown)
            _print_published(report)
            _write_details(report.stays, details)
            same &= report.identical
        if against:
            found = benchmark.compare(opened, against, shown)
            _print_comparison(found)
            _write_details(found.differences, details)
            same &= found.identical
    raise typer.Exit(0 if same else 1)


def _print_published(report: Any) -> None:
    names = {
        "in_hospital_mortality": "in-hospital mortality (first 48 h)",
        "whole_stay": "other tasks (whole stay)",
    }
    rows = [
        [names[kind], c.matching, c.differing, c.unpublished, c.absent]
        for kind, c in report.kinds.items()
    ]
    columns = ["time series", "published ones", "differing", "not published", "not in this cohort"]
    out.print(table("Beside the hashes published in 2019", columns, rows))
    if not report.identical:
        out.print("This is NOT the published benchmark: see the columns above.")
    elif all(c.complete for c in report.kinds.values()):
        out.print("This is the published benchmark: every file, and no other.")
    else:
        out.print("Every time series of this cohort is the published one, to the hash.")


def _print_comparison(report: Any) -> None:
    files = ", ".join(f"{folder} {count:,}" for folder, count in report.files.items())
    out.print(f"Compared time series: {files or 'none'}.")
    samples = ", ".join(f"{folder} {count:,}" for folder, count in report.samples.items())
    out.print(f"Compared samples: {samples or 'none'}.")
    if report.absent:
        out.print(f"Not there to compare with: {', '.join(report.absent)}.")
    if report.unknown:
        out.print(f"There, but not in the store: {', '.join(report.unknown)}.")
    rows = [
        [folder, kind, channel or "", stays, count]
        for folder, kind, channel, stays, count in report.summary().iter_rows()
    ]
    if rows:
        out.print(table("What differs", ["folder", "kind", "channel", "stays", "count"], rows))
    out.print("The same." if report.identical else "NOT the same.")


def _check_details(path: Path | None, published: bool, against: Path | None) -> None:
    if path and published == bool(against):
        raise InputError("--details is the file of one comparison: give --published or --against.")
    if path and not path.absolute().parent.is_dir():
        raise InputError(f"--details {path} is in no folder: {path.parent} does not exist.")


def _write_details(frame: Any, path: Path | None) -> None:
    from mimic_reg.storage import disk_errors

    if path:
        with disk_errors(path):
            path.touch(mode=0o600)
            path.chmod(0o600)
            frame.write_csv(path)
        out.print(f"Wrote {frame.height:,} rows to {escape(str(path))}: it holds ids of stays.")


@app.command()
def export_benchmark(
    store: StoreArgument,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the files; new or empty.", metavar="DIR")
    ],
) -> None:
    """Write a store as the reference code's own files, to the letter."""
    from mimic_reg.sources import benchmark
    from mimic_reg.storage import Store

    with progress(err) as shown:
        written = benchmark.export(Store.open(store), folder, shown)
    rows = [
        [name, count, written.samples.get(name.replace("-", "_"), "")]
        for name, count in written.files.items()
    ]
    out.print(table("Written", ["folder", "files", "samples"], rows))
    out.print(f"Wrote {escape(str(written.folder))} in {written.seconds:,.1f} s.")


@app.command()
def import_benchmark(
    folder: Annotated[
        Path, typer.Argument(help="Output of the reference code: root/ and its task folders.")
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
) -> None:
    """Build a store from folders that the reference code wrote, without the raw tables.

    What those files do not hold (times of admission and death, diagnoses) is empty in the store.
    """
    from mimic_reg.sources import benchmark
    from mimic_reg.storage import read_json

    with progress(err) as shown:
        opened = benchmark.import_benchmark(folder, store, shown)
    _print_samples(read_json(opened.path("audit.json")))
    out.print(f"Wrote {escape(str(store))}.")


@app.command()
def import_images(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Fashion-MNIST, CIFAR-10 or STL-10 as distributed, or train/CLASS/*.jpg and "
            "test/CLASS/*.jpg."
        ),
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
    validation: Annotated[
        int | None,
        typer.Option(help="Training images kept for validation; as the paper by default."),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize pictures of folders to SIZE x SIZE.", min=1)
    ] = None,
    download: Annotated[
        str | None,
        typer.Option(
            help="Fetch it into the folder first: fashion_mnist, cifar10 or stl10.", metavar="NAME"
        ),
    ] = None,
) -> None:
    """Build a store of images: decoded once, kept as bytes, split as in the paper.

    A second run on the same images does nothing.
    """
    from mimic_reg.sources import images

    with progress(err) as shown:
        if download:
            images.download(download, folder)
        opened = images.import_images(
            folder, store, validation=validation, size=size, progress=shown
        )
    rows = [
        [SPLIT_NAMES.get(split, split), c["samples"], _range(c["classes"].values())]
        for split, c in images.read_counts(opened).items()
    ]
    out.print(table(opened.manifest["dataset"], ["split", "images", "a class"], rows))
    out.print(f"Wrote {escape(str(store))}.")


def _range(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _print_audit(audit: dict[str, Any]) -> None:
    flow = [[s["step"], s["stays"], s["admissions"], s["subjects"]] for s in audit["cohort_flow"]]
    out.print(table("Cohort", ["after", "stays", "admissions", "subjects"], flow))
    names = ("CHARTEVENTS", "LABEVENTS", "OUTPUTEVENTS")
    fates = {
        "subject_not_kept": "dropped: subject not in the cohort",
        "empty_hadm": "dropped: no HADM_ID",
        "no_hadm_in_stay": "dropped: HADM_ID of no kept stay",
        "icustay_missing_in_stays": "dropped: another ICUSTAY_ID",
        "kept_recovered": "kept, ICUSTAY_ID from the admission",
        "kept": "kept",
    }
    rows = [[text, *(audit["events"][n][fate] for n in names)] for fate, text in fates.items()]
    out.print(table("Event rows", ["", *names], rows))
    _print_values(audit)
    _print_samples(audit)
    if audit["published"] is None:
        out.print("The source is not the full MIMIC-III v1.4: no published sizes to compare with.")
        return
    pairs = [
        [p["what"], p["published"], p["ours"], "same" if p["same"] else "DIFFERS"]
        for p in audit["published"]
    ]
    out.print(table("Beside the published sizes", ["", "published", "ours", ""], pairs))
    differing = sum(not p["same"] for p in audit["published"])
    if differing:
        out.print(
            f"{differing:,} of {len(pairs):,} sizes DIFFER. If a table has more or fewer rows than "
            "published, it was loaded twice or not downloaded whole."
        )


def _print_samples(audit: dict[str, Any]) -> None:
    rows = [
        [
            f"{task}, {SPLIT_NAMES.get(split, split)}",
            c["samples"],
            c["stays"],
            _positives(c.get("positives")),
        ]
        for task, splits in audit["samples"].items()
        for split, c in splits.items()
    ]
    out.print(table("Samples", ["task, split", "samples", "stays", "positives"], rows))
    left_out = audit["stays_left_out_of_the_tasks"]
    reasons = {
        "no_length_of_stay": "without a length of stay",
        "no_diagnosis": "without a diagnosis",
        "no_event_within_the_stay": "without a measurement in the stay",
    }
    found = [f"{left_out[r]:,} {text}" for r, text in reasons.items() if left_out.get(r)]
    if found:
        out.print(f"Stays that no task uses: {', '.join(found)}.")


def _print_values(audit: dict[str, Any]) -> None:
    """One line on the values of the 17 variables, and one for each oddity that occurred."""
    total: dict[str, int] = {}
    for counts in audit["variables"].values():
        for what, count in counts.items():
            total[what] = total.get(what, 0) + count
    mapped, kept, clipped = (total.pop(what, 0) for what in ("mapped", "kept", "clipped"))
    dropped = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in total.items() if n)
    out.print(
        f"Values of the 17 variables: {mapped:,} rows, {kept:,} used; {dropped or 'no'} left out."
    )
    if clipped:
        out.print(f"{clipped:,} values were clipped to their plausible range.")
    stray = audit["events"]["total"].get("bytes_not_utf8", 0)
    if stray:
        out.print(f"{stray:,} bytes were not UTF-8 and were read as \ufffd.")
    for name, count in audit["episodes"]["unknown_categories"].items():
        out.print(f"{name}: {count:,} texts have no channel of their own and count as missing.")


def _positives(positives: int | dict[str, int] | None) -> str:
    if isinstance(positives, dict):
        return f"{sum(positives.values()):,} labels"
    return "" if positives is None else f"{positives:,}"


@app.command()
def synthesize(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for the tables; new or empty.", metavar="DIR")
    ],
    patients: Annotated[int, typer.Option(help="How many patients.", min=1)] = 1500,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    missing: Annotated[
        float, typer.Option(help="Share of measurements left out on top of the usual gaps.")
    ] = 0.0,
    compress: Annotated[
        bool, typer.Option("--compress", help="Write .csv.gz instead of .csv.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier simulation in DIR.")
    ] = False,
) -> None:
    """Simulate MIMIC-III-shaped tables, to try everything without access to patients' data.

    All nine tables, with the oddities of the real ones. The tasks can be learnt; true_risk.json
    beside the tables states the AUROC of the true risk: the best that any model could reach.
    """
    from mimic_reg.sources.synthetic import synthesize as simulate

    summary = simulate(
        out_dir,
        patients=patients,
        seed=seed,
        missing=missing,
        compress=compress,
        overwrite=overwrite,
    )
    rows = sum(summary.rows.values())
    out.print(
        f"Wrote {escape(str(out_dir))}: {summary.patients:,} simulated patients, "
        f"{summary.stays:,} ICU stays, {rows:,} rows in {len(summary.rows)} tables; "
        "true_risk.json states the best AUROC that a model could reach."
    )
    out.print(f"Next: mimic-reg extract --source {escape(str(out_dir))} --out STORE")


@app.command()
def train(
    store: Annotated[Path, typer.Option(help="The store: cohorts or images.", metavar="STORE")],
    task: Annotated[
        str,
        typer.Option(help="A task's name, or a YAML file; with a strategy several, as A,B,C."),
    ],
    model: Annotated[str, typer.Option(help="A model's name, such as lstm, or a YAML file.")],
    run: Annotated[Path, typer.Option("--out", help="The run's folder.", metavar="RUN")],
    method: Annotated[
        str, typer.Option(help="A method's name in configs/regularisers, or a YAML file.")
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
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1; the GPU if there is one.")
    ] = None,
) -> None:
    """Train a model on a store and score its best checkpoint on validation and test.

    Ctrl-C writes a checkpoint; the same command goes on from it, and ends as if it had never been
    stopped. A finished run started again does nothing.
    """
    from mimic_reg.config import compose_multi, compose_trial
    from mimic_reg.strategies import single

    training = {"max_epochs": max_epochs} if max_epochs is not None else None
    if strategy != "single":
        multi = compose_multi(
            task.split(","),
            model,
            method,
            strategy,
            supervision=supervision,
            supervision_unit=unit,
            seed=seed,
            training=training,
        )
        _train_together(multi, store, run, device)
        return
    if "," in task and not Path(task).is_file():
        raise InputError(
            f"--task {task}: several tasks share a trunk with --strategy reptile or joint; else "
            "train them one by one."
        )
    trial = compose_trial(
        task,
        model,
        method,
        supervision=supervision,
        supervision_unit=unit,
        seed=seed,
        training=training,
    )
    out.print(escape(trial.to_yaml()), end="")
    with progress(err) as shown:
        outcome = single.train(trial, store, run, progress=shown, device=device)
    if outcome.status == "interrupted":
        raise MimicRegError("Interrupted; run the same command again to go on.")
    _print_scores(outcome.scores)
    out.print(f"Run {outcome.trial_id} is in {escape(str(run))}.")


def _train_together(multi: "MultiTrial", store: Path, folder: Path, device: str | None) -> None:
    from mimic_reg.strategies import multitask

    out.print(escape(multi.to_yaml()), end="")
    with progress(err) as shown:
        outcome = multitask.train(multi, store, folder, progress=shown, device=device)
    if outcome.status == "interrupted":
        raise MimicRegError("Interrupted; run the same command again to go on.")
    for task, scores in outcome.scores.items():
        _print_scores(scores, f"{task}: ")
    out.print(f"Fit {outcome.fit_id} is in {escape(str(folder))}, a run folder for each task.")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run's folder, made by `mimic-reg train`.")],
    store: Annotated[
        Path | None, typer.Option(help="Where its store is now, if it was moved.", metavar="STORE")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
) -> None:
    """Score a run's best checkpoint again, on validation and test."""
    from mimic_reg.strategies import single

    with progress(err) as shown:
        scores = single.evaluate(run, store=store, progress=shown, device=device)
    _print_scores(scores)


@app.command()
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
        str, typer.Option(help="A method's name in configs/regularisers, or a YAML file.")
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
) -> None:
    """Fine-tune a trained trunk on a new task with few samples, against training from scratch.

    From a trunk and from scratch, fits of one seed have the same samples, batches and initial head.
    Started again it goes on where it was. Ends with a table and DIR/report.html.
    """
    from mimic_reg.evaluation import report as reporting
    from mimic_reg.evaluation import results
    from mimic_reg.evaluation.formats import format_task
    from mimic_reg.evaluation.markdown import to_markdown
    from mimic_reg.strategies import finetune as transfer

    plan = transfer.Plan(
        task=task,
        samples=_numbers(samples),
        seeds=seeds,
        method=method,
        freeze=freeze,
        training={"max_epochs": max_epochs} if max_epochs is not None else None,
    )
    with progress(err) as shown:
        runs = transfer.finetune(plan, sources, store, folder, progress=shown, device=device)
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


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUN…")
    ],
    page: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="Its title.")] = "Regularisers compared",
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
    from mimic_reg import analyses
    from mimic_reg.evaluation import report as reporting
    from mimic_reg.evaluation import results
    from mimic_reg.evaluation.markdown import to_markdown
    from mimic_reg.storage import disk_errors

    found = results.collect(runs)
    added = analyses.analyse_all([n for part in analyse or [] for n in part.split(",")], found)
    with disk_errors(page.parent):
        written = reporting.write_report(found, page, title=title, analyses=added)
    out.print(escape(to_markdown(found)), soft_wrap=True)
    out.print(f"Wrote {escape(str(written))}.")


def main() -> None:
    """Run the command: exit code 0, 1 (failed) or 2 (bad usage or input)."""
    for plugin in entry_points(group="mimic_reg.commands"):
        plugin.load()(app)
    sys.exit(_run(lambda: app(prog_name="mimic-reg")))


def _run(command: Callable[[], Any]) -> int:
    try:
        command()
    except InputError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return InputError.exit_code
    except MimicRegError as error:
        err.print(f"[bold red]Failed:[/] {escape(str(error))}", soft_wrap=True)
        return MimicRegError.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
