"""The forward pass of a training step, in its precision.

Shapes: B samples, C outputs.
"""

import torch
from torch import Tensor

from mimic_reg.methods.base import Predict
from mimic_reg.models.base import Model
from mimic_reg.settings import Training


def training_forward(model: Model, training: Training, device: torch.device) -> Predict:
    """Return (x, lengths) -> float32 logits (B, C) as `training` says; by default the model."""
    if training.precision == "float32":
        return model

    def in_bfloat16(x: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits: Tensor = model(x, lengths)
        return logits.float()

    return in_bfloat16
