"""The commands that read and write cohorts in the form of ricu and YAIB."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from mimic_reg.console import out, table


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(import_cohort)
    app.command()(export_cohort)


def import_cohort(
    folder: Annotated[
        Path,
        typer.Argument(help="Folder with dyn, sta and outc: .parquet, .csv or .csv.gz."),
    ],
    store: Annotated[
        Path, typer.Option("--out", help="The store to write: a folder.", metavar="STORE")
    ],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the choices that differ from the defaults.", metavar="FILE"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store that holds another cohort.")
    ] = False,
) -> None:
    """Build a store from a cohort that ricu or YAIB extracted: eICU, HiRID, MIMIC-IV, …

    dyn holds a row per stay and hour (stay_id, time, variables), sta a row per stay (age, sex, …),
    outc the labels (stay_id, label; with a time column, a label per hour). The defaults follow
    YAIB; the store's manifest records all choices.
    """
    import yaml

    from mimic_reg.cohorts import ImportSettings
    from mimic_reg.cohorts import import_cohort as build
    from mimic_reg.errors import InputError
    from mimic_reg.settings.base import checked
    from mimic_reg.settings.yaml import load_yaml
    from mimic_reg.tasks import names

    given = load_yaml(config) if config else {}
    if not isinstance(given, dict):
        raise InputError(f"{config} must hold settings, one per line, such as hours: 24.")
    imported = build(folder, store, checked(ImportSettings, given), force=force)
    spec = imported.store.spec
    (task,) = spec.tasks
    chosen = imported.store.manifest["source"]["settings"]
    out.print(escape(yaml.safe_dump(chosen, sort_keys=False).rstrip()), soft_wrap=True)
    columns = list(imported.counts["train"])
    rows = [
        [{"val": "validation"}.get(split, split), *counts.values()]
        for split, counts in imported.counts.items()
    ]
    out.print(table(f"{spec.name}: {task.name} ({task.target})", ["split", *columns], rows))
    for note in imported.notes:
        out.print(f"Note: {escape(note)}", soft_wrap=True)
    out.print(
        f"Wrote {escape(str(store))}: {len(spec.channels)} channels of {spec.unit}s.",
        soft_wrap=True,
    )
    # the settings of MIMIC-III's tasks ask for its published normaliser
    normalizer = " --normalizer fitted" if task.name in names() else ""
    out.print(
        f"Next: mimic-reg train --store {escape(str(store))} --task {task.name} --model lstm "
        f"--out RUN{normalizer}",
        soft_wrap=True,
    )


def export_cohort(
    store: Annotated[Path, typer.Argument(help="A store, made by `mimic-reg extract`.")],
    task: Annotated[str, typer.Option(help="The task to write.", metavar="TASK")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the files; new or empty.", metavar="DIR")
    ],
) -> None:
    """Write a task of a MIMIC store as dyn, sta and outc, as ricu and YAIB read them."""
    from mimic_reg.cohorts import export_cohort as write
    from mimic_reg.store import Store

    written = write(Store.open(store), task, folder)
    rows = ", ".join(f"{name} {count:,} rows" for name, count in written.items())
    out.print(f"Wrote {escape(str(folder))}: {rows}.", soft_wrap=True)
    print_next(folder)


def print_next(folder: Path) -> None:
    """Print the command that imports what was written."""
    name = escape(str(folder))
    out.print(
        f"Next: mimic-reg import-cohort {name} --out STORE --config {name}/cohort.yaml",
        soft_wrap=True,
    )


def synthesize_ricu(folder: Path, **options: Any) -> None:
    """Simulate patients, and write their in-hospital mortality as dyn, sta and outc."""
    from mimic_reg.cohorts import export_cohort as write
    from mimic_reg.extraction import extract
    from mimic_reg.simulation.synthesis import synthesize
    from mimic_reg.store import Store

    task = "in_hospital_mortality"
    with tempfile.TemporaryDirectory(prefix="mimic-reg-") as temporary:
        raw, store = Path(temporary, "raw"), Path(temporary, "store")
        synthesize(raw, **options)
        extract(raw, store, task_names=[task])
        written = write(Store.open(store), task, folder)
    rows = ", ".join(f"{name} {count:,} rows" for name, count in written.items())
    out.print(f"Wrote {escape(str(folder))}, simulated: {rows}.", soft_wrap=True)
    print_next(folder)
