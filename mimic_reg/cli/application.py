"""The commands of `mimic-reg`, and how they end."""

import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg import __version__
from mimic_reg.cli import (
    analyse,
    checks,
    cohorts,
    command,
    data,
    fits,
    listing,
    prune,
    reports,
    runs,
)
from mimic_reg.console import err, say, verbosity
from mimic_reg.errors import InputError, InterruptionError, MimicRegError

app = typer.Typer(
    name="mimic-reg",
    cls=command.Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # it would print local variables: patient data
    rich_markup_mode=None,  # plain help needs half the time, and reads well at 80 columns
    help=(
        "Reproducible deep learning on intensive-care time series (MIMIC-III).\n\n"
        "A first try with simulated patients:\n\n"
        "\b\n"
        "  mimic-reg synthesize --out raw --patients 1500\n"
        "  mimic-reg extract --source raw --out store\n"
        "  mimic-reg train --store store --task in_hospital_mortality \\\n"
        "    --model lstm --method itps --out runs/itps\n\n"
        "With MIMIC-III, give the folder of its tables as --source. Then check that your cohorts "
        "are the published ones: `mimic-reg verify store --published`."
    ),
    epilog=(
        "`mimic-reg COMMAND --help` explains a command. "
        "`mimic-reg --install-completion` makes the Tab key complete commands and options in "
        "bash, zsh, fish and PowerShell. "
        "The exit code is 0 for success, 1 for a failure, 2 for wrong usage or input, 130 after "
        "Ctrl-C."
    ),
)


command.add(
    app,
    data.extract,
    data.verify,
    data.export_benchmark,
    data.import_benchmark,
    data.import_images,
    data.synthesize,
    checks.check,
    checks.cohort,
    cohorts.import_cohort,
    cohorts.import_meds,
    cohorts.export_cohort,
    cohorts.export_meds,
    prune.prune,
    fits.train,
    fits.evaluate,
    fits.pretrain,
    fits.finetune,
    reports.report,
    reports.claims,
    reports.card,
    reports.board,
    runs.runs,
    runs.show,
)
app.add_typer(analyse.app, name="analyse")
app.add_typer(listing.app, name="list")


def _print_version(show: bool) -> None:
    if not show:
        return
    from mimic_reg.store.spec import SCHEMA_VERSION

    typer.echo(f"mimic-reg {__version__}")
    typer.echo(f"store format {SCHEMA_VERSION}")
    for name in ("torch", "polars", "mlflow", "prefect"):
        typer.echo(f"{name} {_version(name)}")
    raise typer.Exit


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of mimic-reg, of its store format and of its libraries.",
        ),
    ] = False,
) -> None:
    """Options of the command itself."""


def add_plugins() -> None:
    """Add the commands of other packages."""
    for plugin in entry_points(group="mimic_reg.commands"):
        plugin.load()(app)


def run(command: Callable[[], Any]) -> int:
    """Run a command and return its exit code; print an error as a sentence."""
    try:
        command()
    except InputError as error:
        return _tell("Error", str(error), InputError.exit_code)
    except MimicRegError as error:
        what = "" if isinstance(error, InterruptionError) else "Failed"
        return _tell(what, str(error), error.exit_code)
    except OSError as error:  # those that no command expects: rights, a folder in a file's place
        where = error.filename2 or error.filename
        said = f"{where}: {error.strerror}" if where and error.strerror else str(error)
        advice = (
            "Check free space, permissions and what is in its place; then run the command again."
        )
        return _tell("Failed", f"{said}. {advice}", MimicRegError.exit_code)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _tell(what: str, text: str, code: int) -> int:
    if verbosity.verbose:
        say(traceback.format_exc(), err)
    err.print(f"{what and f'[bold red]{what}:[/] '}{escape(text)}", soft_wrap=True)
    return code
