"""Random streams, each with a seed hashed from its purpose.

No stream depends on how much another was used. So a method that draws masks cannot change the
batches, and two trials that differ only in their method start from the same weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing torch takes a second; most of the program needs only `derive`
    import torch


def derive(*purpose: str | int | float) -> int:
    """Return a seed of 63 bits that depends on every part of `purpose`, and on nothing else."""
    text = json.dumps(purpose)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*purpose: str | int | float, device: torch.device | None = None) -> torch.Generator:
    """Return a new generator seeded by `derive`."""
    import torch

    return torch.Generator(device or torch.device("cpu")).manual_seed(derive(*purpose))


def restore(stream: torch.Generator, state: torch.Tensor, *purpose: str | int | float) -> None:
    """Set a generator to a state that was saved.

    Only the kind of device that wrote a state can read it. On another kind the generator gets a
    new seed, derived from `purpose`; what it draws differs between such devices anyway.
    """
    if state.shape == stream.get_state().shape:
        stream.set_state(state)
    else:
        stream.manual_seed(derive(*purpose))


@dataclass(frozen=True)
class Streams:
    """The three streams of one fit; all methods of a (seed, task) share the first two.

    seed:    the trial's seed
    purpose: the task
    """

    seed: int
    purpose: str

    def init(self) -> torch.Generator:
        """Return the stream of initial weights; on the CPU, so that all devices start equally."""
        return generator("init", self.purpose, self.seed)

    def batches(self, epoch: int) -> torch.Generator:
        """Return the stream of an epoch's order of samples; so resuming needs no state."""
        return generator("batches", self.purpose, self.seed, epoch)

    def stochastic(self, device: torch.device) -> torch.Generator:
        """Return the stream of everything a method draws: masks, noise, projections."""
        return generator("stochastic", self.purpose, self.seed, device=device)
