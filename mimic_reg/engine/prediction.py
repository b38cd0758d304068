"""Predictions of all samples of a split, by a model as its method evaluates it.

Shapes: B samples at once, N samples, C outputs.
"""

import numpy as np
import torch
from torch import Tensor

from mimic_reg.methods.base import Predict
from mimic_reg.samples import Samples
from mimic_reg.store.spec import Target

EVALUATION_NUMBERS = 1 << 21  # input numbers of an evaluation batch


@torch.no_grad()
def predict(predictor: Predict, samples: Samples, unit_numbers: int = 0) -> np.ndarray:
    """Return predictions (N, C) of all samples: probabilities, or values of a regression.

    predictor:    a model as its method evaluates it, in evaluation mode
    unit_numbers: input numbers of a unit as the model sees it, where it enlarges them
    """
    indices, outputs = [], []
    for index in samples.evaluation_batches(EVALUATION_NUMBERS, unit_numbers):
        batch = samples.gather(index)
        indices.append(index)
        outputs.append(prediction(samples.target, predictor(batch.x, batch.lengths)))
    order = torch.cat(indices)
    assert len(order) == len(samples), "every sample is predicted once"
    result = torch.empty(len(samples), outputs[0].shape[1])
    result[order] = torch.cat(outputs).float().cpu()
    return result.numpy()


def prediction(target: Target, logits: Tensor) -> Tensor:
    """(B, C) probabilities, or the predicted values of a regression."""
    if target == "multiclass":
        return logits.softmax(1)
    return logits if target == "regression" else logits.sigmoid()
