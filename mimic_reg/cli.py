"""The command `mimic-reg`: parse, call, print."""

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mimic_reg import __version__
from mimic_reg.console import progress, table
from mimic_reg.errors import InputError, MimicRegError

app = typer.Typer(
    name="mimic-reg",
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
out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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
        out.print(f"Prove it: mimic-reg verify {escape(str(store))} --published")


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
    rows = [
        [f"{task}, {split}", c["samples"], c["stays"], _positives(c.get("positives"))]
        for task, splits in audit["samples"].items()
        for split, c in splits.items()
    ]
    out.print(table("Samples", ["task, split", "samples", "stays", "positives"], rows))
    if audit["published"] is None:
        out.print("The source is not the full MIMIC-III v1.4: no published sizes to compare with.")
        return
    pairs = [
        [p["what"], p["published"], p["ours"], "same" if p["same"] else "DIFFERS"]
        for p in audit["published"]
    ]
    out.print(table("Beside the published sizes", ["", "published", "ours", ""], pairs))


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
) -> None:
    """Simulate MIMIC-III-shaped tables, to try everything without access to patients' data.

    All nine tables, with the oddities of the real ones. The tasks can be learnt; true_risk.json
    beside the tables states the AUROC of the true risk: the best that any model could reach.
    """
    from mimic_reg.sources.synthetic import synthesize as simulate

    summary = simulate(out_dir, patients=patients, seed=seed, missing=missing)
    out.print(f"Wrote {escape(str(out_dir))}: {summary}")
    out.print(f"Next: mimic-reg extract --source {escape(str(out_dir))} --out STORE")


def main() -> None:
    """Run the command: exit code 0, 1 (failed) or 2 (bad usage or input)."""
    sys.exit(_run(app))


def _run(command: Callable[[], Any]) -> int:
    try:
        command()
    except InputError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        return InputError.exit_code
    except MimicRegError as error:
        err.print(f"[bold red]Failed:[/] {escape(str(error))}", soft_wrap=True)
        return MimicRegError.exit_code
    except KeyboardInterrupt:
        err.print("Interrupted. What was finished is kept: run the same command again to go on.")
        return MimicRegError.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
