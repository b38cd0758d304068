"""Predictions for all samples of a store."""

import numpy as np
import polars as pl

from mimic_reg import samples
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress
from mimic_reg.serving.model import ServedModel
from mimic_reg.store import Store
from mimic_reg.store.spec import SPLIT, CohortSpec


def predict_store(model: ServedModel, store: Store, progress: Progress) -> pl.DataFrame:
    """Return a store's samples of the model's task with predictions, in the order of the table.

    Columns: row, the keys of samples, split (or fold), and each output; for models that estimate
    their uncertainty, also the standard deviation of each output, NAME_sd.

    Raises:
        InputError: the store does not have the task, or has other channels.
    """
    task, spec = model.task, store.spec
    check_features(model.spec, spec, str(store.folder))
    keys = list(dict.fromkeys((*spec.keys, spec.division if store.fold is None else SPLIT)))
    table = store.read(f"tasks/{task.name}.parquet").with_row_index("row").select("row", *keys)
    progress.stage("predict", table.height, "samples")
    shape = (table.height, len(model.outputs))
    found, spread = np.empty(shape, np.float32), np.full(shape, np.nan, np.float32)
    divided = store.in_fold(1) if spec.folds and store.fold is None else store  # all are predicted
    splits = samples.load_any(divided, task, constants=model.constants, device=model.device)
    for part in splits.values():
        if len(part):
            found[part.row], of_part = model.learner.predict_with_spread(part)
            if of_part is not None:
                spread[part.row] = of_part
            progress.advance(len(part))
    named = {name: found[:, c] for c, name in enumerate(model.outputs)}
    if not np.isnan(spread).all():
        named |= {f"{name}_sd": spread[:, c] for c, name in enumerate(model.outputs)}
    return table.with_columns(**named)


def check_features(wanted: CohortSpec, there: CohortSpec, where: str) -> None:
    """Refuse data with other features than those of a model's training data.

    Raises:
        InputError: hours instead of images, a missing or additional channel, another order.
    """
    if wanted.features != there.features or wanted.channel_names != there.channel_names:
        missing = [name for name in wanted.channel_names if name not in there.channel_names]
        raise InputError(
            f"{where} holds the cohort {there.name!r}, whose features differ from those of "
            f"{wanted.name!r}, on which the model was trained"
            + (f": the channel {missing[0]!r} is missing." if missing else ".")
        )
