"""Random streams, each with a seed hashed from what it is for.

A stream never depends on how much another one was used, so a method that draws masks cannot change
the batches, and two trials that differ only in their method start from the same weights.
"""

import hashlib
import json
from dataclasses import dataclass

import torch


def derive(*purpose: str | int | float) -> int:
    """A seed of 63 bits that depends on every part of `purpose`, and on nothing else."""
    text = json.dumps(purpose)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*purpose: str | int | float, device: torch.device | None = None) -> torch.Generator:
    """A new generator seeded by `derive`."""
    return torch.Generator(device or torch.device("cpu")).manual_seed(derive(*purpose))


@dataclass(frozen=True)
class Streams:
    """The three streams of one fit; all methods of a (seed, task) share the first two.

    seed:    the pair's seed, from the configuration
    purpose: what the streams belong to: the task
    """

    seed: int
    purpose: str

    def init(self) -> torch.Generator:
        """The model's initial weights; on the CPU, so that every device starts from the same."""
        return generator("init", self.purpose, self.seed)

    def batches(self, epoch: int) -> torch.Generator:
        """The order of one epoch's samples: a stream an epoch, so resuming needs no state."""
        return generator("batches", self.purpose, self.seed, epoch)

    def stochastic(self, device: torch.device) -> torch.Generator:
        """Everything a method draws: masks, noise, projections."""
        return generator("stochastic", self.purpose, self.seed, device=device)
