"""Corrupted labels: a share of the training samples gets labels drawn at random.

For studies of memorisation: Zhang et al., "Understanding deep learning requires rethinking
generalization", ICLR 2017. A drawn label may be the right one: of ten classes, a tenth of the drawn
labels is. What is drawn depends on nothing but the stream, and shares are nested: what 30 % corrupt
is corrupt in the same way at 60 %.
"""

from dataclasses import replace

import torch

from mimic_reg.errors import InputError
from mimic_reg.samples.base import Samples


def corrupt(
    samples: Samples, share: float, num_outputs: int, generator: torch.Generator
) -> Samples:
    """Return the samples with the labels of a share of them drawn anew, all values equally likely.

    num_outputs: classes, where they exclude each other
    generator:   on the CPU

    Raises:
        InputError: the labels are numbers, which have no such values.
    """
    if samples.target == "regression":
        raise InputError(
            "training.corrupted_labels is for classes, and the labels of a regression are numbers. "
            "Leave it out."
        )
    label = samples.label
    order = torch.randperm(len(samples), generator=generator)
    values = num_outputs if samples.target == "multiclass" else 2
    drawn = torch.randint(values, label.shape, generator=generator).to(label)
    chosen = order[: round(share * len(samples))].to(label.device)
    corrupted = label.clone()
    corrupted[chosen] = drawn[chosen]
    return replace(samples, label=corrupted)
