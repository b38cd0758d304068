"""Serving a model for images: pixels in, as many probabilities as classes out; no pickle.

What a request holds: images (N, C, H, W) of the size that the model was trained on, pixels from
0 to 255. The answer has a row an image, a column a class.

Shapes: N images, C channels, H, W pixels, K classes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import polars as pl
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, Schema, TensorSpec

from mimic_reg import tasks
from mimic_reg.engine.checkpoint import load_state
from mimic_reg.engine.trainer import EVALUATION_NUMBERS, prediction
from mimic_reg.errors import InputError
from mimic_reg.progress import Progress
from mimic_reg.regularisers.base import Predict
from mimic_reg.samples.images import constants, read_pixels
from mimic_reg.storage import Store, reading
from mimic_reg.tasks.base import Task
from pipelines.restore import read_settings, restore

CODE = '''"""The model of mimic-reg that this folder holds; needs the package of the same name."""

from mlflow.models import set_model

from pipelines.serving_images import ImageModel

set_model(ImageModel())
'''


def describe_images(store: Store, task: Task, normalizer: str) -> dict[str, Any]:
    """What `model.yaml` says of the images: classes, shape, what pixels become."""
    table = store.read(f"tasks/{task.name}.parquet").filter(pl.col("split") == "train")
    training = read_pixels(store)[torch.from_numpy(table["image"].to_numpy().astype(np.int64))]
    scale, shift = constants(training, normalizer)
    return {
        "dataset": store.manifest["dataset"],
        "classes": list(store.manifest["classes"]),
        "shape": list(store.manifest["shape"]),
        "normalizer": {"scale": scale.flatten().tolist(), "shift": shift.flatten().tolist()},
    }


@dataclass(frozen=True)
class ImagePredictor:
    """A model that predicts from pixels.

    outputs: names of the classes
    shape:   (C, H, W) of the images that it takes
    scale, shift: (C, 1, 1) what pixels are multiplied by, then what is added
    unit_numbers: input numbers of an image as the network sees it
    """

    task: Task
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    scale: torch.Tensor
    shift: torch.Tensor
    predict: Predict
    device: torch.device
    unit_numbers: int

    @classmethod
    def load(cls, settings: Path, weights: Path, device: str = "cpu") -> Self:
        """The model that `serving.export` wrote as these two files."""
        content, where = read_settings(settings), torch.device(device)
        with reading(settings, "a model's description"):
            task, classes = tasks.get(content["task"]), tuple(content["classes"])
            predict = restore(content, task, load_state(weights), where, num_outputs=len(classes))
            scale, shift = (
                torch.tensor(content["normalizer"][name], device=where).view(-1, 1, 1)
                for name in ("scale", "shift")
            )
            shape = tuple(content["shape"])
            ((_, options),) = content["trial"]["model"].items()
            seen = max(math.prod(shape), 3 * options.get("size", 0) ** 2)
            return cls(task, classes, shape, scale, shift, predict, where, seen)

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """(N, K) probabilities of images (N, C, H, W).

        Raises:
            InputError: images of another shape, or pixels outside of 0 to 255.
        """
        if pixels.ndim != 4 or pixels.shape[1:] != self.shape:
            raise InputError(
                f"Images must have the shape {(-1, *self.shape)}, these have {pixels.shape}."
            )
        if len(pixels) and not (pixels.min() >= 0 and pixels.max() <= 255):
            raise InputError("Pixels must be numbers from 0 to 255.")
        result = np.empty((len(pixels), len(self.outputs)), np.float32)
        at_once = max(1, EVALUATION_NUMBERS // self.unit_numbers)
        with torch.no_grad():
            for start in range(0, len(pixels), at_once):
                part = torch.from_numpy(np.ascontiguousarray(pixels[start : start + at_once]))
                x = part.to(self.device).float()
                x = torch.addcmul(self.shift, x, self.scale)
                logits = self.predict(x, torch.ones(len(x), dtype=torch.int64))
                result[start : start + at_once] = prediction("multiclass", logits).cpu().numpy()
        return result


def predict_store(predictor: ImagePredictor, store: Store, progress: Progress) -> pl.DataFrame:
    """Every image of a store with its probabilities.

    Raises:
        InputError: the store holds no images, or images of another shape.
    """
    if "dataset" not in store.manifest:
        raise InputError(f"{store.folder} holds no images, but the model is for images.")
    table = store.read(f"tasks/{predictor.task.name}.parquet").with_row_index("row")
    pixels = read_pixels(store)[torch.from_numpy(table["image"].to_numpy().astype(np.int64))]
    progress.stage("predict", table.height, "images")
    probabilities = predictor.run(pixels.numpy())
    progress.advance(table.height)
    named = {name: probabilities[:, c] for c, name in enumerate(predictor.outputs)}
    return table.select("row", "image", "split").with_columns(**named)


class ImageModel(PythonModel):
    """What MLflow loads and serves."""

    def load_context(self, context: Any) -> None:
        """Load the two files."""
        files = context.artifacts
        self.predictor = ImagePredictor.load(Path(files["settings"]), Path(files["weights"]))

    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer a request; what is wrong with it becomes HTTP 400."""
        try:
            probabilities = self.predictor.run(np.asarray(model_input))
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(probabilities, columns=list(self.predictor.outputs))


def signature(content: dict[str, Any]) -> ModelSignature:
    """What MLflow shows of a request and an answer; content: of `model.yaml`."""
    images = TensorSpec(np.dtype(np.uint8), (-1, *content["shape"]))
    answer: list[ColSpec | TensorSpec] = [ColSpec("float", name) for name in content["classes"]]
    return ModelSignature(inputs=Schema([images]), outputs=Schema(answer))


def example(content: dict[str, Any]) -> np.ndarray:
    """A request: two black images."""
    return np.zeros((2, *content["shape"]), np.uint8)
