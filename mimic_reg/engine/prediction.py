"""Predict all samples of a split with a model as its method evaluates it.

Shapes: B samples at once, N samples, C outputs.
"""

import numpy as np
import torch
from torch import Tensor

from mimic_reg.methods.base import Predict
from mimic_reg.models.base import prediction
from mimic_reg.samples import Samples

EVALUATION_NUMBERS = 1 << 21  # input numbers of an evaluation batch


def predict(
    predictor: Predict, samples: Samples, unit_numbers: int = 0, *, by_stay: bool = False
) -> np.ndarray:
    """Return predictions (N, C) of all samples: probabilities, or values of a regression.

    predictor:    a model as its method evaluates it, in evaluation mode
    unit_numbers: input numbers of a unit as the model sees it, if it resizes units
    by_stay:      one pass over a stay gives the predictions of all its samples; of a causal model
    """
    return predict_with_spread(predictor, samples, unit_numbers, by_stay=by_stay)[0]


@torch.no_grad()
def predict_with_spread(
    predictor: Predict, samples: Samples, unit_numbers: int = 0, *, by_stay: bool = False
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return predictions as `predict`, and their standard deviation (N, C), or None.

    A predictor that knows the deviation has a function `with_spread`, which returns logits and
    deviations (B, C).
    """
    with_spread = getattr(predictor, "with_spread", None)
    indices, outputs = [], []
    spreads: list[Tensor] = []
    for index in samples.evaluation_batches(EVALUATION_NUMBERS, unit_numbers, by_stay=by_stay):
        batch = samples.gather(index, by_stay=by_stay)
        indices.append(index)
        if with_spread is None:
            logits = predictor(batch.x, batch.lengths)
        else:
            logits, spread = with_spread(batch.x, batch.lengths)
            spreads.append(spread)
        outputs.append(prediction(samples.target, logits))
    order = torch.cat(indices)
    assert len(order) == len(samples), "every sample is predicted once"
    return _in_order(outputs, order), _in_order(spreads, order) if spreads else None


def _in_order(parts: list[Tensor], order: Tensor) -> np.ndarray:
    """Return the rows (N, C) of all batches, in the order of the samples."""
    result = torch.empty(len(order), parts[0].shape[1])
    result[order] = torch.cat(parts).float().cpu()
    return result.numpy()
