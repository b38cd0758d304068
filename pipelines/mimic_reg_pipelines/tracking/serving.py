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
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec
from mlflow.types.schema import AnyType

from mimic_reg.errors import InputError
from mimic_reg.runs import read_trial
from mimic_reg.serving import SETTINGS, WEIGHTS, ServedModel, events, export, predicting
from mimic_reg.serving.current import MISSING
from mimic_reg.serving.events import answer_events, is_events
from mimic_reg.serving.tables import HOUR, STAY, answer, example
from mimic_reg_pipelines.tracking.client import answering, check_usable, default, quiet, said

_CODE = '''"""The model of mimic-reg that this folder holds; needs the package of the same name."""

from mlflow.models import set_model

from mimic_reg_pipelines.tracking.serving import MLflowModel

set_model(MLflowModel())
'''


class MLflowModel(PythonModel):
    """The model that MLflow loads and serves: hours, raw events or images in; predictions out."""

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
            if is_events(self.model.spec, model_input):
                return answer_events(self.model, model_input)
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
    of_events = events.COLUMNS[1:] if events.takes_events(model.spec) else ()
    stay = _any(STAY)
    request: list[ColSpec | TensorSpec] = [
        stay,
        *(ColSpec("double", n, required=False) for n in (HOUR, *model.spec.channel_names)),
        *(_any(name) for name in of_events),
    ]
    answers = [stay, ColSpec("long", "hours"), *outputs]
    if of_events:
        answers += [_any(MISSING), _any(events.IGNORED)]
    return ModelSignature(inputs=Schema(request), outputs=Schema(answers))


def _any(name: str) -> ColSpec:
    return ColSpec(AnyType(), name, required=False)  # type: ignore[no-untyped-call]


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


@contextmanager
def located(model: str, uri: str | None) -> Iterator[Path]:
    """Yield the folder of a run or an exported model; one of MLflow is downloaded.

    model: a run folder, a folder with an exported model, or MLflow's models:/… or runs:/…
    uri:   where MLflow's models are registered

    Raises:
        InputError: MLflow has no such model.
    """
    if ":/" not in model:
        yield Path(model)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield _download(model, Path(temporary), uri)


def _download(model: str, folder: Path, uri: str | None) -> Path:
    if uri is None:
        raise InputError(f"Where is {model} registered? Name its work folder with --work.")
    check_usable(uri)
    with answering(uri), default(uri):
        try:
            path = mlflow.artifacts.download_artifacts(
                artifact_uri=model, dst_path=str(folder), tracking_uri=uri
            )
        except MlflowException as error:
            raise InputError(f"MLflow has no model {model}: {said(error)}") from error
    if not any(p.is_file() for p in Path(path).rglob("*") if p.name != "MLmodel"):
        raise InputError(
            f"MLflow knows {model}, but its files are not in the artifact folder. Bring the folder "
            "back from a backup, or name a run folder."
        )
    return predicting.find_exported(Path(path))
