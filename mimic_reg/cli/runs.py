"""The commands `runs` and `show`: what run folders hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.cli.options import RunArgument, listed, there
from mimic_reg.console import out, say, table
from mimic_reg.errors import InputError

COLUMNS = (
    *("run", "task", "model", "method", "training", "seed", "fold", "status", "cohort"),
    *("score", "validation", "test", "best", "epochs", "written"),
)
_LONGEST = 24  # characters of a run's name in a table


def runs(
    work: Annotated[
        Path,
        typer.Argument(
            help="A work folder, or any folder with runs.", metavar="WORK", callback=there
        ),
    ],
    task: Annotated[
        list[str] | None, typer.Option(help="Only runs of these tasks.", metavar="A,B")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only runs of these models.", metavar="A,B")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Only runs of these methods.", metavar="A,B")
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(help="Only finished, unfinished, failed or damaged runs.", metavar="A,B"),
    ] = None,
    sort: Annotated[
        str, typer.Option(help="Column to sort by, ascending, such as test.", metavar="COLUMN")
    ] = "run",
    reverse: Annotated[bool, typer.Option("--reverse", help="Sort in descending order.")] = False,
    csv: Annotated[
        Path | None, typer.Option(help="Write all columns to this CSV file.", metavar="FILE")
    ] = None,
) -> Any:
    """List the run folders in a folder: settings, status, scores.

    The table shortens a long name to its end: `mimic-reg show WORK/runs/*c1f75585` finds the run.
    The column epoch shows the best epoch and the number of epochs. --csv and --json have all
    columns.
    """
    from mimic_reg.settings import suggest

    rows = [_row(folder, work) for folder in _folders(work)]
    for name, wanted in (("task", task), ("model", model), ("method", method), ("status", status)):
        known = {row[name] for row in rows}
        for value in listed(wanted):
            if value not in known:
                raise InputError(f"No run has the {name} {value!r}. {suggest(value, known)}")
        rows = [row for row in rows if not wanted or row[name] in listed(wanted)]
    if sort not in COLUMNS:
        raise InputError(f"There is no column {sort!r}. {suggest(sort, COLUMNS)}")
    with_value = [row for row in rows if row[sort] not in (None, "")]
    others = [row for row in rows if row[sort] in (None, "")]
    rows = sorted(with_value, key=lambda row: row[sort], reverse=reverse) + others
    if csv is not None:
        _write_csv(rows, csv)
    _print(rows, work)
    return rows


def show(run: RunArgument) -> Any:
    """Print what a run folder holds: settings, data, versions, scores.

    For a fit of several tasks it prints the run of each task.
    """
    import yaml

    from mimic_reg.cli.fits import print_score_line
    from mimic_reg.cli.scores import print_scores
    from mimic_reg.runs import FIT, TRIAL
    from mimic_reg.runs.record import read_run
    from mimic_reg.store.remote import recorded

    parts = sorted(path.parent for path in run.glob(f"*/{TRIAL}")) if (run / FIT).is_file() else []
    shown = []
    for folder in parts or [run]:
        found, row = read_run(folder), _row(folder, run)
        out.print(f"[bold]{escape(str(folder))}[/]: {row['status']}", soft_wrap=True)
        out.print(yaml.safe_dump(dict(found.settings), sort_keys=False), end="", markup=False)
        versions = {name: value for name, value in found.versions.items() if value}
        facts = {
            "data": f"{found.cohort.name}, fingerprint {found.fingerprint}",
            **_fold(found),
            "store": recorded(found.store),
            "device": f"{found.device}, threads: {found.threads or 'not recorded'}",
            "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
        }
        for name, fact in facts.items():
            say(f"{name}: {fact}")
        if found.finished:
            print_scores(found.scores, found.cohort)
            print_score_line(folder, found.task)
        shown.append(
            {
                **row,
                "settings": found.settings,
                "fingerprint": found.fingerprint,
                "store": recorded(found.store),
                "device": found.device,
                "threads": found.threads,
                "versions": versions,
                "scores": found.scores,
                "hardly_trained": found.hardly_trained,
            }
        )
    return shown if parts else shown[0]


def _fold(run: Any) -> dict[str, str]:
    """Return which fold tested a run, as a fact; nothing without folds."""
    fold, folds = run.settings.get("fold"), run.cohort.folds
    if fold is None:
        return {}
    before = (fold - 1) // folds * folds  # folds of earlier divisions
    others = "the others train"
    if run.cohort.repeats > 1:
        others += f"; folds {before + 1} to {before + folds} are a division of the patients"
    validates = before + (fold - before) % folds + 1
    return {"fold": f"{fold} of {run.cohort.num_folds} tests, {validates} validates, {others}"}


def _folders(work: Path) -> list[Path]:
    from mimic_reg.runs import TRIAL

    if not work.is_dir():
        raise InputError(f"There is no folder {work}.")
    found = [p.parent for p in sorted(work.rglob(TRIAL)) if "mlflow-artifacts" not in p.parts]
    if not found:
        raise InputError(
            f"{work} holds no run. Make one with `mimic-reg train` or `mimic-reg sweep`."
        )
    return found


def _row(folder: Path, work: Path) -> dict[str, Any]:
    """Return a run as a table has it; of a damaged one only its name.

    It reads the files itself: `runs.record` would load scikit-learn and torch, which takes seconds.
    """
    from mimic_reg.runs import (
        HISTORY,
        TRIAL,
        check_finished,
        is_done,
        read_history,
        read_scored,
        read_trial,
    )
    from mimic_reg.settings import acting, training_size

    name = folder.name if folder == work else str(folder.relative_to(work))
    row: dict[str, Any] = dict.fromkeys(COLUMNS) | {"run": name, "status": "damaged"}
    written = datetime.fromtimestamp((folder / TRIAL).stat().st_mtime, UTC)
    try:
        described = read_trial(folder)
        check_finished(folder)
        history = read_history(folder / HISTORY)
        settings = described["trial"]
        size = training_size(settings["supervision"], settings.get("num_samples"))
        methods = " + ".join(acting(name for entry in settings["regularisers"] for name in entry))
        if together := settings.get("together"):
            methods = f"{next(iter(together['strategy']))}: {methods}"
        failed = bool(history) and history[-1]["event"] == "failed"
        found = row | {
            "task": settings["task"],
            "model": next(iter(settings["model"])),
            "method": methods,
            "training": f"{size.value:g} %" if size.is_share else f"{size.value:g} samples",
            "seed": settings["seed"],
            "fold": settings.get("fold"),
            "status": "failed" if failed else "unfinished",
            "cohort": described["cohort"]["name"],
            "epochs": sum(event["event"] == "epoch" for event in history),
            "written": written.isoformat(timespec="seconds"),
        }
        if not is_done(folder, described["id"]):
            return found
        scored = read_scored(folder)
        score = scored["selected_by"]
        values = {split: scores[score]["value"] for split, scores in scored["scores"].items()}
        best = scored["best_epoch"] + 1
        return found | {"status": "finished", "score": score, "best": best, **values}
    except (InputError, KeyError, TypeError, AttributeError):
        return row


def _write_csv(rows: list[dict[str, Any]], path: Path) -> None:
    import polars as pl

    from mimic_reg.store import atomic, disk_errors

    with disk_errors(path.parent):
        atomic.write_text(path, pl.DataFrame(rows, infer_schema_length=None).write_csv())


def _print(rows: list[dict[str, Any]], work: Path) -> None:
    """Print a table for each task and model."""
    say(f"{len(rows):,} run{'s' * (len(rows) != 1)} in {work}")
    finished = all(row["status"] == "finished" for row in rows)
    columns = ["run", "method", "training", "seed", "fold", "status", "validation", "test", "epoch"]
    needless = {"status": finished, "fold": all(row["fold"] is None for row in rows)}
    columns = [name for name in columns if not needless.get(name)]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(str(row[name]) for name in ("cohort", "task", "model", "score") if row[name])
        groups.setdefault(key, []).append(row)
    for key, members in groups.items():
        cells = [[_cell(name, row) for name in columns] for row in members]
        drawn = table(f"\n{escape(', '.join(key))}", columns, cells)
        drawn.box, drawn.pad_edge = None, False
        for column, name in zip(drawn.columns, columns, strict=True):
            column.no_wrap = name != "method"
            column.justify = "left" if name in ("run", "method", "status") else "right"
        out.print(drawn)


def _cell(name: str, row: dict[str, Any]) -> str:
    if name == "epoch":
        return f"{row['best']} of {row['epochs']}" if row["best"] else str(row["epochs"] or "")
    value = row[name]
    if name == "run" and len(value) > _LONGEST:
        return escape(f"…{value[-8:]}")
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else escape(str(value))
