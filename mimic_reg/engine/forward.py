"""The forward pass of a training step: its precision, and whether it is compiled.

Shapes: B samples, C outputs.
"""

import warnings

import torch
from torch import Tensor

from mimic_reg.errors import InputError
from mimic_reg.methods.base import Predict
from mimic_reg.models.base import Model
from mimic_reg.settings import Training


def training_forward(model: Model, training: Training, device: torch.device) -> Predict:
    """Return (x, lengths) -> float32 logits (B, C) as `training` says; by default the model."""
    forward = _compiled(model) if training.compile else model
    if training.precision == "float32":
        return forward

    def in_bfloat16(x: Tensor, lengths: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits = forward(x, lengths)
        return logits.float()

    return in_bfloat16


def _compiled(model: Model) -> Predict:
    """Return the compiled model, for batches of any number of samples and hours."""
    # torch advises less exact products, which would change results
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")
    compiled = torch.compile(model, dynamic=True)

    def forward(x: Tensor, lengths: Tensor) -> Tensor:
        try:
            logits: Tensor = compiled(x, lengths)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise InputError(
                "training.compile: torch cannot compile this model here "
                f"({str(error).strip().partition(chr(10))[0]}). Install a C++ compiler (g++), or "
                "set training.compile=false."
            ) from error
        return logits

    return forward
