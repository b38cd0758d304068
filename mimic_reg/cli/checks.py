"""The commands `check` and `cohort`: is there a leak, and who are the patients?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.cli import command
from mimic_reg.cli.command import Result
from mimic_reg.cli.options import MovedStoreOption, StoreArgument, listed, there
from mimic_reg.console import err, out, say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from mimic_reg.checks import Outcome


def check(
    place: Annotated[
        Path,
        command.MAY_BE_URL,
        typer.Argument(
            help="A store, or a run folder.",
            metavar="STORE|RUN",
            show_default=False,
            callback=there,
        ),
    ],
    tasks: Annotated[
        list[str] | None,
        typer.Option(help="Of a store: the tasks to check; by default all.", metavar="A,B"),
    ] = None,
    store: MovedStoreOption = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Chooses stays and channels of a large store.", min=0, max=2**32 - 1, metavar="N"
        ),
    ] = 0,
) -> Any:
    """Look for leakage: does a store, or a trained model, know what it must not know?

    It checks that no patient or copy of data is in two splits, that normalisers were fitted to
    training hours, that nothing changes with hours after the prediction time, and that labels
    cannot be read from one channel, from lengths or from padding.

    Each check prints one sentence. The exit code is 1 if anything is found. Large stores are read
    in part, which the sentences say.
    """
    from mimic_reg import checks

    outcomes = checks.check(place, listed(tasks), store=store, seed=seed)
    print_outcomes(outcomes)
    number = len(checks.findings(outcomes))
    content = {"place": place, "findings": number, "checks": outcomes}
    return Result(content, 1 if number else 0)


_STYLES = {"passed": "green", "found": "bold red", "not checked": "yellow"}


def print_outcomes(outcomes: "Sequence[Outcome]", to: "Console" = out) -> None:
    """Print the outcomes of leakage checks by task, findings with what to do."""
    for task in dict.fromkeys(outcome.task for outcome in outcomes):
        to.print(f"[bold]{escape(task or 'All tasks')}[/]")
        for each in (outcome for outcome in outcomes if outcome.task == task):
            print_outcome(each, to)
    found = [outcome for outcome in outcomes if outcome.status == "found"]
    checked = sum(outcome.status != "not checked" for outcome in outcomes)
    left = len(outcomes) - checked
    say(
        f"{len(found):,} of {checked:,} checks found something."
        + f" {left:,} could not be made; the reasons stand above." * bool(left),
        to,
    )


def print_findings(outcomes: "Sequence[Outcome]") -> None:
    """Print the findings among outcomes of leakage checks."""
    for each in outcomes:
        if each.status == "found":
            print_outcome(each)


def print_outcome(outcome: "Outcome", to: "Console" = err) -> None:
    """Print one outcome, and what to do about a finding."""
    style, what = (
        _STYLES[outcome.status],
        outcome.status.upper() if outcome.advice else outcome.status,
    )
    advice = f" What to do: {outcome.advice}" if outcome.advice else ""
    to.print(f"  [{style}]{what}[/]: {escape(f'{outcome.text}{advice}')}", soft_wrap=True)


def cohort(
    store: StoreArgument,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Write the page cohort.html into this folder.", metavar="DIR"),
    ] = None,
    least: Annotated[
        int,
        typer.Option(
            "--least", help="Hide smaller counts; 1 hides none.", min=1, max=1000, metavar="N"
        ),
    ] = 10,
) -> Any:
    """Describe a store's patients: who was left out, table one, samples, measurements.

    Counts below 10 are hidden, and so are others from which they could be computed. The page also
    has the flow figure and the distribution of each variable.
    """
    from mimic_reg.report.cohort import describe, write_cohort
    from mimic_reg.store import Store

    opened = Store.open(store)
    content = describe(opened, least)
    if content["table_one"] is not None:
        first = content["table_one"]
        rows = [["  " * inner + name, *cells] for name, inner, cells in first.rows]
        out.print(table(f"Table one of {content['name']}", list(first.header), rows))
    rows = [list(row) for row in content["samples"]]
    out.print(table("Samples", content["samples_header"], rows))
    if folder is not None:
        content["page"] = write_cohort(opened, folder, least)
        say(f"Wrote {content['page']}.")
    return content
