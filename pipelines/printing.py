"""What several commands print: a dry run, what a sweep led to, trials without a result."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from mimic_reg.console import err, out, table
from mimic_reg.errors import MimicRegError

if TYPE_CHECKING:
    from pipelines.flows.dry_run import DryRun
    from pipelines.flows.report import Concluded
    from pipelines.flows.result import SweepResult


def print_dry_run(plan: "DryRun") -> None:
    """Print the trials of a dry run, and what they may cost."""
    from mimic_reg.report.formats import format_level
    from pipelines.flows.dry_run import format_seconds

    rows = [
        [
            line.task,
            line.model,
            line.method,
            format_level(line.size),
            line.epochs,
            len(line.seeds),
            line.finished,
            "unknown" if line.seconds is None else format_seconds(line.seconds),
        ]
        for line in plan.lines
    ]
    columns = ["task", "model", "method", "supervision", "epochs", "trials", "finished", "at most"]
    if plan.extraction:
        out.print(escape(plan.extraction), soft_wrap=True)
    out.print(table("Trials", columns, rows))
    out.print(escape(plan.summary), soft_wrap=True)


def print_concluded(concluded: "Concluded | None") -> None:
    """Print the tables of a sweep, what was registered, and where the report is."""
    if concluded is None:
        return
    out.print(escape(concluded.markdown), soft_wrap=True)
    for registered in concluded.registered:
        what = "champion" if registered.champion else "not champion"
        text = f"Registered {registered.name}, version {registered.version}: {what}. "
        out.print(escape(text + registered.why), soft_wrap=True)
    out.print(f"Report: [bold]{escape(str(concluded.report))}[/]", soft_wrap=True)


def print_failed(result: "SweepResult") -> None:
    """List what has no result; raise if nothing has."""
    for trial in result.failed:
        err.print(f"No result: {escape(trial.name)}: {escape(trial.error or trial.status)}")
    if len(result.failed) == len(result.trials):
        raise MimicRegError("No trial has a result.")


def print_comparison(work: Path) -> None:
    """Tell where to compare the runs: the links of a server, or the command that starts one."""
    from pipelines.deploy import ui as pages
    from pipelines.flows.run import ui_command
    from pipelines.tracking import client

    uri = client.database(work)
    if not uri.startswith("http"):
        out.print(
            f"Compare the runs in MLflow: [bold]{escape(ui_command(work, None))}[/]", soft_wrap=True
        )
        return
    with client.answering(uri):
        for name, link in pages.links(uri, client.without_login(uri)).items():
            out.print(f"{escape(name)}: [bold]{escape(link)}[/]", soft_wrap=True)
