"""Models in MLflow as "model from code": two files and three lines that load them; no pickle."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import polars as pl
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from mimic_reg.engine.devices import find_device
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress, Silent
from mimic_reg.runs import TRIAL, read_trial
from mimic_reg.serving import SETTINGS, WEIGHTS, ServedModel, export, predict_store
from mimic_reg.serving.tables import HOUR, STAY, answer, example
from mimic_reg.store import Store, disk_errors, make_folder
from mimic_reg.store.atomic import PRIVATE, refuse_links, writing
from mimic_reg.threads import DEFAULT_THREADS, torch_threads
from pipelines.tracking.client import check_usable, default, quiet

_CODE = '''"""The model of mimic-reg that this folder holds; needs the package of the same name."""

from mlflow.models import set_model

from pipelines.tracking.serving import MLflowModel

set_model(MLflowModel())
'''


class MLflowModel(PythonModel):
    """The model that MLflow loads and serves: a table of hours, or images, in; predictions out."""

    def load_context(self, context: Any) -> None:
        """Load the two files."""
        self.model = ServedModel.load(Path(context.artifacts["settings"]).parent)

    def predict(
        self,
        context: Any,
        model_input: pd.DataFrame,  # of images an array; MLflow warns of every other hint
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Answer a request; an error in it becomes HTTP 400."""
        try:
            if self.model.spec.is_hourly:
                return answer(self.model, model_input)
            probabilities = self.model.predict_pixels(np.asarray(model_input))
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(probabilities, columns=list(self.model.outputs))


def signature(model: ServedModel) -> ModelSignature:
    """Return the columns of a request and of an answer, for MLflow.

    All columns are optional here, although the channels are required: MLflow's message about a
    missing one quotes the whole table and schema, and the model's own is a sentence.
    """
    outputs: list[ColSpec | TensorSpec] = [ColSpec("float", name) for name in model.outputs]
    if not model.spec.is_hourly:
        pixels = TensorSpec(np.dtype(np.uint8), (-1, *model.spec.shape))
        return ModelSignature(inputs=Schema([pixels]), outputs=Schema(outputs))
    stay = ColSpec(AnyType(), STAY, required=False)  # type: ignore[no-untyped-call]
    request: list[ColSpec | TensorSpec] = [
        stay,
        *(ColSpec("double", n, required=False) for n in (HOUR, *model.spec.channel_names)),
    ]
    return ModelSignature(
        inputs=Schema(request), outputs=Schema([stay, ColSpec("long", "hours"), *outputs])
    )


def input_example(model: ServedModel) -> Any:
    """Return a request: hours at the training set's means, or two black images."""
    if model.spec.is_hourly:
        return example(model.spec, model.constants[0])
    return np.zeros((2, *model.spec.shape), np.uint8)


def save_mlflow_model(
    run: Path, folder: Path, *, store: Path | None = None, model_id: str | None = None
) -> None:
    """Write the best model of a run folder as an MLflow model, in a new folder.

    store:    as in `mimic_reg.serving.export`
    model_id: MLflow's id of the model, if it has one
    """
    described = read_trial(run)
    with tempfile.TemporaryDirectory() as name, quiet():
        temporary = Path(name)
        export(run, temporary, store=store)
        model = ServedModel.load(temporary)
        (temporary / "model.py").write_text(_CODE, "utf-8")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(temporary / "model.py"),
            artifacts={"weights": str(temporary / WEIGHTS), "settings": str(temporary / SETTINGS)},
            input_example=input_example(model),
            mlflow_model=Model(model_id=model_id),
            signature=signature(model),
            pip_requirements=[
                f"{package}=={version(package)}" for package in ("mimic-reg", "mlflow", "torch")
            ],
            metadata={
                "trial_id": described["id"],
                "data_fingerprint": described["store"]["fingerprint"],
            },
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
    """Predict each sample of the model's task in a store; return their number.

    The predictions go to a Parquet file with the row of the task's sample table, the sample's
    keys, split, and the predictions. It has ids of patients' stays: only its owner may read it.

    model: a run folder, a folder with an exported model, or MLflow's models:/… or runs:/…
    uri:   where MLflow's models are registered
    threads: number of torch's threads

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
        table = predict_store(ServedModel.load(folder, device), opened, progress or Silent())
    _write_private(table, out)
    return table.height


def _check_out(out: Path, store: Store) -> None:
    """Refuse, before hours of work, a folder or a file in the store as target."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; --out names the Parquet file to write.")
    if out.suffix != ".parquet":
        raise InputError(f"--out {out}: predictions are written as Parquet; name it ….parquet.")
    if store.folder.resolve() in out.resolve().parents:
        raise InputError(f"{out} lies in the store, whose files are hashed. Choose another place.")


def _write_private(frame: pl.DataFrame, path: Path) -> None:
    """Write a table of patients, which only the owner may read."""
    make_folder(path.parent)
    with disk_errors(path.parent), writing(path, mode=PRIVATE) as file:
        frame.write_parquet(file)


@contextmanager
def _located(model: str, store: Path, uri: str | None) -> Iterator[Path]:
    """Provide the folder with the two files of a model, wherever the model is."""
    place = Path(model)
    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        if ":/" in model:
            yield _download(model, temporary, uri)
        elif (place / TRIAL).is_file():
            export(place, temporary, store=_if_it_is(store, place))
            yield temporary
        else:
            yield _find(place)


def _if_it_is(store: Path, run: Path) -> Path | None:
    """Return the store if the run was trained on it; None: take the one that the run names."""
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
    if not any(p.is_file() for p in Path(path).rglob("*") if p.name != "MLmodel"):
        raise InputError(
            f"MLflow knows {model}, but its files are not in the artifact folder. Bring the folder "
            "back from a backup, or name a run folder."
        )
    return _find(Path(path))


def _find(folder: Path) -> Path:
    for place in (folder, folder / "artifacts"):
        if (place / SETTINGS).is_file():
            refuse_links(place)
            return place
    raise InputError(
        f"{folder} holds no model: neither a run ({TRIAL}) nor an exported one ({SETTINGS}). "
        "Name a run folder, or a registered model as models:/NAME@champion."
    )
