"""Serving: a trained model as two files, raw hourly features in, probabilities out; no pickle.

`model.safetensors` holds the weights and what the method needs to predict, `model.yaml` everything
else: task, labels, architecture, methods, the names of the 76 channels, the normaliser, the origin.
MLflow's model is these two files and three lines of code ("model from code").

What a request holds: a table with a row an hour, the 76 channels of `schema.CHANNELS` as the store
has them (imputed, not normalised), and, if there are several stays, `stay`, the caller's own key.
With `hour` (0, 1, …) the rows may come in any order. The answer has a row a stay.

Shapes: R rows (hours of all stays), N stays or samples, F channels, C outputs.
"""

import difflib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import torch
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from mimic_reg import atomic, tasks
from mimic_reg.clinical.normalizers import published
from mimic_reg.engine.checkpoint import load_state, save_state
from mimic_reg.engine.trainer import EVALUATION_NUMBERS, prediction
from mimic_reg.errors import InputError
from mimic_reg.experiments import IMAGE_TASK
from mimic_reg.progress import Progress, Silent
from mimic_reg.regularisers.base import Predict
from mimic_reg.runs import BEST, TRIAL, read_trial
from mimic_reg.samples import Samples, Units, read_normalizer
from mimic_reg.schema import (
    CHANNELS,
    CONTINUOUS_CHANNELS,
    EPSILON,
    OBSERVED_CHANNELS,
    variables,
)
from mimic_reg.seals import sealed
from mimic_reg.storage import Store, disk_errors, make_folder, reading
from mimic_reg.strategies.single import find_device
from mimic_reg.tasks.base import Target, Task
from mimic_reg.threads import DEFAULT_THREADS, torch_threads
from pipelines import serving_images
from pipelines.mlflow_store import check_usable, default, quiet
from pipelines.restore import FORMAT, read_settings, restore
from pipelines.serving_images import ImagePredictor, describe_images, predict_store
from pipelines.tracked_run import RunFolder, read_run

WEIGHTS = "model.safetensors"
SETTINGS = "model.yaml"
STAY, HOUR = "stay", "hour"

_STAYS_AT_ONCE = 4096
_CODE = '''"""The model of mimic-reg that this folder holds; needs the package of the same name."""

from mlflow.models import set_model

from pipelines.serving import HourlyModel

set_model(HourlyModel())
'''


def export(run: RunFolder, folder: Path, *, store: Path | None = None) -> None:
    """Write the best model of a run folder as `model.safetensors` and `model.yaml`.

    store: where the cohort store is now, if it was moved; only needed for its own normaliser

    Raises:
        InputError: the run has no trained model, or the store is not the one it was trained on.
    """
    if not (run.folder / BEST).is_file():
        raise InputError(f"{run.folder} holds no trained model yet. Go on with its training.")
    task = tasks.get(run.trial.task)
    state = load_state(run.folder / BEST)
    settings = {
        "format": FORMAT,
        "task": task.name,
        "target": task.target,
        "labels": list(task.labels),
        "method": run.method,
        **_features(run, task, store),
        "trial": run.trial.model_dump(mode="json"),
        "origin": {
            "trial_id": run.id,
            "data_fingerprint": run.fingerprint,
            "code_version": run.versions["code"],
            "mimic_reg": run.versions["mimic_reg"],
        },
    }
    save_state(folder / WEIGHTS, {"model": state["model"], "method": state["method"]})
    text = yaml.safe_dump(sealed(settings), sort_keys=False, allow_unicode=True, width=100)
    atomic.write_text(folder / SETTINGS, text)


def _features(run: RunFolder, task: Task, store: Path | None) -> dict[str, Any]:
    """What the model sees, and how it is normalised."""
    if task.name == IMAGE_TASK:
        return describe_images(_its_store(run, store), task, run.trial.training.normalizer)
    return {"channels": list(CHANNELS), "normalizer": _normalizer(run, task, store)}


def _its_store(run: RunFolder, store: Path | None) -> Store:
    """The store that a run was trained on.

    Raises:
        InputError: it is another one.
    """
    opened = Store.open(store or Path(read_trial(run.folder)["store"]["path"]))
    if opened.manifest["fingerprint"] != run.fingerprint:
        raise InputError(
            f"{opened.folder} is not the store that {run.folder} was trained on: their "
            "fingerprints differ. Name the right one."
        )
    return opened


def _normalizer(run: RunFolder, task: Task, store: Path | None) -> dict[str, list[float]]:
    """Mean and deviation of every channel that is normalised."""
    if run.trial.training.normalizer == "published":
        state = published(task.name)
        mean, std = np.array(state["means"]), np.array(state["stds"])
    else:
        mean, std = read_normalizer(_its_store(run, store), task, "fitted")
    at = [CHANNELS.index(channel) for channel in CONTINUOUS_CHANNELS]
    pairs = zip(CONTINUOUS_CHANNELS, mean[at], std[at], strict=True)
    return {channel: [float(m), float(s)] for channel, m, s in pairs}


@dataclass(frozen=True)
class Predictor:
    """A model that predicts from raw hourly features.

    outputs:  names of what it predicts
    mean, std: (F,) of the normaliser; 0 and 1 where a channel is left as it is
    """

    task: Task
    outputs: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    predict: Predict
    device: torch.device

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """The model in a folder that `export` wrote.

        Raises:
            InputError: the folder holds no such model, or this program cannot read it.
        """
        settings = read_settings(folder / SETTINGS)
        if settings.get("channels") != list(CHANNELS):
            raise InputError(
                f"{folder} was written for another version of mimic-reg: this one reads models "
                f"with the benchmark's {len(CHANNELS)} channels. Export the model again."
            )
        where = torch.device(device)
        with reading(folder / SETTINGS, "a model's description"):
            mean, std = np.zeros(len(CHANNELS)), np.ones(len(CHANNELS))
            for channel, pair in settings["normalizer"].items():
                mean[CHANNELS.index(channel)], std[CHANNELS.index(channel)] = pair
            task = tasks.get(settings["task"])
            predict = restore(settings, task, load_state(folder / WEIGHTS), where)
        return cls(task, output_names(task), mean, std, predict, where)

    def run(self, values: np.ndarray, first: np.ndarray, length: np.ndarray) -> np.ndarray:
        """(N, C) predictions.

        values: (R, F) raw features, the hours of a stay in a row
        first, length: (N,) the first row of a sample, and how many
        """
        samples = self._samples(values, first, length)
        result = np.empty((len(samples), len(self.outputs)), np.float32)
        with torch.no_grad():
            for index in samples.evaluation_batches(EVALUATION_NUMBERS):
                batch = samples.gather(index)
                logits = self.predict(batch.x, batch.lengths)
                result[index.numpy()] = prediction(self.task.target, logits).float().cpu().numpy()
        return result

    def _samples(self, values: np.ndarray, first: np.ndarray, length: np.ndarray) -> Samples:
        """As the engine sees them, without labels."""
        num = len(first)
        rows = np.zeros((len(values) + 1, len(CHANNELS)), np.float32)  # the last one for padding
        rows[:-1] = (values - self.mean) / self.std
        units = Units(
            values=torch.from_numpy(rows).to(self.device),
            offset=torch.from_numpy(first.astype(np.int64)).to(self.device),
            subject=np.zeros(num, np.int32),
            sequence=True,
        )
        lengths = torch.from_numpy(length.astype(np.int32))
        return Samples(
            units=units,
            target=self.task.target,
            unit=torch.arange(num, dtype=torch.int32, device=self.device),
            length=lengths.to(self.device),
            label=torch.zeros(num, 1, device=self.device),
            lengths=lengths,
            row=np.arange(num, dtype=np.int32),
        )

    def table(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The answer to a request: a row a stay, in the order in which the stays appear.

        Raises:
            InputError: a column is missing, a cell is empty or no number, an hour is missing.
        """
        check_columns(frame)
        keys = frame[STAY] if STAY in frame else pd.Series("", index=frame.index)
        if keys.isna().any():
            raise InputError(f"The column {STAY!r} has empty cells.")
        codes, stays = pd.factorize(keys)
        values, hours = _numbers(frame, list(CHANNELS)), None
        order = np.argsort(codes, kind="stable")
        if HOUR in frame:
            hours = _numbers(frame, [HOUR])[:, 0]
            order = np.lexsort((hours, codes))
        length = np.bincount(codes, minlength=len(stays))
        first = np.cumsum(length) - length
        if hours is not None:
            _check_hours(hours[order], np.arange(len(frame)) - np.repeat(first, length), stays)
        predictions = self.run(values[order], first, length)
        answer: dict[str, Any] = {STAY: stays} if STAY in frame else {}
        answer["hours"] = length
        answer |= {name: predictions[:, c] for c, name in enumerate(self.outputs)}
        return pd.DataFrame(answer)


def output_names(task: Task) -> tuple[str, ...]:
    """What the columns of the answer are called."""
    names: dict[Target, tuple[str, ...]] = {
        "binary": ("probability",),
        "multilabel": task.labels,
        "multiclass": tuple(f"class_{c}" for c in range(task.num_outputs)),
        "regression": ("prediction",),
    }
    return names[task.target]


def check_columns(frame: pd.DataFrame) -> None:
    """Refuse a table without all channels; the text names what comes nearest.

    Raises:
        InputError: a column is missing, or the table has no rows.
    """
    columns = [str(column) for column in frame.columns]
    missing = [channel for channel in CHANNELS if channel not in columns]
    if missing:
        unknown = [c for c in columns if c not in (*CHANNELS, STAY, HOUR)]
        close = difflib.get_close_matches(missing[0], unknown, n=1, cutoff=0.5)
        hint = f" Is it {close[0]!r}?" if close else ""
        what = "A channel is" if len(missing) == 1 else f"{len(missing)} channels are"
        raise InputError(
            f"{what} missing: {missing[0]!r}{', …' if len(missing) > 1 else ''}."
            f"{hint} A row is an hour; its columns are the channels of the cohort store, and "
            f"{STAY!r} and {HOUR!r} where there are several stays."
        )
    if not len(frame):
        raise InputError("The table has no rows.")


def _numbers(frame: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """(R, columns) float64."""
    try:
        values: np.ndarray = frame[columns].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError("A cell of a channel holds something that is no number.") from error
    wrong = np.flatnonzero(~np.isfinite(values).all(0))
    if len(wrong):
        raise InputError(
            f"The column {columns[wrong[0]]!r} has empty or infinite cells. The channels are "
            "imputed, as in the cohort store: the last value measured, else the normal one."
        )
    return values


def _check_hours(hours: np.ndarray, expected: np.ndarray, stays: pd.Index) -> None:
    if (hours != expected).any():
        raise InputError(
            f"The hours of a stay must be 0, 1, 2, … without gaps; in one of {len(stays)} stays "
            f"there is {hours[hours != expected][0]:g} where {expected[hours != expected][0]} "
            "should be."
        )


def signature(task: Task) -> ModelSignature:
    """What MLflow shows of a request and an answer.

    All columns are optional here, though the channels are not: where MLflow misses one, it buries
    that under the whole table and schema. `check_columns` says it in a sentence.
    """
    anything = AnyType()  # type: ignore[no-untyped-call]
    request: list[ColSpec | TensorSpec] = [
        ColSpec(anything, STAY, required=False),
        *(ColSpec("double", name, required=False) for name in (HOUR, *CHANNELS)),
    ]
    answer: list[ColSpec | TensorSpec] = [
        ColSpec(anything, STAY, required=False),
        ColSpec("long", "hours"),
        *(ColSpec("float", name) for name in output_names(task)),
    ]
    return ModelSignature(inputs=Schema(request), outputs=Schema(answer))


def example(num_hours: int = 2) -> pd.DataFrame:
    """A request: hours without any measurement, hence the normal values."""
    row: dict[str, float] = {}
    for variable in variables():
        if not variable.categories:
            row[variable.name] = float(variable.normal)
        for category in variable.categories:
            value = category if variable.is_text else float(category)
            row[f"{variable.name}->{category}"] = float(value == variable.normal)
    row |= dict.fromkeys(OBSERVED_CHANNELS, 0.0)
    hours = {STAY: "a", HOUR: np.arange(float(num_hours))}
    return pd.DataFrame({**hours, **row})[[STAY, HOUR, *CHANNELS]]


class HourlyModel(PythonModel):
    """What MLflow loads and serves."""

    def load_context(self, context: Any) -> None:
        """Load the two files."""
        self.predictor = Predictor.load(Path(context.artifacts["settings"]).parent)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer a request; what is wrong with it becomes HTTP 400."""
        try:
            return self.predictor.table(model_input)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def save_mlflow_model(
    run: RunFolder, folder: Path, *, store: Path | None = None, model_id: str | None = None
) -> None:
    """Write the best model of a run folder as an MLflow model, in a new folder.

    store:    as in `export`
    model_id: what MLflow calls the model, if it knows it
    """
    with tempfile.TemporaryDirectory() as name, quiet():
        temporary = Path(name)
        export(run, temporary, store=store)
        content = read_settings(temporary / SETTINGS)
        images = content["task"] == IMAGE_TASK
        code = serving_images.CODE if images else _CODE
        (temporary / "model.py").write_text(code, "utf-8")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(temporary / "model.py"),
            artifacts={"weights": str(temporary / WEIGHTS), "settings": str(temporary / SETTINGS)},
            input_example=serving_images.example(content) if images else example(),
            mlflow_model=Model(model_id=model_id),
            signature=(
                serving_images.signature(content)
                if images
                else signature(tasks.get(run.trial.task))
            ),
            pip_requirements=[
                f"{package}=={version(package)}" for package in ("mimic-reg", "mlflow", "torch")
            ],
            metadata={"trial_id": run.id, "data_fingerprint": run.fingerprint},
        )


def predict(
    model: str,
    store: Path,
    out: Path,
    *,
    uri: str | None = None,
    device: str | None = None,
    threads: int = DEFAULT_THREADS,
    progress: Progress | None = None,
) -> int:
    """Predict every sample of the model's task in a store, into a Parquet file; how many.

    Its columns: row of the task's sample table, icustay_id, period_length, split, predictions. It
    holds ids of patients' stays, so only its owner may read it. Of images: row, image, split and
    the probability of every class.

    model: a run folder, a folder with an exported model, or MLflow's models:/… or runs:/…
    uri:   where MLflow's models are registered
    threads: of torch

    Raises:
        InputError: there is no such model; the store does not hold its task.
    """
    with torch_threads(threads):
        return _predict(model, store, out, uri, device, progress or Silent())


def _predict(
    model: str, store: Path, out: Path, uri: str | None, device: str | None, progress: Progress
) -> int:
    opened = Store.open(store)
    device = str(find_device(device))
    with _located(model, store, uri) as folder:
        _check_out(out, opened)
        if read_settings(folder / SETTINGS)["task"] == IMAGE_TASK:
            of_images = ImagePredictor.load(folder / SETTINGS, folder / WEIGHTS, device)
            table = predict_store(of_images, opened, progress)
            _write_private(table, out)
            return table.height
        predictor = Predictor.load(folder, device)
    name = f"tasks/{predictor.task.name}.parquet"
    columns = ["row", "icustay_id", "period_length", "split"]
    table = opened.read(name).with_row_index("row").select(columns).sort("icustay_id", "row")
    progress.stage("predict", table.height, "samples")
    parts = []
    stays = table["icustay_id"].unique(maintain_order=True)
    for start in range(0, len(stays), _STAYS_AT_ONCE):
        ids = stays[start : start + _STAYS_AT_ONCE]
        part = table.filter(pl.col("icustay_id").is_between(ids[0], ids[-1]))
        parts.append(_predict_part(predictor, opened, part))
        progress.advance(part.height)
    _write_private(pl.concat(parts).sort("row") if parts else table, out)
    return table.height


def _predict_part(predictor: Predictor, store: Store, samples: pl.DataFrame) -> pl.DataFrame:
    """The samples of some stays, sorted by stay, with their predictions."""
    ids = samples["icustay_id"].unique(maintain_order=True)
    inside = pl.col("icustay_id").is_between(ids[0], ids[-1])
    hourly = store.scan("hourly.parquet").filter(inside).sort("icustay_id", "hour").collect()
    stays, first, count = np.unique(
        hourly["icustay_id"].to_numpy(), return_index=True, return_counts=True
    )
    length = np.floor(samples["period_length"].to_numpy() + 1 - EPSILON).astype(np.int32)
    stay = np.minimum(np.searchsorted(stays, samples["icustay_id"].to_numpy()), len(stays) - 1)
    if not ((stays[stay] == samples["icustay_id"].to_numpy()) & (length <= count[stay])).all():
        raise InputError(
            f"Samples of {predictor.task.name} ask for hours that hourly.parquet does not have. "
            "Extract the store again."
        )
    values = hourly.select(CHANNELS).to_numpy()
    predictions = predictor.run(values, first[stay], length)
    named = {name: predictions[:, c] for c, name in enumerate(predictor.outputs)}
    return samples.with_columns(**named)


def _check_out(out: Path, store: Store) -> None:
    """Before hours of work: where the predictions go must not be a folder, or a store's."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the Parquet file to write.")
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: predictions are written as Parquet; name it ….parquet.")
    if store.folder.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies in the store, whose files are hashed. Choose another place.")


def _write_private(frame: pl.DataFrame, path: Path) -> None:
    """Atomically; for the owner only, since it is about patients."""
    make_folder(path.parent)
    with disk_errors(path.parent), atomic.writing(path, mode=atomic.PRIVATE) as file:
        frame.write_parquet(file)


@contextmanager
def _located(model: str, store: Path, uri: str | None) -> Iterator[Path]:
    """The folder with the two files of a model, wherever it is."""
    place = Path(model)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        if ":/" in model:
            yield _download(model, temporary, uri)
        elif (place / TRIAL).is_file():
            export(read_run(place), temporary, store=_if_it_is(store, place))
            yield temporary
        else:
            yield _find(place)


def _if_it_is(store: Path, run: Path) -> Path | None:
    """The store, if the run was trained on it; else the one that the run names."""
    fingerprint = read_trial(run)["store"]["fingerprint"]
    return store if Store.open(store).manifest["fingerprint"] == fingerprint else None


def _download(model: str, folder: Path, uri: str | None) -> Path:
    if uri is None:
        raise InputError(f"Where is {model} registered? Name its work folder with --work.")
    check_usable(uri)
    try:
        with default(uri):
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=model, dst_path=str(folder), tracking_uri=uri
            )
    except MlflowException as error:
        raise InputError(f"MLflow has no model {model}: {error.message}") from error
    return _find(Path(path))


def _find(folder: Path) -> Path:
    for place in (folder, folder / "artifacts"):
        if (place / SETTINGS).is_file():
            atomic.refuse_links(place)
            return place
    raise InputError(
        f"{folder} holds no model: neither a run ({TRIAL}) nor an exported one ({SETTINGS}). "
        "Name a run folder, or a registered model as models:/NAME@champion."
    )
