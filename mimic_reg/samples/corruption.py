"""Corrupted labels: draw the labels of a share of the training samples at random.

For studies of memorisation: Zhang et al., "Understanding deep learning requires rethinking
generalization", ICLR 2017. A drawn label may be the right one: with ten classes, 10 % of the drawn
labels are. The labels depend only on the stream, and shares are nested: samples corrupted at 30 %
are corrupted in the same way at 60 %.
"""

from dataclasses import replace

import torch

from mimic_reg.errors import InputError
from mimic_reg.samples.base import Samples


def corrupt(
    samples: Samples, share: float, num_outputs: int, generator: torch.Generator
) -> Samples:
    """Return the samples with a share of the labels drawn anew, all values equally likely.

    num_outputs: number of classes, if they exclude each other
    generator:   on the CPU

    Raises:
        InputError: the target is a regression.
    """
    if samples.target == "regression":
        raise InputError(
            "training.corrupted_labels needs classes, and this task is a regression. Leave it out."
        )
    label = samples.label
    order = torch.randperm(len(samples), generator=generator)
    values = num_outputs if samples.target == "multiclass" else 2
    drawn = torch.randint(values, label.shape, generator=generator).to(label)
    chosen = order[: round(share * len(samples))].to(label.device)
    corrupted = label.clone()
    corrupted[chosen] = drawn[chosen]
    return replace(samples, label=corrupted)
