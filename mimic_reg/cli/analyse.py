"""The commands `mimic-reg analyse …`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mimic_reg.console import err, out, progress, table
from mimic_reg.errors import InputError

if TYPE_CHECKING:
    from mimic_reg.report.results import Results

app = typer.Typer(
    no_args_is_help=True,
    help="Draw the paper's analyses of finished runs, as PNG and SVG, and print their numbers.",
)

RunsArgument = Annotated[
    list[Path], typer.Argument(help="Run folders, or folders that hold them.", metavar="RUN…")
]
FolderOption = Annotated[Path, typer.Option("--out", help="Folder for the figures.", metavar="DIR")]


@app.command()
def hessian(
    runs: RunsArgument,
    folder: FolderOption,
    vectors: Annotated[int, typer.Option(help="Random vectors of an estimate.", min=2)] = 100,
    samples: Annotated[int, typer.Option(help="Training samples, at most.", min=1)] = 2048,
    batch_numbers: Annotated[
        int,
        typer.Option(help="Input numbers at a time: fewer need less memory.", min=1),
    ] = 1 << 18,
    store: Annotated[
        Path | None,
        typer.Option(help="Where their store is now, if it was moved.", metavar="STORE"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1.")] = None,
) -> None:
    """Trace of the Hessian by method (figure 4a): how flat is the loss where a fit ends?

    Runs trained with a hessian_probe have recorded it over their epochs. For the others it is
    measured now, at their best epoch, at the lowest and the highest supervision level, and kept in
    their folders: a vector takes as long as one to five training passes over the samples, so
    without a GPU take fewer of both.
    """
    from mimic_reg.report.analyses import hessian as analysis

    results = _collect(runs)
    todo = analysis.to_measure(results, vectors, samples)
    with progress(err) as shown:
        shown.stage("measure", len(todo), "runs")
        for trial in todo:
            analysis.measure(
                trial,
                num_vectors=vectors,
                num_samples=samples,
                batch_numbers=batch_numbers,
                store=store,
                device=device,
            )
            shown.advance(1)
    _show("hessian", results, folder)


@app.command()
def mgs(runs: RunsArgument, folder: FolderOption) -> None:
    """Model gradient similarity against epochs, beside the validation score.

    Of runs trained with an mgs_probe: trace and log-determinant of the kernel of their gradients.
    """
    _show("mgs", _collect(runs), folder)


@app.command()
def gradients(runs: RunsArgument, folder: FolderOption) -> None:
    """Gradient norms against steps (figure 3): raw, and as the optimiser applied them."""
    _show("gradients", _collect(runs), folder)


@app.command()
def deviations(runs: RunsArgument, folder: FolderOption) -> None:
    """Histogram of how far parameters moved from their start (figure 2), at the best epoch."""
    _show("deviations", _collect(runs), folder)


@app.command()
def ensembles(runs: RunsArgument, folder: FolderOption) -> None:
    """Ensembles of seeds: test score of fits that differ in their seed alone, averaged.

    Mean of logits, and mean of probabilities; with the method bagging, each seed has a bootstrap
    sample of the patients. It needs the store, which has the labels.
    """
    _show("ensembles", _collect(runs), folder)


@app.command()
def selection(runs: RunsArgument, folder: FolderOption) -> None:
    """Parameters that a method selects: by epoch (figure 4b), supervision (figure 6) and tensor."""
    _show("selection", _collect(runs), folder)


@app.command()
def thresholds(runs: RunsArgument, folder: FolderOption) -> None:
    """Score and selected parameters against the threshold of selection (figure 7)."""
    _show("thresholds", _collect(runs), folder)


def _collect(runs: list[Path]) -> "Results":
    from mimic_reg.report.results import collect

    results = collect(runs)
    for unfinished in results.unfinished:
        err.print(f"Left out: {escape(unfinished.name)}: {escape(unfinished.why)}", soft_wrap=True)
    if not results.trials:
        raise InputError("No run is finished: there is nothing to analyse.")
    return results


def _show(name: str, results: "Results", folder: Path) -> None:
    from mimic_reg.report import analyses

    if folder.is_file():
        raise InputError(f"{folder} is a file; --out names a folder.")
    found = analyses.analyse(name, results)
    for where, rows in found.tables.items():
        title = f"{found.title}: {where}"
        out.print(table(title, list(found.columns), [list(row) for row in rows]))
    out.print(found.note, soft_wrap=True)
    for path in analyses.save(found.drawn, folder):
        out.print(f"Wrote {escape(str(path))}.", soft_wrap=True)
