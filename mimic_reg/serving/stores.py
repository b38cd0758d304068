"""Predictions for all samples of a store, which may hold another cohort of the same channels."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from mimic_reg import samples
from mimic_reg.clinical import schema
from mimic_reg.cohorts.features import normal_channels
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress
from mimic_reg.runs import TRIAL, read_trial
from mimic_reg.runs.description import open_store
from mimic_reg.serving.model import ServedModel
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLIT, CohortSpec


def predict_store(
    model: ServedModel, store: Store, progress: Progress, *, allow_missing: bool = False
) -> pl.DataFrame:
    """Return a store's samples of the model's task with predictions, in the order of the table.

    Columns: row, the keys of samples, split (or fold), and each output; for models that estimate
    their uncertainty, also the standard deviation of each output, NAME_sd.

    allow_missing: treat channels that the store lacks as not measured

    Raises:
        InputError: the store does not have the task, or lacks channels.
    """
    spec, name = store.spec, model.task.name
    divided = store.in_fold(1) if spec.folds and store.fold is None else store  # all are predicted
    splits = load_samples(model, divided, allow_missing=allow_missing)
    keys = list(dict.fromkeys((*spec.keys, spec.division if store.fold is None else SPLIT)))
    table = store.read(f"tasks/{name}.parquet").with_row_index("row").select("row", *keys)
    progress.stage("predict", table.height, "samples")
    shape = (table.height, len(model.outputs))
    found, spread = np.empty(shape, np.float32), np.full(shape, np.nan, np.float32)
    for part in splits.values():
        if len(part):
            found[part.row], of_part = model.learner.predict_with_spread(part)
            if of_part is not None:
                spread[part.row] = of_part
            progress.advance(len(part))
    return table.with_columns(**model.columns(found, None if np.isnan(spread).all() else spread))


def is_other_store(model: Path, store: Path) -> bool:
    """Return whether a store is not the one that a run was trained on.

    model: a run folder, or an exported model, whose store is always another one

    Raises:
        InputError: the store or the run cannot be read.
    """
    opened = Store.open(store)
    if not (model / TRIAL).is_file() and model.is_dir():
        return True
    return bool(read_trial(model)["store"]["fingerprint"] != opened.manifest["fingerprint"])


def load_samples(
    model: ServedModel, store: Store, *, allow_missing: bool = False
) -> dict[str, samples.Samples]:
    """Return a store's samples of the model's task, normalised as in the model's training.

    allow_missing: treat channels that the store lacks as not measured

    Raises:
        InputError: the store does not have the task, or lacks channels.
    """
    check_features(model.spec, store.spec, str(store.folder), allow_missing=allow_missing)
    normal = model.raw.get("settings", {}).get("normal_values", {}) if model.raw else {}
    return samples.load_any(
        store,
        store.spec.task(model.task.name),
        constants=model.constants,
        device=model.device,
        channels=unmeasured(model.spec, normal) if model.spec.is_hourly else None,
    )


def check_features(
    wanted: CohortSpec, there: CohortSpec, where: str, *, allow_missing: bool = False
) -> None:
    """Refuse data that lack features of a model's training data; they may have others, too.

    allow_missing: accept missing channels of hours, but not that all of them are missing

    Raises:
        InputError: hours instead of images, or missing channels (all are named).
    """
    differ = (
        f"{where} holds the cohort {there.name!r}, whose features differ from those of "
        f"{wanted.name!r}, on which the model was trained"
    )
    if wanted.is_hourly != there.is_hourly or wanted.shape != there.shape:
        raise InputError(f"{differ}.")
    kinds = {channel.name: channel.kind for channel in there.channels}
    for channel in wanted.channels:
        if (kind := kinds.get(channel.name, channel.kind)) != channel.kind:
            raise InputError(f"{differ}: {channel.name!r} is {kind}, not {channel.kind}.")
    missing = missing_channels(wanted, there)
    if not missing or (allow_missing and len(missing) < len(wanted.channels)):
        return
    advice = "The model has nothing to predict from."
    if not allow_missing:
        advice = "Add them, or use --allow-missing to treat them as not measured."
    one = f"the channel {missing[0]!r} is missing"
    named = ", ".join(map(repr, missing))
    several = f"{len(missing):,} of {len(wanted.channels):,} channels are missing: {named}"
    raise InputError(f"{differ}: {one if len(missing) == 1 else several}. {advice}")


def missing_channels(wanted: CohortSpec, there: CohortSpec) -> list[str]:
    """Return the channels of a cohort that another one does not have."""
    return [name for name in wanted.channel_names if name not in there.channel_names]


def unmeasured(spec: CohortSpec, normal_values: Mapping[str, float | str]) -> dict[str, float]:
    """Return channel → its value in hours before the first measurement, as training had it.

    NaN stands for the mean of the normaliser. The benchmark's cohorts have normal values.

    normal_values: those of an imported cohort
    """
    if spec.imputed:
        normal_values = {
            v.name: str(v.normal) if v.categories else v.normal for v in schema.variables()
        }
    absent = {"continuous": float("nan"), "indicator": 0.0, "observed": 0.0, "missing": 1.0}
    found = {channel.name: absent[channel.kind] for channel in spec.channels}
    values = [channel for channel in spec.channels if channel.kind in ("continuous", "indicator")]
    return found | normal_channels(values, normal_values)


def overlap_note(
    model: ServedModel, run: Path, store: Store, trained_on: Path | None = None
) -> str | None:
    """Return a sentence on the patients of another store who seem to be in the training data.

    run:        the model's run folder; an exported model does not know its patients: None
    trained_on: where the store of the training is, if it was moved
    """
    subject = model.spec.subject
    if not (run / TRIAL).is_file() or subject != store.spec.subject:
        return None
    ours, name = open_store(run, read_trial(run), trained_on), f"tasks/{model.task.name}.parquet"
    training = ours.scan(name).filter(pl.col("split") == "train").select(subject).unique()
    there = store.scan(name).select(subject).unique()
    common = there.join(training, on=subject, how="semi").select(pl.len()).collect().item()
    if not common:
        return None
    return (
        f"{common:,} subject ids are also those of training patients, for whom predictions are too "
        "good."
    )
