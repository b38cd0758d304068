"""What several commands print: a dry run, the results of a sweep, trials without a result."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from mimic_reg.cli.command import Result
from mimic_reg.console import err, out, say, table
from mimic_reg.errors import MimicRegError
from mimic_reg.progress import format_seconds

if TYPE_CHECKING:
    from mimic_reg.serving.current import Predicted
    from mimic_reg_pipelines.flows.dry_run import DryRun, Line
    from mimic_reg_pipelines.flows.report import Concluded
    from mimic_reg_pipelines.flows.result import SweepResult


def print_dry_run(plan: "DryRun") -> dict[str, Any]:
    """Print the trials of a dry run and what they may cost, a table for each task and model."""
    from mimic_reg import models
    from mimic_reg.report.formats import format_level

    if plan.extraction:
        say(plan.extraction)
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in plan.lines:
        groups.setdefault((line.task, line.model), []).append(line)
    columns = ["method", "training", "epochs", "trials", "finished", "each at most", "in all"]
    for key, lines in groups.items():
        rows = [
            [
                line.method,
                format_level(line.size),
                line.epochs if models.is_known(line.model) else "",  # without gradients: none
                line.trials,
                line.finished,
                *("unknown" if s is None else format_seconds(s) for s in (line.each, line.seconds)),
            ]
            for line in lines
        ]
        drawn = table(f"\n{escape(', '.join(key))}", columns, rows)
        drawn.box, drawn.pad_edge = None, False
        for column in drawn.columns[1:]:
            column.no_wrap = True
        out.print(drawn)
    say(f"\n{plan.summary}")
    return {
        "extraction": plan.extraction,
        "summary": plan.summary,
        "trials": plan.num_trials,
        "finished": plan.num_finished,
        "seconds_at_most": plan.seconds,
        "lines": plan.lines,
    }


def print_concluded(concluded: "Concluded | None") -> None:
    """Print the tables of a sweep, what was registered, and where the report is."""
    if concluded is None:
        return
    say(concluded.markdown)
    for registered in concluded.registered:
        what = "champion" if registered.champion else "not champion"
        text = f"Registered {registered.name}, version {registered.version}: {what}. "
        say(text + registered.why)
    for each in (each for each in concluded.leakage if each.status == "found"):
        err.print(f"[bold red]LEAKAGE[/]: {escape(f'{each.text} {each.advice}')}", soft_wrap=True)
    out.print(f"Report: [bold]{escape(str(concluded.report))}[/]", soft_wrap=True)


def print_failed(result: "SweepResult") -> None:
    """List the trials without a result; raise if no trial has one."""
    for trial in result.failed:
        why = trial.error or trial.status
        say(f"No result: {trial.name}: {why}", err)
    if len(result.failed) == len(result.trials):
        raise MimicRegError("No trial has a result.")


def print_comparison(work: Path) -> None:
    """Print where to compare the runs: links of a server, or the command that starts one."""
    from mimic_reg_pipelines.deploy import ui as pages
    from mimic_reg_pipelines.flows.run import ui_command
    from mimic_reg_pipelines.tracking import client

    uri = client.database(work)
    if not uri.startswith("http"):
        out.print(
            f"Compare the runs in MLflow: [bold]{escape(ui_command(work))}[/]", soft_wrap=True
        )
        return
    with client.answering(uri):
        for name, link in pages.links(uri, client.without_login(uri)).items():
            out.print(f"{escape(name)}: [bold]{escape(link)}[/]", soft_wrap=True)


def print_predicted(done: "Predicted", file: Path) -> dict[str, Any]:
    """Print which current stays were predicted, and what was left out; return it for --json."""
    key = done.table.columns[0]
    stays = done.table[key].n_unique()
    until = f" up to {done.now}" if done.now else ""
    say(f"{stays:,} stays predicted, with measurements{until}.")
    if done.excluded:
        rows = [[reason, count] for reason, count in done.excluded.items()]
        out.print(table("Left out", ["stays", "count"], rows))
    for note in done.notes:
        say(f"Note: {note}")
    return {
        "file": file,
        "predictions": done.table.height,
        "stays": stays,
        "now": done.now,
        "excluded": done.excluded,
        "notes": done.notes,
    }


def ended(result: "SweepResult", concluded: "Concluded | None") -> Result:
    """Return the result of a sweep for --json; exit code 1 if a trial has none."""
    trials = [
        {
            "task": trial.task,
            "model": trial.model,
            "method": trial.label,
            "size": trial.size,
            "seed": trial.seed,
            "fold": trial.fold,
            "status": trial.status,
            "error": trial.error,
            "run": result.run_folder(trial),
        }
        for trial in result.trials
    ]
    content = {
        "trials": trials,
        "scores": concluded.scores if concluded else [],
        "registered": [model.uri for model in concluded.registered] if concluded else [],
        "report": concluded.report if concluded else None,
        "leakage": [o for o in concluded.leakage if o.status == "found"] if concluded else [],
    }
    return Result(content, result.exit_code)
