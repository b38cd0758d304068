"""A model and a method as a user writes them, in a module of their own."""

from dataclasses import replace

import torch
from torch import nn

import mimic_reg as mr


class Mean(nn.Module):
    """The mean over hours, then one hidden layer."""

    def __init__(self, n_features: int, n_outputs: int, hidden: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, n_outputs)
        )

    def forward(self, x, lengths):
        """Return logits (B, C)."""
        return self.layers(x.sum(1) / lengths[:, None])


class Noise(mr.Regulariser):
    """Gaussian noise on all features."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = std

    def batch(self, batch, fit):
        """Add it."""
        noise = torch.randn(batch.x.shape, generator=fit.generator)
        return replace(batch, x=batch.x + self.std * noise)
