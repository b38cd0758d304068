"""Predictions of a run's best model, as a Parquet file: of a store, or of current stays."""

from datetime import datetime
from pathlib import Path

import polars as pl

from mimic_reg.engine.devices import find_device
from mimic_reg.errors import InputError
from mimic_reg.progress import SILENT, Progress
from mimic_reg.runs import TRIAL, read_trial
from mimic_reg.serving.current import Hours, Predicted, predict_current
from mimic_reg.serving.model import SETTINGS, ServedModel, load_run
from mimic_reg.serving.raw import read_current
from mimic_reg.serving.stores import is_other_store, overlap_note, predict_store
from mimic_reg.store import Store, disk_errors, make_folder
from mimic_reg.store.atomic import PRIVATE, refuse_links, writing
from mimic_reg.threads import DEFAULT_THREADS, torch_threads


def predict(
    model: Path,
    store: Path,
    out: Path,
    *,
    allow_missing: bool = False,
    device: str | None = None,
    threads: int = DEFAULT_THREADS,
    progress: Progress = SILENT,
) -> int:
    """Predict every sample of the model's task in a store, into a Parquet file; return how many.

    The columns are the row of the task's sample table, the sample's keys, split, and the
    predictions. In a store with folds, the split is that of the run's fold if the run was trained
    on this store; else `fold` replaces it. The file has ids of patients' stays, so only its owner
    may read it.

    model:         a run folder, or a folder with an exported model
    allow_missing: treat channels that the store lacks as not measured
    threads:       of torch

    Raises:
        InputError: there is no such model; the store lacks its task; `out` cannot be written.
    """
    opened = Store.open(store)
    _check_out(out, opened)
    with torch_threads(threads):
        is_run = (model / TRIAL).is_file()
        trained_on = store if is_run and not is_other_store(model, store) else None
        served = load_model(model, trained_on, str(find_device(device)))
        if trained_on:
            opened = opened.in_fold(read_trial(model)["trial"].get("fold"))
        if not trained_on and (note := overlap_note(served, model, opened)):
            progress.note(note)
        table = predict_store(served, opened, progress, allow_missing=allow_missing)
    _write(table, out)
    return table.height


def predict_source(
    model: Path,
    source: Path,
    out: Path,
    hours: Hours,
    *,
    now: datetime | None = None,
    allow_missing: bool = False,
    store: Path | None = None,
    device: str | None = None,
    threads: int = DEFAULT_THREADS,
    progress: Progress = SILENT,
) -> Predicted:
    """Predict current stays from raw tables, into a Parquet file; see `Predicted`.

    The file has ids of patients' stays, so only its owner may read it.

    model:         a run folder, or a folder with an exported model
    source:        raw tables as those of the model's training data; outcomes are not needed
    now:           measurements after it are left out; None: the time of the latest one
    allow_missing: treat channels that the source lacks as not measured
    store:         of a run, the new place of the store that it was trained on

    Raises:
        InputError: there is no such model; the source cannot be used; `out` cannot be written.
    """
    _check_out(out, None)
    with torch_threads(threads):
        served = load_model(model, store, str(find_device(device)))
        current = read_current(
            served.recipe,
            served.spec,
            source,
            now=now,
            allow_missing=allow_missing,
            progress=progress,
        )
        predicted = predict_current(served, current, hours)
    _write(predicted.table, out)
    return predicted


def load_model(model: Path, store: Path | None, device: str) -> ServedModel:
    """Return the model of a run folder, or of a folder with an exported model.

    store: of a run, the new place of its store; None: the place that the run names

    Raises:
        InputError: there is no such model.
    """
    if (model / TRIAL).is_file():
        return load_run(model, store=store, device=device)
    return ServedModel.load(find_exported(model), device)


def _write(table: pl.DataFrame, out: Path) -> None:
    make_folder(out.parent)
    with disk_errors(out.parent), writing(out, mode=PRIVATE) as file:
        table.write_parquet(file)


def _check_out(out: Path, store: Store | None) -> None:
    """Refuse a place for predictions before they are made.

    Raises:
        InputError: a folder, no Parquet file, or a file within the store.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the Parquet file to write.")
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: predictions are a Parquet file. Name it ….parquet.")
    if store is not None and store.folder.resolve() in out.resolve().parents:
        raise InputError(f"{out} is in the store, whose files are hashed. Choose another place.")


def find_exported(folder: Path) -> Path:
    """Return the folder with the two files of an exported model.

    Raises:
        InputError: there is no such folder.
    """
    for place in (folder, folder / "artifacts"):
        if (place / SETTINGS).is_file():
            refuse_links(place)
            return place
    raise InputError(
        f"{folder} holds no model: neither a run ({TRIAL}) nor an exported one ({SETTINGS}). "
        "Name a run folder, or a registered model as models:/NAME@champion."
    )
