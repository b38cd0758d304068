"""The commands that read and write cohorts in the forms of ricu and YAIB, and of MEDS."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic_reg.cli.audit import SPLIT_NAMES
from mimic_reg.cli.options import FoldOption, MemoryOption, StoreArgument, StoreOut, there
from mimic_reg.console import err, out, progress, say, table

if TYPE_CHECKING:
    from mimic_reg.cohorts import Imported

_FOLDS = 5  # of an example


def import_cohort(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder with dyn, sta and outc: .parquet, .csv or .csv.gz.",
            metavar="DIR",
            callback=there,
        ),
    ],
    store: StoreOut,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the choices that differ from the defaults.", metavar="FILE"),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Divide the patients into folds for cross-validation, not once.",
            min=3,
            metavar="K",
        ),
    ] = None,
    memory: MemoryOption = "4GB",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store that holds another cohort.")
    ] = False,
) -> Any:
    """Build a store from a cohort that ricu or YAIB extracted: eICU, HiRID, MIMIC-IV, …

    dyn has a row per stay and hour (stay_id, time, variables), sta a row per stay (age, sex, …),
    outc the labels (stay_id, label; with a time column, a label per hour). The defaults follow
    YAIB; the store's manifest records all choices.
    """
    from mimic_reg.cohorts import ImportSettings
    from mimic_reg.cohorts import import_cohort as build
    from mimic_reg.errors import InputError
    from mimic_reg.extraction.memory import parse_memory
    from mimic_reg.settings.base import checked

    amount, given = parse_memory(memory), _given(config)
    if folds is not None:
        splits = given.get("splits") or {}
        if not isinstance(splits, dict) or splits.get("folds", folds) != folds:
            raise InputError(f"--folds {folds}: {config} has other splits. Give one of them.")
        given = {**given, "splits": {**splits, "folds": folds}}
    settings = checked(ImportSettings, given)
    return _imported(build(folder, store, settings, force=force, memory=amount), store)


def import_meds(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Folder of a MEDS data set, with data/.", metavar="DIR", callback=there
        ),
    ],
    labels: Annotated[
        Path,
        typer.Option(
            help="Labels as ACES writes them: a .parquet file, or a folder of them.",
            metavar="FILE",
            callback=there,
        ),
    ],
    store: StoreOut,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with 'start' or 'window', and other choices.", metavar="FILE"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store that holds another cohort.")
    ] = False,
    memory: MemoryOption = "4GB",
) -> Any:
    """Build a store from a MEDS data set and a table of labels.

    The labels have subject_id, prediction_time and one of boolean_value, integer_value, float_value
    and categorical_value. A sample sees the whole hours that ended by its prediction time, since
    the start of its stay (setting 'start'), or so many before it ('window').
    """
    from mimic_reg.cohorts.meds import MedsSettings
    from mimic_reg.cohorts.meds import import_meds as build
    from mimic_reg.extraction.memory import parse_memory
    from mimic_reg.settings.base import checked

    amount = parse_memory(memory)
    settings = checked(MedsSettings, _given(config))
    return _imported(build(folder, labels, store, settings, force=force, memory=amount), store)


def _given(config: Path | None) -> dict[str, Any]:
    """The settings in a YAML file."""
    from mimic_reg.errors import InputError
    from mimic_reg.settings.yaml import load_yaml

    given = load_yaml(config) if config else {}
    if not isinstance(given, dict):
        raise InputError(f"{config} must hold settings, one per line, such as hours: 24.")
    return given


def _imported(imported: "Imported", store: Path) -> Any:
    """Print the choices, the counts and the next command."""
    import yaml

    from mimic_reg.tasks import names

    spec = imported.store.spec
    (task,) = spec.tasks
    chosen = imported.store.manifest["source"]["settings"]
    say(yaml.safe_dump(chosen, sort_keys=False).rstrip())
    columns = [spec.division, *next(iter(imported.counts.values()))]
    rows = [
        [SPLIT_NAMES.get(split, split), *counts.values()]
        for split, counts in imported.counts.items()
    ]
    out.print(table(f"{spec.name}: {task.name} ({task.target})", columns, rows))
    for note in imported.notes:
        say(f"Note: {note}")
    say(f"Wrote {store}: {len(spec.channels)} channels, keyed by {spec.unit}.")
    # the settings of MIMIC-III's tasks ask for its published normaliser
    options = " --set training.normalizer=fitted" if task.name in names() else ""
    options += " --fold 1" if spec.folds else ""
    say(f"Next: mimic-reg train --store {store} --task {task.name} --model lstm --out RUN{options}")
    return {"folder": store, "samples": imported.counts, "notes": imported.notes}


def export_cohort(
    store: StoreArgument,
    task: Annotated[str, typer.Option(help="The task to write.", metavar="TASK")],
    folder: Annotated[
        Path, typer.Option("--out", help="Folder for the files; new or empty.", metavar="DIR")
    ],
) -> Any:
    """Write a task of a MIMIC store as dyn, sta and outc, as ricu and YAIB read them."""
    from mimic_reg.cohorts import export_cohort as write
    from mimic_reg.store import Store

    return _written(folder, write(Store.open(store), task, folder))


def export_meds(
    store: StoreArgument,
    folder: Annotated[
        Path, typer.Option("--out", help="Folder of the data set; new or empty.", metavar="DIR")
    ],
    fold: FoldOption = None,
) -> Any:
    """Write a store as a MEDS data set: events, codes, splits, and the labels of its tasks."""
    from mimic_reg.cohorts.meds import export_meds as write
    from mimic_reg.store import Store

    opened = Store.open(store).in_fold(fold)
    with progress(err) as shown:
        rows = write(opened, folder, shown)
    counts = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    say(f"Wrote {folder}: {counts}.")
    (task, *_) = opened.spec.task_names
    say(
        f"Next: mimic-reg import-meds {folder} --labels {folder}/tasks/{task} "
        f"--config {folder}/tasks/{task}.yaml --out STORE"
    )
    return {"folder": folder, "rows": rows}


def synthesize_ricu(folder: Path, **options: Any) -> Any:
    """Simulate patients, and write their in-hospital mortality as dyn, sta and outc.

    Its settings divide the patients into five folds.
    """
    from mimic_reg.cohorts import export_cohort as write
    from mimic_reg.extraction import extract
    from mimic_reg.simulation.synthesis import synthesize
    from mimic_reg.store import Store

    task = "in_hospital_mortality"
    with tempfile.TemporaryDirectory(prefix="mimic-reg-") as temporary:
        raw, store = Path(temporary, "raw"), Path(temporary, "store")
        synthesize(raw, **options)
        extract(raw, store, task_names=[task])
        return _written(folder, write(Store.open(store), task, folder, folds=_FOLDS))


def _written(folder: Path, rows: dict[str, int]) -> Any:
    """Print what was written, and the command that imports it."""
    counts = ", ".join(f"{name} {count:,} rows" for name, count in rows.items())
    say(f"Wrote {folder}: {counts}.")
    say(f"Next: mimic-reg import-cohort {folder} --out STORE --config {folder}/cohort.yaml")
    return {"folder": folder, "rows": rows}
