"""The command `mimic-reg`: its groups of commands, and how it ends."""

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from mimic_reg import __version__
from mimic_reg.cli import analyse, data, fits, methods
from mimic_reg.console import err, out
from mimic_reg.errors import InputError, MimicRegError


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
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # it would print local variables: patient data
    rich_markup_mode=None,
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


data.add_to(app)
fits.add_to(app)
methods.add_to(app)
app.add_typer(analyse.app, name="analyse")


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


def main() -> None:
    """Run the command: exit code 0, 1 (failed) or 2 (bad usage or input)."""
    os.umask(0o077)  # what it writes is about patients, or was made of them: for its owner only
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
    except OSError as error:  # those that no command expects: rights, a folder in a file's place
        where = error.filename2 or error.filename
        said = f"{where}: {error.strerror}" if where and error.strerror else str(error)
        err.print(
            f"[bold red]Failed:[/] {escape(said)}. Mend that (room, permissions, what lies in its "
            "place), and run the same command again.",
            soft_wrap=True,
        )
        return MimicRegError.exit_code
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
