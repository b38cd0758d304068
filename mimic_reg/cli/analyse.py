"""The commands `mimic-reg analyse …`: parse, call, print."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic_reg.cli import command
from mimic_reg.cli.options import DeviceOption, MovedStoreOption, RunsArgument
from mimic_reg.console import err, out, progress, say, table
from mimic_reg.errors import InputError

if TYPE_CHECKING:
    from mimic_reg.report.results import Results

app = typer.Typer(
    cls=command.Commands,
    no_args_is_help=True,
    help="Draw the paper's analyses of finished runs, and print their numbers.",
)

FolderOption = Annotated[
    Path, typer.Option("--out", help="Folder for the figures, PNG and SVG.", metavar="DIR")
]


def hessian(
    runs: RunsArgument,
    folder: FolderOption,
    vectors: Annotated[
        int, typer.Option(help="Random vectors for an estimate.", min=2, metavar="N")
    ] = 100,
    samples: Annotated[
        int, typer.Option(help="Training samples at most.", min=1, metavar="N")
    ] = 2048,
    batch_numbers: Annotated[
        int,
        typer.Option(help="Input numbers at a time; fewer need less memory.", min=1, metavar="N"),
    ] = 1 << 18,
    store: MovedStoreOption = None,
    device: DeviceOption = None,
) -> Any:
    """Trace of the Hessian (figure 4a): how flat is the loss at the end?

    Runs trained with a hessian_probe have recorded the trace. For the others it is measured now, at
    their best epoch and at the lowest and the highest supervision level, and kept in their folders.
    A vector takes as long as one to five training passes over the samples: without a GPU take fewer
    vectors and samples.
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
    return _show("hessian", results, folder)


def mgs(runs: RunsArgument, folder: FolderOption) -> Any:
    """Model gradient similarity over epochs, with the validation score.

    The runs must have been trained with an mgs_probe. Drawn are trace and log-determinant of the
    kernel of their gradients.
    """
    return _show("mgs", _collect(runs), folder)


def gradients(runs: RunsArgument, folder: FolderOption) -> Any:
    """Gradient norms over steps (figure 3), raw and as the optimiser applied them."""
    return _show("gradients", _collect(runs), folder)


def deviations(runs: RunsArgument, folder: FolderOption) -> Any:
    """How far parameters moved from their initial values (figure 2), at the best epoch."""
    return _show("deviations", _collect(runs), folder)


def ensembles(runs: RunsArgument, folder: FolderOption) -> Any:
    """Test score of ensembles: the averaged predictions of runs that differ only in the seed.

    Averages are of logits and of probabilities. With the method bagging, each seed has its own
    bootstrap sample of the patients. The store is needed for the labels.
    """
    return _show("ensembles", _collect(runs), folder)


def selection(runs: RunsArgument, folder: FolderOption) -> Any:
    """Selected parameters by epoch (figure 4b), supervision (figure 6) and tensor."""
    return _show("selection", _collect(runs), folder)


def thresholds(runs: RunsArgument, folder: FolderOption) -> Any:
    """Score and selected parameters by the threshold of selection (figure 7)."""
    return _show("thresholds", _collect(runs), folder)


def _collect(runs: list[Path]) -> "Results":
    from mimic_reg.report.results import collect

    results = collect(runs)
    for unfinished in results.unfinished:
        say(f"Left out: {unfinished.name}: {unfinished.why}", err)
    if not results.trials:
        raise InputError("None of the runs is finished, so there is nothing to analyse.")
    return results


command.add(app, hessian, mgs, gradients, deviations, ensembles, selection, thresholds)


def _show(name: str, results: "Results", folder: Path) -> dict[str, Any]:
    from mimic_reg.report import analyses

    if folder.is_file():
        raise InputError(f"{folder} is a file; --out names a folder.")
    found = analyses.analyse(name, results)
    for where, rows in found.tables.items():
        title = f"{found.title}: {where}"
        out.print(table(title, list(found.columns), [list(row) for row in rows]))
    out.print(found.note, soft_wrap=True)
    written = analyses.save(found.drawn, folder)
    for path in written:
        say(f"Wrote {path}.")
    tables = {
        where: [dict(zip(found.columns, row, strict=True)) for row in rows]
        for where, rows in found.tables.items()
    }
    return {"analysis": name, "tables": tables, "note": found.note, "figures": written}
