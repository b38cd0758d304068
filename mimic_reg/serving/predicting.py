"""Predictions of a run's best model for all samples of a store, as a Parquet file."""

import tempfile
from pathlib import Path

from mimic_reg.engine.devices import find_device
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress, Silent
from mimic_reg.runs import TRIAL, read_trial
from mimic_reg.serving.model import SETTINGS, ServedModel, export
from mimic_reg.serving.stores import predict_store
from mimic_reg.store import Store, disk_errors, make_folder
from mimic_reg.store.atomic import PRIVATE, refuse_links, writing
from mimic_reg.threads import DEFAULT_THREADS, torch_threads


def predict(
    model: Path,
    store: Path,
    out: Path,
    *,
    device: str | None = None,
    threads: int = DEFAULT_THREADS,
    progress: Progress | None = None,
) -> int:
    """Predict every sample of the model's task in a store, into a Parquet file; return how many.

    The columns are the row of the task's sample table, the sample's keys, split, and the
    predictions. In a store with folds, the split is that of the run's fold if the run was trained
    on this store; else `fold` replaces it. The file has ids of patients' stays, so only its owner
    may read it.

    model:   a run folder, or a folder with an exported model
    threads: of torch

    Raises:
        InputError: there is no such model; the store lacks its task; `out` cannot be written.
    """
    opened = Store.open(store)
    _check_out(out, opened)
    with torch_threads(threads), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if (model / TRIAL).is_file():
            trained_on = _trained_on(store, model)
            export(model, folder, store=trained_on)
            if trained_on:
                opened = opened.in_fold(read_trial(model)["trial"].get("fold"))
        else:
            folder = find_exported(model)
        served = ServedModel.load(folder, str(find_device(device)))
        table = predict_store(served, opened, progress or Silent())
    make_folder(out.parent)
    with disk_errors(out.parent), writing(out, mode=PRIVATE) as file:
        table.write_parquet(file)
    return table.height


def _check_out(out: Path, store: Store) -> None:
    """Refuse a place for predictions before they are made.

    Raises:
        InputError: a folder, no Parquet file, or a file within the store.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the Parquet file to write.")
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: predictions are a Parquet file. Name it ….parquet.")
    if store.folder.resolve() in out.resolve().parents:
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


def _trained_on(store: Path, run: Path) -> Path | None:
    """Return the store if the run was trained on it; None: the one that the run names."""
    fingerprint = read_trial(run)["store"]["fingerprint"]
    return store if Store.open(store).manifest["fingerprint"] == fingerprint else None
